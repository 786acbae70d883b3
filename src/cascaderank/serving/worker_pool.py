"""Threads behind a bounded queue: what does not fit is refused at once."""

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar, final

T = TypeVar("T")


class QueueFullError(Exception):
    """The queue is full.

    Args:
        retry_after: seconds after which the queue will probably be empty, at least 1.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"the queue is full; retry after {retry_after} s")
        self.retry_after = retry_after


@final
class WorkerPool:
    """Threads that work one job at a time each, and a queue of limited length in front of them.

    Args:
        workers: number of threads.
        queue: number of jobs that may wait, in addition to those that run.
        name: prefix of the names of the threads.
        initializer: called once in each thread.

    Examples:
        >>> pool = WorkerPool(1, queue=4, name="example")
        >>> pool.submit(lambda: 7).result()
        7
        >>> pool.close()
    """

    def __init__(
        self,
        workers: int,
        *,
        queue: int,
        name: str,
        initializer: Callable[[], object] | None = None,
    ) -> None:
        self.workers, self.capacity = workers, workers + queue
        self._threads = ThreadPoolExecutor(
            workers, thread_name_prefix=name, initializer=initializer
        )
        self._lock = threading.Lock()
        self._jobs = 0
        self._seconds = 0.0

    @property
    def jobs(self) -> int:
        """Number of jobs that wait or run."""
        return self._jobs

    def check_room(self) -> None:
        """Check that a job would be accepted at present.

        Raises:
            QueueFullError: if the queue is full.
        """
        if self._jobs >= self.capacity:
            seconds = self._jobs * self._seconds / self.workers
            raise QueueFullError(max(1, math.ceil(seconds)))

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Put a job on the queue.

        Args:
            job: function without arguments.

        Raises:
            QueueFullError: if the queue is full.
        """
        with self._lock:
            self.check_room()
            self._jobs += 1
        try:
            future = self._threads.submit(self._run, job)
        except BaseException:
            self._done()
            raise
        future.add_done_callback(self._cancelled)
        return future

    def close(self) -> None:
        """Finish all jobs of the queue, and end the threads."""
        self._threads.shutdown()

    def _run(self, job: Callable[[], T]) -> T:
        started = time.perf_counter()
        try:
            return job()
        finally:
            self._seconds += (time.perf_counter() - started - self._seconds) / 16
            self._done()

    def _cancelled(self, future: Future[T]) -> None:
        if future.cancelled():
            self._done()

    def _done(self) -> None:
        with self._lock:
            self._jobs -= 1
