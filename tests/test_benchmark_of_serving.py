"""The benchmark of serving: the client corrects for delays, and the tables are written."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("modules")


@pytest.fixture
def modules(monkeypatch):
    """Makes the modules of the benchmarks importable."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


@contextlib.asynccontextmanager
async def server(answer):
    """An address; ``answer(number)`` returns the status of a request and the seconds it takes."""
    numbers, lock, handlers = iter(range(10**6)), asyncio.Lock(), []

    async def serve(reader, writer):
        handlers.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(re.search(r"Content-Length: (\d+)", head)[1]))
                async with lock:  # one request at a time, as a single worker
                    status, seconds = answer(next(numbers))
                    await asyncio.sleep(seconds)
                if status is None:
                    break
                writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 2\r\n\r\n".encode())
                await asyncio.sleep(0)  # head and body in two pieces
                writer.write(b"{}")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as started:
        yield f"http://127.0.0.1:{started.sockets[0].getsockname()[1]}/v1/rank"
        await asyncio.gather(*handlers)


def opened(answer, **options):
    from load_generator import open_loop

    async def run():
        async with server(answer) as url:
            return await open_loop(url, [b"{}", b'{"a":1}'], **options)

    return asyncio.run(run())


def test_requests_behind_a_slow_answer_count_their_delay():
    load = opened(
        lambda number: (200, 0.5 if number == 20 else 0), rate=100, seconds=1, warm_up=0.1
    )
    assert (load.planned, load.answered, load.total) == (100, 100, 110)
    assert load.held
    # One of 100 requests was slow. Without correction, p99 would be that of the others.
    assert 450 < load.p99 < 1500
    # Half of them were planned while it was under way; the last of these waited for nothing.
    assert load.p50 < 450


def test_refusals_and_broken_connections_are_counted():
    def answer(number):
        return (503 if number % 4 == 1 else None if number % 4 == 3 else 200), 0

    load = opened(answer, rate=200, seconds=0.5, warm_up=0)
    assert (load.planned, load.answered, load.refused, load.failed) == (100, 50, 25, 25)
    assert not load.held


def test_a_backlog_is_not_held_even_if_it_is_answered_later():
    load = opened(lambda _: (200, 0.02), rate=150, seconds=0.7, warm_up=0)
    assert load.answered == load.planned == 105
    assert load.tail > 1
    assert not load.held


def test_a_closed_loop_measures_what_one_request_at_a_time_takes():
    from load_generator import closed_loop

    async def run():
        async with server(lambda _: (200, 0.02)) as url:
            return await closed_loop(url, [b"{}"], at_once=2, seconds=0.6, warm_up=0.1)

    load = asyncio.run(run())
    assert load.held
    assert load.p50 >= 20  # of two under way, one waits for the other
    assert 10 < load.throughput <= 51


def test_random_arrivals_have_the_rate():
    from loads import planned_times

    times = planned_times(200, 20, "poisson")
    assert times == sorted(times)
    assert times[0] > 0
    assert times[-1] < 20
    assert abs(len(times) - 4000) < 4 * 4000**0.5
    gaps = [b - a for a, b in pairwise(times)]
    assert max(gaps) > 5 / 200, "they are not evenly spaced"


def test_the_search_finds_the_highest_rate_that_is_held():
    from loads import Load
    from servers import Measured, saturation

    tried = []

    class Fake:
        def at_once(self, number, seconds):
            return self._measured(120, 100, held=True)

        def at_rate(self, rate, seconds, arrivals="even"):
            tried.append(rate)
            return self._measured(rate, 30 if rate <= 90 else 80, held=rate < 110)

        def _measured(self, rate, p99, *, held):
            planned = 100
            load = Load(planned, planned - (not held), 0, 0, rate, 3, p99, 0, 0, 1, planned, 0)
            return Measured(load, 5)

    rate, p99 = saturation(Fake(), 3, 1, 6)
    assert 88 < rate <= 90
    assert p99 == 30
    assert len(tried) == 6
    slow, _ = saturation(Fake(), 30, 1, 6)
    assert slow > 100, "p99 may be four times the median of a request alone"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_processor_time_is_that_of_all_processes():
    from servers import processor_seconds

    busy = "end = __import__('time').monotonic() + 30\nwhile True: pass"
    words = [
        sys.executable,
        "-S",
        "-c",
        f"import subprocess, sys\nsubprocess.run({[sys.executable, '-S', '-c', busy]!r})",
    ]
    with subprocess.Popen(words, start_new_session=True) as parent:
        try:
            end = time.monotonic() + 60
            while processor_seconds(parent.pid) < 0.3 and time.monotonic() < end:
                time.sleep(0.05)
            assert processor_seconds(parent.pid) >= 0.3
        finally:
            os.killpg(parent.pid, 9)


@pytest.mark.slow
def test_a_quick_run_writes_its_part_of_the_page(tmp_path):
    page = tmp_path / "performance.md"
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    page.write_text(text, encoding="utf-8")
    words = ["--quick", "--cache", str(tmp_path / "cache"), "--page", str(page)]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "serving.py"), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
        timeout=580,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 110
    written = page.read_text(encoding="utf-8")
    begin, end = text.index("<!-- served"), text.index("<!-- end of what is served")
    assert written.startswith(text[:begin])
    assert written.endswith(text[end:])
    part = written[begin:]
    for row in ("cascaderank serve", "FastAPI, all by all", "FastAPI, in stages", "ECMM, pruned"):
        assert f"| {row} | " in part
    assert "equal to ours of 20" in part
    assert "FastAPI, all by all: 20" in part
    assert "FastAPI, in stages: 20" in part
