"""Load on a server: requests at a planned rate, or a fixed number at the same time.

At a rate, the time of every request is planned before the first is sent, and latency counts from
the planned time, as in wrk2: requests that a slow answer delays count their delay (no coordinated
omission). Connections are kept alive. Only the standard library is imported, and every request is
ready before the start, so that the client takes little of the machine that it shares.

    python benchmarks/load_generator.py http://127.0.0.1:8000/v1/rank bodies.jsonl --rate 50
"""

import argparse
import asyncio
import json
import selectors
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import asdict
from itertools import count
from pathlib import Path
from time import process_time
from urllib.parse import urlsplit

from loads import Arrivals, Load, percentile, planned_times

CONNECTIONS = 128  # more than a server works at and lets wait, so that it is the one to refuse
_GRACE = 10.0  # seconds that the last requests have for their answers


class Connection(asyncio.Protocol):
    """One connection, kept alive, with at most one request at a time."""

    def __init__(self, client: "Client") -> None:
        self._client, self._received, self._length = client, bytearray(), -1
        self._status, self.number = 0, -1
        self.transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport
        self._client.free(self)

    def send(self, number: int, content: bytes) -> None:
        self.number = number
        assert self.transport is not None
        self.transport.write(content)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._length < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._received[:end]).lower()
            self._status = int(head[9:12])
            self._length = end + 4 + int(head.partition(b"content-length:")[2].split()[0])
        if len(self._received) >= self._length:
            self._received.clear()
            self._length, number, self.number = -1, self.number, -1
            self._client.free(self)
            self._client.finished(number, self._status)

    def connection_lost(self, _: Exception | None) -> None:
        self._client.lost(self, self.number)


class Client:
    """Sends requests on connections, and records when they were planned, sent and answered."""

    def __init__(self, url: str, bodies: list[bytes], connections: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        head = f"POST {parts.path or '/'} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: "
        self._requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
        self._most, self._open = connections, 0
        self._connections: set[Connection] = set()
        self._free: list[Connection] = []
        self._waiting: deque[int] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self.planned: dict[int, float] = {}
        self.sent: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self.status: dict[int, int] = {}
        """Status of each request that has ended; 0 without an answer."""
        self.on_end: Callable[[], None] = lambda: None
        """Called when a request has ended."""

    def request(self, number: int, planned: float) -> None:
        """Send a request now, or as soon as a connection is free."""
        self.planned[number] = planned
        if self._free:
            self._send(self._free.pop(), number)
            return
        self._waiting.append(number)
        if self._open < self._most:
            self._open += 1
            task = self._loop.create_task(self._connect())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def free(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        else:
            self._free.append(connection)

    def finished(self, number: int, status: int) -> None:
        self.answered[number], self.status[number] = self._loop.time(), status
        self.on_end()

    def lost(self, connection: Connection, number: int) -> None:
        self._open -= 1
        self._connections.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if number >= 0:
            self.status[number] = 0
            self.on_end()

    @property
    def complete(self) -> bool:
        return len(self.status) == len(self.planned)

    async def close(self) -> None:
        """Close all connections, those of requests without an answer, too."""
        await asyncio.gather(*self._opening)
        for connection in [*self._connections]:
            if connection.transport is not None:
                connection.transport.abort()
        await asyncio.sleep(0)

    def _send(self, connection: Connection, number: int) -> None:
        self.sent[number] = self._loop.time()
        connection.send(number, self._requests[number % len(self._requests)])

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: Connection(self), self._host, self._port)
        except OSError:
            self._open -= 1
            if self._waiting:
                self.status[self._waiting.popleft()] = 0
                self.on_end()

    def load(self, start: float, counted: float, last: float, processor: float) -> Load:
        """Summarise the requests that were planned from a time on; no more were after `last`."""
        end = max(last, max(self.answered.values(), default=last))
        numbers = [n for n, time in self.planned.items() if time >= counted]
        statuses = Counter(self.status.get(n, 0) for n in numbers)
        good = [n for n in numbers if self.status.get(n) == 200]
        latencies = [1000 * (self.answered[n] - self.planned[n]) for n in good]
        late = [1000 * (self.sent[n] - self.planned[n]) for n in numbers if n in self.sent]
        return Load(
            planned=len(numbers),
            answered=statuses[200],
            refused=statuses[503],
            failed=len(numbers) - statuses[200] - statuses[503],
            throughput=len(good) / (end - counted),
            p50=percentile(latencies, 0.5),
            p99=percentile(latencies, 0.99),
            late=percentile(late, 0.99),
            processor=processor / (end - start),
            seconds=end - counted,
            total=Counter(self.status.values())[200],
            tail=end - last,
        )


async def open_loop(
    url: str,
    bodies: list[bytes],
    *,
    rate: float,
    seconds: float,
    arrivals: Arrivals = "even",
    warm_up: float = 1.0,
    connections: int = CONNECTIONS,
) -> Load:
    """Send requests at planned times; those of the warm-up are not counted."""
    client, loop = Client(url, bodies, connections), asyncio.get_running_loop()
    times = planned_times(rate, warm_up + seconds, arrivals)
    processor, start = process_time(), loop.time() + 0.05
    sent = asyncio.Event()

    def send(number: int) -> None:
        while number < len(times) and start + times[number] <= loop.time():
            client.request(number, start + times[number])
            number += 1
        if number < len(times):
            loop.call_at(start + times[number], send, number)
        else:
            sent.set()

    loop.call_at(start, send, 0)
    await sent.wait()
    last = start + warm_up + seconds
    while loop.time() < last or (not client.complete and loop.time() < last + _GRACE):
        await asyncio.sleep(0.01)
    await client.close()
    return client.load(start, start + warm_up, last, process_time() - processor)


async def closed_loop(
    url: str, bodies: list[bytes], *, at_once: int, seconds: float, warm_up: float = 0.5
) -> Load:
    """Keep a number of requests under way: each answer is followed by the next request."""
    client, loop = Client(url, bodies, at_once), asyncio.get_running_loop()
    processor, start, numbers = process_time(), loop.time(), count()
    last = start + warm_up + seconds

    def send() -> None:
        if loop.time() < last:
            client.request(next(numbers), loop.time())

    client.on_end = send
    for _ in range(at_once):
        send()
    while loop.time() < last or (not client.complete and loop.time() < last + _GRACE):
        await asyncio.sleep(0.01)
    await client.close()
    return client.load(start, start + warm_up, last, process_time() - processor)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url")
    parser.add_argument("bodies", type=Path, help="file with the body of one request a line")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--rate", type=float, help="requests per second, at planned times")
    kind.add_argument("--at-once", type=int, help="requests under way at the same time")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--arrivals", choices=["even", "poisson"], default="even")
    arguments = parser.parse_args()
    bodies = arguments.bodies.read_bytes().splitlines()
    # Unlike that of epoll, the time-out of select has no grain of a millisecond.
    with asyncio.Runner(
        loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())
    ) as runner:
        url, seconds = arguments.url, arguments.seconds
        if arguments.rate:
            rate, arrivals = arguments.rate, arguments.arrivals
            work = open_loop(url, bodies, rate=rate, seconds=seconds, arrivals=arrivals)
        else:
            work = closed_loop(url, bodies, at_once=arguments.at_once, seconds=seconds)
        print(json.dumps(asdict(runner.run(work))))


if __name__ == "__main__":
    main()
