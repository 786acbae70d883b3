"""Local backend: jobs run in this process, or in worker processes that map the same columns."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from pathlib import Path

import torch

from cascaderank.atomic import remove_all_partials
from cascaderank.errors import RunError
from cascaderank.experiments.execution.job import Job, Start, run_job
from cascaderank.experiments.tuning import Outcome
from cascaderank.progress import Progress, Silent
from cascaderank.runs.data import RunData
from cascaderank.runs.sharing import open_shared, share


@contextlib.contextmanager
def runner(jobs: int, progress: Progress) -> Iterator[Start]:
    """Yield a function that starts jobs; an error terminates the workers.

    With ``jobs=1``, each job runs in this process when it is started. Otherwise, up to ``jobs``
    worker processes are started on demand, and the threads of torch are divided equally among them.
    The workers end when this process ends, even if it is killed.

    Args:
        jobs: number of jobs to run at the same time.
        progress: receives the progress of each job; only with ``jobs=1``.

    Raises:
        RunError: if a worker process ends before its job.
    """
    if jobs == 1:
        yield lambda job, data: _completed(run_job(job, data, progress))
        return
    context = multiprocessing.get_context("spawn")
    end, held_open = context.Pipe(duplex=False)  # closing ``held_open`` ends the workers
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=context,
        initializer=_initialise,
        initargs=(end, max(1, torch.get_num_threads() // jobs)),
    )
    folders: list[Path] = []

    def start(job: Job, data: RunData) -> "Future[Outcome]":
        folders.append(job.folder)
        return pool.submit(_run_shared, job, share(data))

    try:
        yield start
    except BaseException as error:
        held_open.close()
        if isinstance(error, BrokenProcessPool):
            raise RunError(
                "a worker process ended before its run was complete, possibly out of memory; "
                "repeat the command with a smaller --jobs to resume"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        end.close()
        held_open.close()
        for folder in folders:  # of workers that ended while they wrote
            remove_all_partials(folder)


def _completed(outcome: Outcome) -> "Future[Outcome]":
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future


# The functions below run in the worker processes.


def _initialise(end: connection.Connection, threads: int) -> None:
    """Ignore Ctrl-C, which the parent process handles, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threading.Thread(target=_exit_with_parent, args=(end,), daemon=True).start()


def _exit_with_parent(end: connection.Connection) -> None:
    parent = multiprocessing.parent_process()
    connection.wait([end] if parent is None else [end, parent.sentinel])
    os._exit(1)  # at any point: an interrupted run can be resumed


def _run_shared(job: Job, data: Path) -> Outcome:
    return run_job(job, _opened(data), Silent())


@functools.lru_cache(maxsize=1)
def _opened(path: Path) -> RunData:
    """Return the data of a fold; the cache of one entry releases the data of the previous fold."""
    return open_shared(path)
