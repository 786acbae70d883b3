"""Make the next batches while this one is used."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(things: Iterator[T], ahead: int) -> Iterator[T]:
    """Go through things that a thread of its own makes in advance, in the same order.

    What goes wrong there is raised here, where it would have been. The thread ends with the
    iteration, also if that is given up early.

    Args:
        things: none is ``None``.
        ahead: how many may wait; 0 for no thread.

    Examples:
        >>> list(prefetched(iter("abc"), 2))
        ['a', 'b', 'c']
    """
    if not ahead:
        yield from things
        return
    with ThreadPoolExecutor(1, thread_name_prefix="cascaderank-prefetch") as worker:
        try:
            waiting = deque(worker.submit(next, things, None) for _ in range(ahead))
            while (thing := waiting.popleft().result()) is not None:
                waiting.append(worker.submit(next, things, None))
                yield thing
        finally:
            worker.shutdown(cancel_futures=True)
