"""Servers in processes of their own, and what they do under load."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from loads import Arrivals, Load

HERE = Path(__file__).parent
CLIENT = HERE / "load_generator.py"
_TICKS = os.sysconf("SC_CLK_TCK")
_START_SECONDS = 180
_ENDED_SECONDS = 40


@dataclass(frozen=True)
class Measured:
    """One load on one server."""

    load: Load
    processor: float
    """Milliseconds of processor time of all processes of the server per answer."""


@dataclass(frozen=True)
class Server:
    """A server that answers at an address."""

    process: subprocess.Popen[bytes]
    url: str
    bodies: Path
    """File with the body of one request a line."""

    def at_rate(self, rate: float, seconds: float, arrivals: Arrivals = "even") -> Measured:
        """Send requests at planned times."""
        return self._measured(
            "--rate", str(rate), "--arrivals", arrivals, "--seconds", str(seconds)
        )

    def at_once(self, number: int, seconds: float) -> Measured:
        """Keep a number of requests under way."""
        return self._measured("--at-once", str(number), "--seconds", str(seconds))

    def _measured(self, *words: str) -> Measured:
        before = processor_seconds(self.process.pid)
        done = subprocess.run(
            [sys.executable, "-S", CLIENT, f"{self.url}/v1/rank", self.bodies, *words],
            capture_output=True,
            check=True,
        )
        load, used = Load(**json.loads(done.stdout)), processor_seconds(self.process.pid) - before
        return Measured(load, 1000 * used / load.total if load.total else math.nan)

    @property
    def memory(self) -> float:
        """MiB of the processes of the server that no other process shares, or half of two."""
        paths = [Path(f"/proc/{number}/smaps_rollup") for number in _tree(self.process.pid)]
        lines = [line for path in paths for line in path.read_text().splitlines()]
        return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def answer(self, body: bytes) -> dict[str, object]:
        """Return the answer to one request."""
        request = urllib.request.Request(f"{self.url}/v1/rank", body)
        request.add_header("content-type", "application/json")
        with urllib.request.urlopen(request) as reply:
            content = json.loads(reply.read())
        assert isinstance(content, dict)
        return content


def _tree(number: int) -> list[int]:
    """Return the processes that a process has started, and itself."""
    children = [
        int(child)
        for path in Path(f"/proc/{number}/task").glob("*/children")
        for child in path.read_text().split()
    ]
    return [number, *(one for child in children for one in _tree(child))]


def processor_seconds(number: int) -> float:
    """Return the processor time of a process, and of all that it has started."""
    total = 0
    for each in _tree(number):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICKS


@contextmanager
def serving(command: Callable[[int], Sequence[str]], bodies: Path, ready: str) -> Iterator[Server]:
    """Start a server, wait until it answers, and stop it at the end.

    Args:
        command: words of the command for a port.
        bodies: file with the body of one request a line.
        ready: path that is answered by 200 as soon as the server is ready.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, *command(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL if not os.environ.get("BENCH_STDERR") else None,
        env={**os.environ, "OMP_NUM_THREADS": "1"},  # each server works at one request per core
        start_new_session=True,
    )
    try:
        server = Server(process, f"http://127.0.0.1:{port}", bodies)
        _wait(process, f"{server.url}{ready}")
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_ENDED_SECONDS)
        with suppress(ProcessLookupError):  # what it has started, and left
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    end = monotonic() + _START_SECONDS
    while monotonic() < end:
        if process.poll() is not None:
            sys.exit(f"the server ended with {process.returncode}; set BENCH_STDERR=1 to see why")
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except OSError:
            sleep(0.1)
    sys.exit(f"{url}: no answer in {_START_SECONDS} s")


def saturation(server: Server, alone: float, seconds: float, steps: int) -> tuple[float, float]:
    """Return the highest rate that is held, and the p99 at it, by a short search.

    A rate is held if all requests are answered and p99 is within :func:`bound`.

    Args:
        server: a server.
        alone: median milliseconds of a request that has the server for itself.
        seconds: length of each step.
        steps: number of rates to try.
    """
    busy = server.at_once(8, seconds / 2).load.throughput  # what it answers when never idle
    low, high, found = 0.4 * busy, 1.04 * busy, (math.nan, math.nan)
    for _ in range(steps):
        rate = (low + high) / 2
        load = server.at_rate(rate, seconds).load
        if load.held and load.p99 <= bound(alone):
            low, found = rate, (rate, load.p99)
        else:
            high = rate
    return found


def bound(alone: float) -> float:
    """Return the largest p99 at which a rate counts as held.

    >>> bound(3.0), bound(200.0)
    (50.0, 800.0)
    """
    return max(50.0, 4 * alone)
