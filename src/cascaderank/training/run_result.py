"""The result of a run, and its serialisation in the folder of the run."""

import io
from dataclasses import dataclass, replace
from typing import Any, final

import polars as pl
from pydantic import AliasChoices, BaseModel, Field

from cascaderank.cascade import Cascade
from cascaderank.data.split import Split
from cascaderank.errors import RunError
from cascaderank.evaluation import CatalogueReport, Report
from cascaderank.evaluation.report import over_all_candidates
from cascaderank.regular_files import read_file
from cascaderank.runs.claim import describe_log
from cascaderank.runs.data import RunData
from cascaderank.runs.folder import RunFolder, read_record, write_atomically
from cascaderank.settings.run import RunSettings
from cascaderank.training.checkpoint import TrainState


@final
@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Result of a complete run."""

    folder: RunFolder
    """Folder of the run."""
    test: Report
    """Evaluation on the test requests."""
    validation: float | None
    """Best value of the validation metric: joint recall, or that of ``catalogue.decides``."""
    seconds: float
    """Duration of training, in the session that completed it."""
    peak_memory: int | None
    """Peak memory of that session in bytes, see :class:`~cascaderank.training.memory.PeakMemory`;
    ``None`` if it could not be measured."""
    warnings: tuple[str, ...] = ()
    """Settings that do not fit the data, and signs that training did not succeed; see
    :mod:`cascaderank.training.run_warnings`."""


class _Training(BaseModel):
    # Reports written before `catalogue.decides` existed have the second key.
    validation: float | None = Field(
        validation_alias=AliasChoices("validation", "validation_joint_recall")
    )
    seconds: float
    peak_memory_bytes: int | None = None


class _Written(BaseModel):
    """Entries of ``report.json`` that :func:`read_result` reads."""

    test: dict[str, Any]
    training: _Training
    warnings: tuple[str, ...] = ()


def read_result(run: RunFolder) -> RunResult:
    """Read the result of a complete run.

    Raises:
        RunError: if a file is missing or damaged.
    """
    run.check_files()
    report = read_record(run.report, _Written)
    file = run.report
    try:
        test = Report.from_json(report.test)
        file = run.per_request
        values = pl.read_parquet(io.BytesIO(read_file(file))).drop("request_id")
    except (OSError, LookupError, TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise RunError(
            f"{file}: cannot be read: {error}; restore the file from a copy, or train again in "
            "another folder"
        ) from None
    # Version 0.2 wrote additional metrics of a stage without the prefix.
    values = values.rename(
        {
            f"{metric}/{name}": over_all_candidates(metric, name)
            for name, stage in test.stages.items()
            for metric in stage.over_all_candidates
        },
        strict=False,
    )
    return RunResult(
        folder=run,
        test=replace(test, per_request={name: values[name].to_numpy() for name in values.columns}),
        validation=report.training.validation,
        seconds=report.training.seconds,
        peak_memory=report.training.peak_memory_bytes,
        warnings=report.warnings,
    )


def write_result(
    result: RunResult,
    settings: RunSettings,
    cascade: Cascade,
    data: RunData,
    state: TrainState,
    search: CatalogueReport | None,
) -> RunResult:
    """Write the values per request and then the report, which completes the run.

    Args:
        result: result of the run; the values per request do not include the search.
        settings: settings of the run.
        cascade: cascade of the run.
        data: data of the run.
        state: state at the end of training.
        search: evaluation of the first stage by its search of all items, or ``None``.

    Returns:
        The result with the values per request of the search.
    """
    run, report, split = result.folder, result.test, data.split
    if search is not None:
        values = {f"catalogue/{n}": v for n, v in search.per_request.items() if n != "row"}
        report = replace(report, per_request={**report.per_request, **values})
    ids = data.encoded.request_ids[report.per_request["row"]]
    content = io.BytesIO()
    pl.DataFrame({"request_id": ids, **report.per_request}).write_parquet(content)
    write_atomically(run.per_request, content.getvalue())
    run.write_report(
        {
            "dataset": describe_log(data.log, settings),
            "requests": _sizes(split),
            "parameters": {
                name: sum(p.numel() for p in stage.parameters())
                for name, stage in cascade.stages.items()
            },
            "training": {
                "epochs": state.epoch,
                "steps": state.step,
                "best_epoch": state.best_epoch,
                "decided_by": _decided_by(settings),
                "validation": result.validation,
                "seconds": round(result.seconds, 3),
                "peak_memory_bytes": result.peak_memory,
            },
            "warnings": list(result.warnings),
            "test": report.to_json(),
            **({} if search is None else {"catalogue": search.to_json()}),
        },
    )
    return replace(result, test=report)


def _sizes(split: Split) -> dict[str, int]:
    return {
        "train": len(split.train),
        "validation": len(split.validation),
        "test": len(split.test),
    }


def _decided_by(settings: RunSettings) -> str:
    decides = settings.catalogue and settings.catalogue.decides
    return f"catalogue/{decides}" if decides else "joint_recall"
