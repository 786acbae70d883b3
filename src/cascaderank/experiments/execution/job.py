"""A job: one trial as a backend of execution runs it, in this process or another."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from cascaderank.errors import ConfigError, DivergedError
from cascaderank.experiments.scorers import run_scorer
from cascaderank.experiments.tuning import Outcome
from cascaderank.progress import Progress
from cascaderank.runs.data import RunData
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
