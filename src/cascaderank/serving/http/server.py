"""A server: uvicorn with limits of time, and a stop that finishes what has begun."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable, Generator
from types import FrameType
from typing import Any, Final, final

import torch
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from cascaderank.errors import ConfigError
from cascaderank.serving.http.access import Access
from cascaderank.serving.http.app import build_app
from cascaderank.serving.http.guard import Receive, Scope, Send, send_problem
from cascaderank.serving.http.http_limits import HttpLimits
from cascaderank.serving.http.problems import ProblemError
from cascaderank.serving.http.service import Service

_BACKLOG: Final = 128  # connections that the system accepts before the server does
_STOP_SECONDS: Final = 30
_SWITCH_SECONDS: Final = 0.0005


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket of an address; no client can connect before :func:`serve`.

    Args:
        host: name or address.
        port: 0 for any that is free.

    Raises:
        ConfigError: if the address does not exist, or is in use.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with contextlib.ExitStack() as opened:
            bound = opened.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
            opened.pop_all()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{host}:{port}: cannot be served: {reason}; choose another --host or --port"
        ) from None
    return bound


def serve(
    service: Service,
    bound: socket.socket,
    *,
    access: Access | None = None,
    started: Callable[[], None] | None = None,
) -> None:
    """Serve until a signal ends the process, SIGTERM or SIGINT; then finish what has begun.

    Args:
        service: loaded bundles.
        bound: see :func:`bound_socket`.
        access: tokens; default: none.
        started: called when the server answers.
    """
    torch.set_num_threads(1)
    # A thread that ranks holds the interpreter for this long at most while another one waits.
    sys.setswitchinterval(_SWITCH_SECONDS)
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
    config = uvicorn.Config(
        build_app(service, access),
        http=limited_protocol(service.limits),
        ws="none",
        loop="asyncio",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=_BACKLOG,
        h11_max_incomplete_event_size=service.limits.header_bytes,
        timeout_keep_alive=int(service.limits.idle_seconds),
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    server = _Server(config, service, started)
    try:
        server.run(sockets=[bound])
    finally:
        service.close()


@final
class _Server(uvicorn.Server):
    """Ends without raising the signal again: a stop is no error."""

    def __init__(
        self, config: uvicorn.Config, service: Service, started: Callable[[], None] | None
    ) -> None:
        super().__init__(config)
        self._service, self._started = service, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._started is not None:
            self._started()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        numbers = (signal.SIGINT, signal.SIGTERM)
        before: dict[signal.Signals, Any] = {}
        with contextlib.suppress(ValueError):  # not in the main thread
            before = {number: signal.signal(number, self.handle_exit) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._service.stopping = True
        self.should_exit = True


def limited_protocol(limits: HttpLimits) -> type[H11Protocol]:
    """Return a protocol that cuts off clients that send headers, or receive answers, too slowly.

    Connections beyond their largest number are answered with 503, and closed.

    Args:
        limits: number of connections, and times in seconds.
    """

    @final
    class LimitedProtocol(H11Protocol):
        """HTTP/1.1 with limits of time."""

        _sending: asyncio.TimerHandle | None = None
        _receiving: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self.app = _too_many_connections
            self._sending = self.loop.call_later(limits.send_seconds, transport.abort)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_sending()  # a body has a limit of its own
            elif self._sending is None:
                self._sending = self.loop.call_later(limits.send_seconds, self.transport.abort)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._receiving = self.loop.call_later(limits.send_seconds, self.transport.abort)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._stop_receiving()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_sending()
            self._stop_receiving()
            super().connection_lost(exc)

        def _stop_sending(self) -> None:
            if self._sending is not None:
                self._sending.cancel()
                self._sending = None

        def _stop_receiving(self) -> None:
            if self._receiving is not None:
                self._receiving.cancel()
                self._receiving = None

    return LimitedProtocol


async def _too_many_connections(_: Scope, __: Receive, send: Send) -> None:
    problem = ProblemError(
        "overloaded",
        "the server has too many connections",
        headers={"retry-after": "1", "connection": "close"},
    )
    await send_problem(problem, send)


def url_of(bound: socket.socket) -> str:
    """Return the address of a socket as a URL."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
