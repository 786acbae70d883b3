"""A server whose prices are in a real Redis, which goes and comes back."""

import contextlib
import signal
import sys
import time

import pytest

from tests.command_line import cascaderank
from tests.serving.http.server_process import serving
from tests.serving.test_redis_source import Server, running

__all__ = ["running"]  # a fixture


@pytest.mark.slow
def test_answers_while_redis_is_gone_and_back(running: Server, searching_bundle, bodies):
    if running.process is None:
        running.start()
    words, variables = ["--redis-feature", "price"], {"CASCADERANK_REDIS": running.url}
    with serving(searching_bundle, *words, **variables) as server:

        def asked():
            began = time.perf_counter()
            status, _, answer = server.post("/v1/rank", bodies[3])
            assert status == 200
            return answer["stale"], time.perf_counter() - began

        def until(stale):
            """Ask until answers have this state; return the number of answers with the other."""
            for number in range(400):
                if asked()[0] == stale:
                    return number
                time.sleep(0.02)
            raise AssertionError("never")

        until([])
        usual = sorted(asked()[1] for _ in range(21))[10]
        for gone, back in (
            (running.stop, running.start),  # refuses connections
            (lambda: running.process.send_signal(signal.SIGSTOP),  # accepts, and never answers
             lambda: running.process.send_signal(signal.SIGCONT)),
        ):  # fmt: skip
            gone()
            assert until(["price"]) <= 1
            waits = []
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                stale, seconds = asked()
                assert stale == ["price"]
                waits.append(seconds)
            assert max(waits) < 2
            assert sorted(waits)[len(waits) // 2] < 3 * usual + 0.02
            back()
            until([])
        with contextlib.closing(server.connection()) as connection:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        assert 'cascaderank_stale_features_total{feature="price"}' in text


def test_options_of_redis_belong_together(searching_bundle, monkeypatch):
    monkeypatch.delenv("CASCADERANK_REDIS", raising=False)
    for words, message in [
        (["--redis", "redis://localhost"], "--redis needs --redis-feature NAME"),
        (["--redis-feature", "price"], "--redis-feature needs --redis URL"),
        (["--redis", "http://x", "--redis-feature", "price"], "an address such as redis://"),
        (
            ["--redis", "redis://x", "--redis-feature", "prize"],
            "provides prize, which no stage reads",
        ),
    ]:
        done = cascaderank("serve", searching_bundle, "--port", 0, *words)
        assert done.returncode == 2, done.stderr
        assert message in " ".join(done.stderr.split())
        assert len(done.stderr.splitlines()) == 1


def test_the_extra_is_named(searching_bundle, monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    words = ["--redis", "redis://localhost", "--redis-feature", "price"]
    done = cascaderank("serve", searching_bundle, *words)
    assert done.returncode == 2
    assert "pip install 'cascaderank[redis]'" in done.stderr
