"""Prefetching of the elements of an iterator in a background thread."""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(elements: Iterator[T], ahead: int) -> Iterator[T]:
    """Iterate over elements that a background thread computes in advance, in the same order.

    An exception of the iterator is raised at the element where it would have been raised without
    the thread. The thread ends with the iteration, also if the iteration is abandoned early.

    Args:
        elements: iterator whose elements are not ``None``.
        ahead: maximum number of elements computed in advance; 0 for no thread.

    Examples:
        >>> list(prefetched(iter("abc"), 2))
        ['a', 'b', 'c']
    """
    if not ahead:
        yield from elements
        return
    with ThreadPoolExecutor(1, thread_name_prefix="cascaderank-prefetch") as worker:
        try:
            waiting = deque(worker.submit(next, elements, None) for _ in range(ahead))
            while (element := waiting.popleft().result()) is not None:
                waiting.append(worker.submit(next, elements, None))
                yield element
        finally:
            worker.shutdown(cancel_futures=True)
