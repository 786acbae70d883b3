"""A client on asyncio that loads a server: at fixed times, or as fast as it answers."""

import asyncio
import contextlib
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Reply:
    status: int
    """Status of the answer; 0 without one."""
    seconds: float
    """Time of the answer since the request was due."""
    headers: bytes
    content: bytes


def encoded(body, path="/v1/rank"):
    """Return a request as it is sent."""
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def exchange(streams, request, due):
    """Send a request on a connection, and return its reply."""
    reader, writer = streams
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    head = head.lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    content = await reader.readexactly(length)
    return Reply(int(head.split(b" ", 2)[1]), time.perf_counter() - due, head, content)


class _Connections:
    """Connections that are kept, and opened when none is free."""

    def __init__(self, port):
        self.port, self.free = port, []

    async def sent(self, request, due):
        streams = self.free.pop() if self.free else None
        try:
            streams = streams or await asyncio.open_connection("127.0.0.1", self.port)
            reply = await exchange(streams, request, due)
        except (OSError, asyncio.IncompleteReadError):
            if streams is not None:
                streams[1].close()
            return Reply(0, time.perf_counter() - due, b"", b"")
        if b"connection: close" in reply.headers:
            streams[1].close()
        else:
            self.free.append(streams)
        return reply

    def close(self):
        for _, writer in self.free:
            writer.close()


def at_rate(port, requests, *, per_second, seconds):
    """Send requests at fixed times, whether or not earlier ones are answered.

    Times are measured from the time at which a request was due, so that a server that stops for a
    while delays all requests that were due meanwhile (no coordinated omission).
    """

    async def run():
        connections, tasks = _Connections(port), []
        start = time.perf_counter() + 0.05
        for number in range(int(per_second * seconds)):
            due = start + number / per_second
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            request = requests[number % len(requests)]
            tasks.append(asyncio.create_task(connections.sent(request, due)))
        replies = await asyncio.gather(*tasks)
        connections.close()
        return replies

    return asyncio.run(run())


def one_after_another(port, requests, *, clients, seconds=None, of_reply=None):
    """Send requests on some connections, each as soon as the one before it is answered.

    Args:
        requests: iterator of requests.
        seconds: time after which no further one is sent; default: until there are none.
        of_reply: receives each reply; replies are not kept.
    """
    end = np.inf if seconds is None else time.perf_counter() + seconds
    counts = Counter()

    async def client(requests):
        connections = _Connections(port)
        for request in requests:
            now = time.perf_counter()
            if now > end:
                break
            reply = await connections.sent(request, now)
            counts[reply.status] += 1
            if of_reply is not None:
                of_reply(reply)
            if reply.status == 0:
                break
        connections.close()

    async def run():
        shared = iter(requests)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*(client(shared) for _ in range(clients)))

    asyncio.run(run())
    return counts


def percentile(replies, q):
    """Return a percentile of the time of replies in milliseconds."""
    return float(np.percentile([reply.seconds for reply in replies], q)) * 1000
