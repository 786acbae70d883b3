"""Execution of trials: in this process, or in several that map the same encoded columns."""

import contextlib
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, final

import torch

from cascaderank.errors import ConfigError, DivergedError, RunError
from cascaderank.experiments.scorers import run_scorer
from cascaderank.experiments.tuning import Outcome, Plan, Trial, Tuned
from cascaderank.progress import Progress, Silent
from cascaderank.runs.data import RunData, open_shared, share
from cascaderank.settings.run import RunSettings
from cascaderank.training.train_run import train_run


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a trial."""

    settings: RunSettings
    folder: Path
    may_fail: bool
    """Whether settings that cannot be built count as a failed trial; otherwise they raise."""
    scorer: tuple[str, Mapping[str, Any]] | None = None
    """Name and options of a scorer that is fitted in place of the cascade."""


Start = Callable[[Job, RunData], "Future[Outcome]"]
"""Function that starts a job on the data of its fold and returns a future of its outcome."""


@contextlib.contextmanager
def runner(jobs: int, progress: Progress) -> Iterator[Start]:
    """Context manager that yields a function to start jobs; an error terminates the workers.

    One job at a time runs in this process. For more, as many worker processes are started on
    demand, and the threads of torch are divided between them. The workers end when this process
    ends, even if it is killed.

    Args:
        jobs: number of jobs to run at the same time.
        progress: progress reporter of each job; used only with one job at a time.

    Raises:
        RunError: if a worker process ends before its job.
    """
    if jobs == 1:
        yield lambda job, data: _completed(run_job(job, data, progress))
        return
    context = multiprocessing.get_context("spawn")
    end, held = context.Pipe(duplex=False)  # closing ``held`` ends the workers
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=context,
        initializer=_initialise,
        initargs=(end, max(1, torch.get_num_threads() // jobs)),
    )
    try:
        yield lambda job, data: pool.submit(_run_shared, job, share(data))
    except BaseException as error:
        held.close()
        if isinstance(error, BrokenProcessPool):
            raise RunError(
                "a worker process ended before its run, possibly out of memory; repeat the command "
                "with fewer jobs to resume"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        end.close()
        held.close()


def run_job(job: Job, data: RunData, progress: Progress) -> Outcome:
    """Train and evaluate a job; divergence of the training is an outcome, not an error."""
    started = time.monotonic()
    try:
        if job.scorer is not None:
            result = run_scorer(*job.scorer, job.settings, job.folder, data)
        else:
            result = train_run(job.settings, job.folder, data=data, progress=progress)
    except DivergedError as error:
        failed = str(error)
    except ConfigError as error:
        if not job.may_fail:
            raise
        failed = str(error)
    else:
        return Outcome(result=result, failed=None, seconds=result.seconds)
    return Outcome(result=None, failed=failed, seconds=time.monotonic() - started)


def carry_out(
    plans: Mapping[str, Plan],
    start: Callable[[str, Trial], "Future[Outcome]"],
    heard: Callable[[str, Trial, Outcome], None],
) -> dict[str, Tuned]:
    """Run the trials that the plans yield until all plans have finished.

    Args:
        plans: plans by name.
        start: callback that starts a trial of the plan with the given name.
        heard: callback, called with each completed trial and its outcome.

    Returns:
        Results of the plans by name, in the order of ``plans``.
    """
    results: dict[str, Tuned] = {}
    pending: dict[str, list[Future[Outcome]]] = {}
    running: dict[Future[Outcome], tuple[str, Trial]] = {}

    def resume(name: str, outcomes: list[Outcome] | None) -> None:
        try:
            trials = next(plans[name]) if outcomes is None else plans[name].send(outcomes)
        except StopIteration as choice:
            results[name] = choice.value
            return
        pending[name] = []
        for trial in trials:
            future = start(name, trial)
            pending[name].append(future)
            if future.done():
                heard(name, trial, future.result())
            else:
                running[future] = name, trial

    for name in plans:
        resume(name, None)
    while pending:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            heard(*running.pop(future), future.result())
        for name in [n for n, futures in pending.items() if not running.keys() & set(futures)]:
            resume(name, [future.result() for future in pending.pop(name)])
    return {name: results[name] for name in plans}


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
    """Data of a fold; the cache holds one fold, so that of the previous fold is released."""
    return open_shared(path)
