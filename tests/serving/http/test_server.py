"""A server in a process of its own: stop, reload, overload, slow clients, and verification."""

import contextlib
import shutil
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import RunError
from cascaderank.serving import Ranker, verify_bundle
from cascaderank.serving.http.remote import RemoteRanker
from tests.command_line import cascaderank
from tests.serving.http.server_process import post, serving
from tests.serving.http.test_app import ADMIN, TOKEN


@pytest.fixture(scope="module")
def current(searching_bundle, tmp_path_factory):
    """Folder of a bundle that tests may replace."""
    folder = tmp_path_factory.mktemp("served") / "current"
    shutil.copytree(searching_bundle, folder)
    return folder


@pytest.fixture(scope="module")
def server(current):
    words = ["--workers", "1", "--queue", "2", "--send-seconds", "0.5", "--connections", "40"]
    with serving(current, *words, CASCADERANK_ADMIN_TOKEN=ADMIN) as running:
        yield running


def test_a_bundle_is_verified_through_its_server(server, current, other_bundle):
    done = cascaderank("verify", current, "--url", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Ranker, rows, HTTP" in done.stdout
    other = cascaderank("verify", other_bundle, "--url", server.url)
    assert other.returncode == 2
    assert "serves another bundle" in other.stderr


def test_a_connection_that_idled_is_opened_anew(searching_bundle):
    with serving(searching_bundle, "--send-seconds", "0.3") as server:
        remote = RemoteRanker(server.url)
        for _ in range(3):
            remote.check_same(searching_bundle)
            time.sleep(0.5)
            remote._connection.sock.shutdown(socket.SHUT_RDWR)  # as after 15 s
        remote.check_same(searching_bundle)
        server.stop()
        with pytest.raises(RunError, match=r"does not answer: .*; start the server"):
            remote.check_same(searching_bundle)


def test_an_answer_that_differs_is_found(server, other_bundle):
    remote = RemoteRanker(server.url)
    result = verify_bundle(other_bundle, ways=[("HTTP", remote.answer)])
    assert result.difference.startswith("HTTP: request ")
    assert "expected the score" in result.difference
    remote.close()


def test_overload_is_answered_by_503_and_never_a_backlog(server, bodies):
    replies, start = [], threading.Barrier(24)

    def client(_):
        connection = server.connection()
        start.wait()
        for _ in range(5):
            began = time.monotonic()
            status, headers, _ = post(connection, "/v1/rank", bodies[1])
            replies.append((status, headers["retry-after"], time.monotonic() - began))
        connection.close()

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(client, range(24)))
    counts = Counter(status for status, *_ in replies)
    assert set(counts) == {200, 503}, counts
    assert all(int(after) >= 1 for status, after, _ in replies if status == 503)
    assert server.post("/v1/rank", bodies[1])[0] == 200


def test_further_connections_are_answered_by_503(server):
    with contextlib.ExitStack() as opened:
        for _ in range(40):
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20))
        status, headers, problem = server.post("/v1/rank", {})
        assert (status, headers["retry-after"], headers["connection"]) == (503, "1", "close")
        assert problem["detail"] == "the server has too many connections"


def received(connection):
    """Return what a server sends until it ends the connection."""
    content = b""
    while part := connection.recv(65_536):
        content += part
    return content


@pytest.mark.parametrize(
    ("start", "answer"),
    [
        (b"", b""),
        (b"POST /v1/rank HTT", b""),
        (b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n", b""),
        (
            b"POST /v1/rank HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 1000\r\n\r\n{",
            b"HTTP/1.1 408 ",
        ),
        (
            b"POST /v1/rank HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n1\r\n{\r\n",
            b"HTTP/1.1 408 ",
        ),
    ],
)
def test_a_slow_client_is_cut_off(server, start, answer):
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(start)
        try:
            content = received(connection)
        except ConnectionResetError:
            content = b""
    assert content[: len(answer)] == answer
    assert bool(content) == bool(answer)
    assert 0.3 < time.monotonic() - began < 15


def test_large_headers_and_other_protocols_are_refused(server):
    for start in (
        b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"a" * 40_000,
        b"\x16\x03\x01\x02\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
            connection.sendall(start)
            with contextlib.suppress(ConnectionResetError):
                assert received(connection).startswith(b"HTTP/1.1 400 ")


def test_no_request_fails_while_bundles_are_replaced(
    server, current, bodies, other_bundle, searching_bundle
):
    expected = {
        name: [Ranker.load(folder).rank(b["request"], b["candidates"]).ids for b in bodies]
        for name, folder in (("searching", searching_bundle), ("challenger", other_bundle))
    }
    stop, found, wrong = threading.Event(), Counter(), []

    def client():
        connection, number = server.connection(), 0
        while not stop.is_set():
            number = (number + 1) % len(bodies)
            status, _, answer = post(connection, "/v1/rank", bodies[number])
            if status != 200:
                wrong.append((status, answer))
                continue
            found[answer["bundle"]] += 1
            if [item["id"] for item in answer["items"]] != expected[answer["bundle"]][number]:
                wrong.append(answer)
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    for source in (other_bundle, searching_bundle, other_bundle):
        replacement = current.with_name("next")
        shutil.copytree(source, replacement)
        current.rename(current.with_name("last"))
        replacement.rename(current)
        shutil.rmtree(current.with_name("last"))
        status, _, reply = server.post("/v1/reload", {}, authorization=f"Bearer {ADMIN}")
        assert status == 200, reply
        time.sleep(0.2)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert min(found["searching"], found["challenger"]) > 0


def test_a_stop_finishes_what_has_begun_and_logs_it(searching_bundle, bodies, tmp_path):
    log = tmp_path / "log"
    words = ["--workers", "1", "--queue", "64", "--log", str(log), "--exploration", "0.1"]
    with serving(searching_bundle, *words) as server:
        _, _, first = server.post("/v1/rank", bodies[2])
        click = {"request_id": first["request_id"], "item": first["items"][0]["id"], "value": 1}
        assert server.post("/v1/feedback", click)[0] == 202
        connections = [server.connection() for _ in range(12)]
        for connection in connections:
            connection.connect()
        with ThreadPoolExecutor(12) as pool:
            replies = [pool.submit(post, c, "/v1/rank", bodies[1]) for c in connections]
            time.sleep(0.02)
            code, text = server.stop()
            # A request that the server had not received when it stopped has no answer.
            ends = [r.exception() or r.result()[0] for r in replies]
        for connection in connections:
            connection.close()
        statuses = [end for end in ends if isinstance(end, int)]
        assert set(statuses) == {200}
        assert all(isinstance(end, int | ConnectionError | OSError) for end in ends)
    assert code == 0
    assert text == "stopped; all requests that had begun are finished\n"
    logged = pl.concat(RequestLog.open(log).frames(["request_id", "feedback"]))
    assert logged.height == 1 + len(statuses)
    assert logged.filter(request_id=first["request_id"])["feedback"].to_list()[0][0] == 1


def test_options_that_cannot_be_served_are_refused(searching_bundle, tmp_path, monkeypatch):
    monkeypatch.delenv("CASCADERANK_TOKEN", raising=False)
    short = tmp_path / "short"
    short.write_text("abc\n")
    long = tmp_path / "long"
    long.write_text(f"{TOKEN}\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, message in [
            (["--host", "0.0.0.0"], "a token is needed"),
            (["--host", "no such host"], "a token is needed"),
            (["--host", "no such host", "--token-file", long], "cannot be served"),
            (["--port", str(port)], "Address already in use"),
            (["--token-file", tmp_path / "none"], "the token cannot be read"),
            (["--token-file", short], "at least 16 printable ASCII characters"),
            (["--ab", "b=0.1"], "give its folder with --bundle b=FOLDER"),
            (["--bundle", f"b={searching_bundle}"], "bundle 'b' is not used"),
            (["--bundle", "b"], "--bundle takes NAME=FOLDER"),
            (["--bundle", f"main={searching_bundle}"], "used twice"),
            (["--bundle", f"b={searching_bundle}", "--ab", "b=x"], "expected a share"),
            (["--exploration", "0.1"], "set --log DIR"),
            (["--deadline-ms", "nan"], "Invalid value for '--deadline-ms'"),
        ]:
            done = cascaderank("serve", searching_bundle, *words)
            assert done.returncode == 2, (words, done.stderr)
            assert message in " ".join(done.stderr.split())
            assert len(done.stderr.splitlines()) == 1
    done = cascaderank("serve", tmp_path / "nothing")
    assert done.returncode == 2
    assert "expected a bundle" in done.stderr


@pytest.mark.parametrize("module", ["fastapi", "uvicorn", "prometheus_client"])
def test_a_missing_extra_is_named(searching_bundle, monkeypatch, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    done = cascaderank("serve", searching_bundle)
    assert done.returncode == 2
    assert f"{module} is not installed; run: pip install 'cascaderank[serve]'" in done.stderr


def test_another_host_is_served_with_a_token(searching_bundle, bodies):
    with serving(searching_bundle, "--host", "0.0.0.0", CASCADERANK_TOKEN=TOKEN) as server:
        assert server.post("/v1/rank", bodies[0])[0] == 401
        given = {"authorization": f"Bearer {TOKEN}", "host": "shop.example"}
        assert server.post("/v1/rank", bodies[0], **given)[0] == 200
