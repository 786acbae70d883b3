"""A complete run as its folder records it: result, settings, epochs and software."""

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import DataError, RunError
from cascaderank.evaluation import Report
from cascaderank.regular_files import read_file
from cascaderank.runs.claim import recorded_fingerprint
from cascaderank.runs.folder import read_json
from cascaderank.runs.load import TrainedRun, load_run
from cascaderank.settings.run import RunSettings
from cascaderank.training.run_result import RunResult, read_result

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, kw_only=True)
class ReportedRun:
    """A complete run, loaded for a report."""

    run: TrainedRun
    result: RunResult
    record: dict[str, Any]
    """Contents of ``report.json``."""
    environment: dict[str, Any]
    """Contents of ``environment.json``."""
    epochs: tuple[dict[str, Any], ...]
    """Lines of ``metrics.jsonl``."""
    request_ids: pl.Series
    """``[requests]`` ids of the test requests, in the order of the values per request."""

    @property
    def path(self) -> Path:
        """Folder of the run."""
        return self.run.folder.path

    @property
    def settings(self) -> RunSettings:
        """Settings of the run."""
        return self.run.settings

    @property
    def test(self) -> Report:
        """Evaluation on the test requests, with the values per request."""
        return self.result.test

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages, first stage first."""
        return tuple(self.test.stages)

    @property
    def dataset(self) -> dict[str, str]:
        """Path, name and fingerprint of the data set, as recorded."""
        found: dict[str, str] = self.record["dataset"]
        return found

    def values(self, name: str) -> Floats:
        """Return the values of a metric per test request; NaN is undefined."""
        return self.test.per_request[name].astype(np.float64)

    @cached_property
    def losses(self) -> dict[str, float]:
        """Mean share of the ground truth that each stage cut, by stage."""
        return {name: stage.lost.mean for name, stage in self.test.stages.items()}

    @property
    def truth(self) -> str:
        """Definition of the ground truth in words."""
        k, threshold = self.test.k, self.settings.relevance.threshold
        labels = "" if self.test.threshold is None else "a label above 0"
        if threshold is not None:
            labels = f"a label of at least {threshold:g}"
        if k is None:
            return f"candidates with {labels}"
        return f"the top {k} candidates by label" + f", with {labels}" * bool(labels)


def different_parts(folders: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the part of each path that differs: without the folders that all begin or end with.

    Examples:
        >>> different_parts(["runs/grid/bce/seed-0", "runs/grid/lcron/seed-0"])
        ['bce', 'lcron']
        >>> different_parts(["runs/a", "runs/b/seed-0"])
        ['a', 'b/seed-0']
    """
    paths = [Path(os.path.realpath(folder)).parts for folder in folders]
    most = min(map(len, paths)) - 1  # at least one part of each path is left
    first = next((i for i in range(most) if len({path[i] for path in paths}) > 1), most)
    most -= first
    last = next((i for i in range(most) if len({path[-1 - i] for path in paths}) > 1), most)
    return ["/".join(path[first : len(path) - last]) for path in paths]


def run_name(number: int, part: str, objective: str) -> str:
    """Return the name of one of several runs, with its objective.

    Examples:
        >>> run_name(1, "seed-0", "bce"), run_name(2, "lcron/seed-0", "lcron")
        ('1. bce, seed-0', '2. lcron/seed-0')
    """
    known = objective in part.split("/")
    return f"{number}. {part}" if known else f"{number}. {objective}, {part}"


def read_run(folder: str | os.PathLike[str]) -> ReportedRun:
    """Read a complete run for a report.

    Args:
        folder: folder that ``cascaderank train`` wrote.

    Raises:
        RunError: if the folder does not hold a complete run, or a file in it is damaged.
    """
    run = load_run(folder)
    result = read_result(run.folder)
    environment = read_json(run.folder.environment)
    try:
        lines = read_file(run.folder.metrics).decode().splitlines()
        epochs = tuple(json.loads(line) for line in lines)
        ids = pl.read_parquet(
            io.BytesIO(read_file(run.folder.per_request)), columns=["request_id"]
        )["request_id"]
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        raise RunError(
            f"{run.folder.path}: cannot be read: {error}; restore its files from a copy, or train "
            "again in another folder"
        ) from None
    return ReportedRun(
        run=run,
        result=result,
        record=read_json(run.folder.report),
        environment=environment,
        epochs=epochs,
        request_ids=ids,
    )


def dataset_of(reported: ReportedRun, dataset: str | os.PathLike[str] | None = None) -> str:
    """Return the folder of the data set that a run was trained on.

    Args:
        reported: the run.
        dataset: where it is now; by default where it was in training.

    Raises:
        DataError: if there is no data set, or it is another one.
    """
    where = os.fspath(dataset or reported.dataset["path"])
    advice = (
        "name the folder of the data set with --data, or leave out what needs it with --no-data"
    )
    try:
        found = RequestLog.open(where).fingerprint
    except DataError as error:
        raise DataError(f"{reported.path}: the data set of the run: {error}; {advice}") from None
    expected = recorded_fingerprint(reported.run.folder.report)
    if found != expected:
        raise DataError(
            f"{reported.path}: was trained on {reported.dataset['name']} (fingerprint "
            f"{expected[:12]}), and {where} is another data set (fingerprint {found[:12]}); "
            f"{advice}"
        )
    return where
