"""Where trials are run: in this process, or in several that map the same encoded columns."""

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

from cascaderank.config import RunSettings
from cascaderank.errors import ConfigError, DivergedError, RunError
from cascaderank.experiments.scorers import run_scorer
from cascaderank.experiments.tuning import Outcome, Plan, Trial, Tuned
from cascaderank.training.progress import Progress, Silent
from cascaderank.training.run import train_run
from cascaderank.training.run_data import RunData, open_shared, share


@final
@dataclass(frozen=True, kw_only=True)
class Job:
    """A trial as what is run."""

    settings: RunSettings
    folder: Path
    may_fail: bool
    """Whether settings that nothing can be built of are a trial that failed, and no mistake."""
    scorer: tuple[str, Mapping[str, Any]] | None = None
    """A scorer and its options, to be fitted in place of the cascade."""


Start = Callable[[Job, RunData], "Future[Outcome]"]
"""Starts a job on the data of its fold."""


@contextlib.contextmanager
def runner(jobs: int, progress: Progress) -> Iterator[Start]:
    """Give what starts jobs; leaving it with an error ends what was started.

    With one job at a time, this process does them; with more, as many processes are started when
    they are needed, and threads are shared out between them. They end when this one ends, even by
    a kill.

    Args:
        jobs: how many to run at the same time.
        progress: hears how far each is, if one runs at a time.

    Raises:
        RunError: if a process ends before its job does.
    """
    if jobs == 1:
        yield lambda job, data: _done(run_job(job, data, progress))
        return
    context = multiprocessing.get_context("spawn")
    end, held = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(
        jobs,
        mp_context=context,
        initializer=_begin,
        initargs=(end, max(1, torch.get_num_threads() // jobs)),
    )
    try:
        yield lambda job, data: pool.submit(_run_shared, job, share(data))
    except BaseException as error:
        held.close()  # which ends all of them at once
        if isinstance(error, BrokenProcessPool):
            raise RunError(
                "a process ended before its run did, perhaps for want of memory; give the command "
                "again to go on, with fewer jobs"
            ) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        end.close()
        held.close()


def run_job(job: Job, data: RunData, progress: Progress) -> Outcome:
    """Train and judge; a training that breaks down is an outcome."""
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
    """Run the trials that plans ask for until all came to a choice.

    Args:
        plans: by name.
        start: starts a trial of the plan of that name.
        heard: is told of every trial that ended.

    Returns:
        What each came to, in the order of ``plans``.
    """
    results: dict[str, Tuned] = {}
    asked: dict[str, list[Future[Outcome]]] = {}
    running: dict[Future[Outcome], tuple[str, Trial]] = {}

    def go_on(name: str, outcomes: list[Outcome] | None) -> None:
        try:
            trials = next(plans[name]) if outcomes is None else plans[name].send(outcomes)
        except StopIteration as choice:
            results[name] = choice.value
            return
        asked[name] = []
        for trial in trials:
            future = start(name, trial)
            asked[name].append(future)
            if future.done():
                heard(name, trial, future.result())
            else:
                running[future] = name, trial

    for name in plans:
        go_on(name, None)
    while asked:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            heard(*running.pop(future), future.result())
        for name in [n for n, futures in asked.items() if not running.keys() & set(futures)]:
            go_on(name, [future.result() for future in asked.pop(name)])
    return {name: results[name] for name in plans}


def _done(outcome: Outcome) -> "Future[Outcome]":
    future: Future[Outcome] = Future()
    future.set_result(outcome)
    return future


# In the processes that are started.


def _begin(end: connection.Connection, threads: int) -> None:
    """Leave Ctrl-C to the process that started this one, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with, args=(end,), daemon=True).start()


def _end_with(end: connection.Connection) -> None:
    parent = multiprocessing.parent_process()
    connection.wait([end] if parent is None else [end, parent.sentinel])
    os._exit(1)  # whatever it does; what it does can be gone on with


def _run_shared(job: Job, data: Path) -> Outcome:
    return run_job(job, _opened(data), Silent())


@functools.lru_cache(maxsize=1)
def _opened(path: Path) -> RunData:
    """The data of a fold; those of the fold before are let go."""
    return open_shared(path)
