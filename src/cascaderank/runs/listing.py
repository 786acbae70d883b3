"""Runs of a folder with their main figures, read from their small files."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, final

from pydantic import AliasChoices, BaseModel, Field

from cascaderank.errors import CascadeRankError, ConfigError, RunError, did_you_mean
from cascaderank.regular_files import check_path
from cascaderank.runs.folder import CHECKPOINTS, REPORT, read_record
from cascaderank.text_files import parsed_toml, read_text

_CONFIG, _ENVIRONMENT = "config.toml", "environment.json"
_INSIDE = ("tracking", "bundle")  # folders of a run that hold no runs


@final
@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """Main figures of a run; ``None`` where the run has none."""

    name: str
    """Path of the run below the listed folder."""
    data: str | None
    """Name of the data set."""
    objective: str | None
    """Name of the objective."""
    validation: float | None
    """Best value of the validation metric."""
    recall: float | None
    """Joint recall of the test requests."""
    low: float | None
    """Lower end of its interval."""
    high: float | None
    """Upper end of its interval."""
    steps: int | None
    """Optimizer steps."""
    date: str | None
    """When the run was started, ISO 8601, UTC."""
    complete: bool
    """Whether the run has been trained and evaluated."""


SORTABLE: Final = ("name", "data", "objective", "validation", "recall", "steps", "date")
"""Columns that runs can be sorted and selected by."""


@final
@dataclass(frozen=True, kw_only=True)
class Listing:
    """Runs below a folder."""

    runs: tuple[ListedRun, ...]
    """Runs, sorted and selected."""
    damaged: dict[str, str]
    """Names of runs that could not be read, with the reason."""

    def to_json(self) -> dict[str, object]:
        """Return the listing as JSON values; its keys are stable."""
        return {"runs": [asdict(run) for run in self.runs], "damaged": self.damaged}


class _Training(BaseModel):
    validation: float | None = Field(
        None, validation_alias=AliasChoices("validation", "validation_joint_recall")
    )
    steps: int | None = None


class _Recall(BaseModel):
    mean: float | None = None
    low: float | None = None
    high: float | None = None


class _Metrics(BaseModel):
    joint_recall: _Recall


class _Test(BaseModel):
    metrics: _Metrics


class _Report(BaseModel):
    training: _Training
    test: _Test


class _DataSet(BaseModel):
    name: str | None = None


class _Environment(BaseModel):
    started: str | None = None
    dataset: _DataSet = _DataSet()


def list_runs(
    folder: str | os.PathLike[str], *, sort: str = "date", where: Sequence[str] = ()
) -> Listing:
    """Return the runs in a folder and its folders, such as those of a comparison.

    Args:
        folder: folder to search; links are not followed.
        sort: column of :data:`SORTABLE`; numbers and dates have the largest first. Runs without a
            value are last.
        where: conditions that all must hold: ``"column=text"``, or a text that the name, data set
            or objective contains; upper and lower case are the same.

    Raises:
        RunError: if the folder does not exist.
        ConfigError: if a column does not exist.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     list_runs(folder)
        Listing(runs=(), damaged={})
    """
    conditions = [_condition(text) for text in where]
    _check_column(sort, "--sort")
    root = check_path(folder, RunError)
    if not root.is_dir():
        raise RunError(f"{root}: no such folder; expected a folder of runs, such as runs")
    found: list[ListedRun] = []
    damaged: dict[str, str] = {}
    for path in _run_folders(root):
        name = root.name if path == root else path.relative_to(root).as_posix()
        try:
            found.append(_read(path, name))
        except (CascadeRankError, OSError, ValueError, TypeError, KeyError) as error:
            damaged[name] = " ".join(str(error).split())
    chosen = [run for run in found if all(_holds(run, *condition) for condition in conditions)]
    chosen.sort(key=lambda run: run.name)
    known = [run for run in chosen if getattr(run, sort) is not None]
    known.sort(key=lambda run: getattr(run, sort), reverse=sort in SORTABLE[3:])
    unknown = [run for run in chosen if getattr(run, sort) is None]
    return Listing(runs=(*known, *unknown), damaged=damaged)


def _check_column(name: str, option: str) -> None:
    if name not in SORTABLE:
        raise ConfigError(
            f"{option}: no column '{name}'{did_you_mean(name, SORTABLE)}; "
            f"there are {', '.join(SORTABLE)}"
        )


def _condition(text: str) -> tuple[str, str]:
    column, equals, value = text.partition("=")
    if not equals:
        return "", text.casefold()
    _check_column(column, "--where")
    return column, value.casefold()


def _holds(run: ListedRun, column: str, text: str) -> bool:
    if not column:
        return any(text in (v or "").casefold() for v in (run.name, run.data, run.objective))
    value = getattr(run, column)
    return value is not None and str(value).casefold().startswith(text)


def _run_folders(root: Path) -> Iterator[Path]:
    for path, folders, files in os.walk(root):
        started = any(name in files for name in (_ENVIRONMENT, REPORT, *CHECKPOINTS))
        if _CONFIG in files and started:
            yield Path(path)
            folders[:] = [name for name in folders if name not in _INSIDE]
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def _read(path: Path, name: str) -> ListedRun:
    config: dict[str, Any] = parsed_toml(read_text(path / _CONFIG))
    report = read_record(path / REPORT, _Report) if (path / REPORT).exists() else None
    environment = read_record(path / _ENVIRONMENT, _Environment)
    recall = _Recall() if report is None else report.test.metrics.joint_recall
    return ListedRun(
        name=name,
        data=environment.dataset.name,
        objective=config["objective"]["name"],
        validation=None if report is None else report.training.validation,
        recall=recall.mean,
        low=recall.low,
        high=recall.high,
        steps=None if report is None else report.training.steps,
        date=environment.started,
        complete=report is not None,
    )
