"""Clients that send slowly, never read or only connect are cut off; others are served meanwhile."""

import contextlib
import json
import socket
import threading
import time

import pytest

from tests.serving.http.load_client import encoded
from tests.serving.http.server_process import post, serving

SECONDS = 1.0  # --send-seconds


def ended(connection, timeout=20):
    """Return whether a server ends a connection, whatever it sends before."""
    connection.settimeout(timeout)
    with contextlib.suppress(ConnectionError):
        while connection.recv(65_536):
            pass
    return True


def one_byte_at_a_time(connection, content):
    """Send a byte every tenth of the time until the server ends the connection; return its time."""
    began = time.monotonic()
    with contextlib.suppress(OSError):
        for byte in content:
            connection.sendall(bytes([byte]))
            time.sleep(SECONDS / 10)
    return time.monotonic() - began


class Served(threading.Thread):
    """A good client beside others: a connection that is kept, and a new one each time."""

    def __init__(self, server, body):
        super().__init__()
        self.server, self.body, self.stopped = server, body, threading.Event()
        self.kept, self.new = [], []

    def run(self):
        with contextlib.closing(self.server.connection()) as connection:
            while not self.stopped.is_set():
                self.kept.append(post(connection, "/v1/rank", self.body)[0])
                self.new.append(self.server.post("/v1/rank", self.body)[0])
                time.sleep(0.05)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join(60)


@pytest.fixture(scope="module")
def server(searching_bundle):
    words = ["--workers", "2", "--send-seconds", str(SECONDS), "--connections", "100"]
    with serving(searching_bundle, *words) as running:
        yield running


def test_clients_that_send_a_byte_at_a_time(server, bodies):
    request, lasted = encoded(json.dumps(bodies[0]).encode()), []

    def client(start):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(request[:start])
            lasted.append(one_byte_at_a_time(connection, request[start:]))

    head = request.index(b"\r\n\r\n") + 4
    threads = [threading.Thread(target=client, args=(s,)) for s in [0, 30, head, head + 5] * 8]
    with Served(server, bodies[1]) as served:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert max(lasted) < 15 * SECONDS < len(request) * SECONDS / 10
    assert set(served.kept) == set(served.new) == {200}
    assert len(served.kept) >= 5


def test_clients_that_never_read(server, bodies):
    """Answers are larger than the buffers of the system: they repeat the unknown keys."""
    keys = [f"{n:0160}" for n in range(45_000)]
    request = encoded(json.dumps({**bodies[0], "candidates": keys}).encode())
    with contextlib.ExitStack() as opened, Served(server, bodies[1]) as served:
        clients = [opened.enter_context(socket.socket()) for _ in range(6)]
        for connection in clients:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(request)
        time.sleep(5 * SECONDS)
        for connection in clients:
            connection.settimeout(20)
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while part := connection.recv(65_536):
                    received += len(part)
            assert received < len(request), "cut off before its end"
    assert set(served.kept) == set(served.new) == {200}


@pytest.mark.slow
def test_three_hundred_connections(searching_bundle, bodies):
    with serving(searching_bundle, "--send-seconds", "8") as server:
        check_three_hundred(server, bodies)


def check_three_hundred(server, bodies):
    with contextlib.closing(server.connection()) as kept, contextlib.ExitStack() as opened:
        assert post(kept, "/v1/rank", bodies[1])[0] == 200
        idle = [
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            for _ in range(300)
        ]
        statuses = [post(kept, "/v1/rank", bodies[1])[0] for _ in range(5)]
        assert statuses == [200] * 5
        status, headers, problem = server.post("/v1/rank", bodies[1])
        assert (status, headers["retry-after"]) == (503, "1")
        assert problem["detail"] == "the server has too many connections"
        assert all(map(ended, idle))
        assert server.post("/v1/rank", bodies[1])[0] == 200, "as soon as they are cut off"
