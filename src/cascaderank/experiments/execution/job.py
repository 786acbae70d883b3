"""Jobs: the runs that an execution backend starts, in this process or another."""

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
    """A run of a trial."""

    settings: RunSettings
    """Settings of the run."""
    folder: Path
    """Folder of the run."""
    may_fail: bool
    """Whether a :class:`~cascaderank.errors.ConfigError` is a failed trial; otherwise it is
    raised."""
    scorer: tuple[str, Mapping[str, Any]] | None = None
    """Name and options of a scorer that is fitted instead of a cascade; ``None`` for a cascade."""


Start = Callable[[Job, RunData], "Future[Outcome]"]
"""Function that starts a job on the data of its fold and returns a future of its outcome."""


def run_job(job: Job, data: RunData, progress: Progress) -> Outcome:
    """Train and evaluate a job; divergence of the training is an outcome, not an error.

    Args:
        job: job to run.
        data: data of its fold.
        progress: receives the progress of training.

    Raises:
        ConfigError: if the cascade or objective cannot be built and the job may not fail.
        RunError: if the folder holds another run or is in use.
    """
    started = time.monotonic()
    try:
        if job.scorer is not None:
            result = run_scorer(*job.scorer, job.settings, job.folder, data)
        else:
            result = train_run(job.settings, job.folder, data=data, progress=progress)
    except DivergedError as error:
        reason = str(error)
    except ConfigError as error:
        if not job.may_fail:
            raise
        reason = str(error)
    else:
        return Outcome(result=result, failed=None, seconds=result.seconds)
    return Outcome(result=None, failed=reason, seconds=time.monotonic() - started)
