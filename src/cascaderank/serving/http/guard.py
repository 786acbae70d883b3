"""What every request passes before it reaches the application: access, limits, and headers."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final, final

from cascaderank.serving.http.access import Access
from cascaderank.serving.http.http_limits import HttpLimits
from cascaderank.serving.http.problems import MEDIA_TYPE, ProblemError, invalid

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN: Final = ("/health/live", "/health/ready")
"""Paths that need no token; the page needs none, either."""
PAGE: Final = "/page/"
RANK: Final = "/v1/rank"
RELOAD: Final = "/v1/reload"

_HEADERS: Final = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


@final
class Guard:
    """An ASGI application around another.

    Host and token are checked before a body is read. A body must be JSON without compression,
    within the limits of bytes and time. All answers have strict headers for browsers.

    Args:
        application: the application.
        access: tokens.
        limits: limits.
        rooms: by path, a function that raises a problem if there is no room for a request.
    """

    def __init__(
        self,
        application: Application,
        access: Access,
        limits: HttpLimits,
        rooms: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        self._application, self._access, self._limits = application, access, limits
        self._rooms = dict(rooms or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return  # there is nothing to open or close, and no other protocol
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        try:
            headers = _headers(scope)
            self._check(scope["path"], headers)
            if scope["path"] in self._rooms:
                self._rooms[scope["path"]]()
            if scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
                receive = self._limited(_length(headers, self._limits.body_bytes), receive)
            await self._application(scope, receive, guarded)
        except ProblemError as problem:
            if not started:
                await send_problem(problem, guarded)

    def _check(self, path: str, headers: dict[str, str]) -> None:
        self._access.check_host(headers.get("host", ""))
        authorization = headers.get("authorization", "")
        if path == RELOAD:
            self._access.check_admin(authorization)
        elif path not in OPEN and path != "/" and not path.startswith(PAGE):
            self._access.check_token(authorization)
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity":
            raise invalid(
                "Content-Encoding",
                expected="no compression",
                found=repr(encoding[:100]),
                name="unsupported-media-type",
            )

    def _limited(self, length: int | None, receive: Receive) -> Receive:
        """Return a function that receives a body within the limits."""
        most, seconds = self._limits.body_bytes, self._limits.send_seconds
        end = asyncio.get_running_loop().time() + seconds
        got, complete = 0, False

        async def limited() -> Message:
            nonlocal got, complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError:
                raise ProblemError(
                    "too-slow",
                    f"the body must arrive within {seconds:g} s; {got:,} bytes came",
                    field="body",
                    expected=f"{'all' if length is None else f'{length:,}'} bytes in {seconds:g} s",
                    found=f"{got:,} bytes",
                    headers={"connection": "close"},
                ) from None
            got += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if got > most:
                raise _too_large(most, f"more than {most:,}")
            return message

        return limited


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}


def _length(headers: dict[str, str], most: int) -> int | None:
    text = headers.get("content-length")
    if text is None or not text.isdecimal():  # then the server counts, or has refused it
        return None
    if len(text) > 18 or int(text) > most:
        raise _too_large(most, f"{text[:40]}")
    return int(text)


def _too_large(most: int, found: str) -> ProblemError:
    return ProblemError(
        "too-large",
        f"body: expected at most {most:,} bytes, found {found}; send fewer candidates",
        field="body",
        expected=f"at most {most:,} bytes",
        found=f"{found} bytes",
        headers={"connection": "close"},
    )


async def send_problem(problem: ProblemError, send: Send) -> None:
    """Send a problem document as the answer."""
    content = problem.content()
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(content)),
        **problem.headers,
    }
    pairs = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
