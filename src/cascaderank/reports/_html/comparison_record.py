"""A comparison as its folder records it, and the runs in it."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

from pydantic import BaseModel

from cascaderank.experiments.methods import label_of
from cascaderank.runs.folder import REPORT, read_record

COMPARISON = "comparison.json"
"""File of a complete comparison."""


class _Metric(BaseModel):
    metric: str
    mean: float | None
    low: float | None
    high: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    p_holm: float | None = None


class _Mean(BaseModel):
    mean: float | None
    requests: int


class TriedPoint(BaseModel):
    """A point of a grid, with its validation recall."""

    values: dict[str, Any]
    validation: float | None
    seconds: float


class TunedFold(BaseModel):
    """Tuning of a method on one fold."""

    chosen: dict[str, Any]
    tried: list[TriedPoint]
    at_edge: list[str] = []


class MethodRecord(BaseModel):
    """Results of one method; ``None`` is undefined."""

    name: str
    trained: bool
    sees_more: bool = False
    joint_recall: float | None
    low: float | None
    high: float | None
    by_seed: list[float | None]
    stage_recall: dict[str, float | None]
    stage_ndcg: dict[str, float | None]
    stage_survival: dict[str, float | None]
    final_metrics: list[_Metric] = []
    share_of_ceiling: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    p_holm: float | None
    seconds: float | None
    peak_memory: float | None = None
    tuning: list[TunedFold]

    @property
    def lost(self) -> dict[str, float]:
        """Share of the ground truth that each stage cut."""
        alive = [1.0, *(x or 0.0 for x in self.stage_survival.values())]
        return {
            name: before - after
            for name, before, after in zip(self.stage_survival, alive, alive[1:], strict=False)
        }


@final
class ComparisonRecord(BaseModel):
    """Results of a comparison, from the file that it wrote."""

    dataset: str
    requests: int
    undefined: int
    folds: int
    fold_names: list[str]
    seeds: int
    reference: str
    confidence: float
    ceiling: float | None
    ceiling_kind: str
    methods: list[MethodRecord]
    warnings: list[str] = []

    @property
    def trained(self) -> list[MethodRecord]:
        """Trained methods with a defined joint recall, best first."""
        known = [m for m in self.methods if m.trained and m.joint_recall is not None]
        return sorted(known, key=lambda m: -(m.joint_recall or 0.0))

    def method(self, name: str) -> MethodRecord:
        """Return one method."""
        return next(m for m in self.methods if m.name == name)


def is_comparison(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds a complete comparison."""
    return (Path(folder) / COMPARISON).is_file()


def read_comparison(folder: str | os.PathLike[str]) -> ComparisonRecord:
    """Read the results of a comparison.

    Args:
        folder: folder of the comparison.

    Raises:
        RunError: if its file is missing, or is not that of a comparison.
    """
    return read_record(Path(folder) / COMPARISON, ComparisonRecord)


def runs_of(
    folder: str | os.PathLike[str],
    found: ComparisonRecord,
    method: MethodRecord,
    *,
    fold: int = 0,
) -> Iterator[Path]:
    """Yield the folders of the evaluated runs of a method on one fold, by seed.

    Folders of runs that are not complete are left out; methods without a cascade have none.

    Args:
        folder: folder of the comparison.
        found: its results.
        method: the method.
        fold: index of the fold.
    """
    tuned: Mapping[str, Any] = method.tuning[fold].chosen if fold < len(method.tuning) else {}
    place = Path(folder) / method.name / label_of(tuned) / found.fold_names[fold].replace(" ", "-")
    for seed in range(found.seeds):
        run = place / f"seed-{seed}"
        if (run / REPORT).is_file() and (run / "weights.safetensors").is_file():
            yield run


class _Ceiling(BaseModel):
    ceiling_if_perfect: _Mean


class _Evaluation(BaseModel):
    stages: dict[str, _Ceiling]


class _Run(BaseModel):
    test: _Evaluation


def mended_by_stage(
    folder: str | os.PathLike[str], found: ComparisonRecord, method: MethodRecord
) -> dict[str, float]:
    """Return the joint recall of a method if one stage alone were perfect, by stage.

    The mean is over the requests of all folds, and over seeds.

    Args:
        folder: folder of the comparison.
        found: its results.
        method: the method.

    Returns:
        Joint recall by stage; empty if a run is missing, or has no value.
    """
    sums: dict[str, float] = dict.fromkeys(method.stage_survival, 0.0)
    requests = 0
    for fold in range(found.folds):
        runs = list(runs_of(folder, found, method, fold=fold))
        if len(runs) < found.seeds:
            return {}
        for run in runs:
            stages = read_record(run / REPORT, _Run).test.stages
            for name in sums:
                mended = stages[name].ceiling_if_perfect if name in stages else None
                if mended is None or mended.mean is None:
                    return {}
                sums[name] += mended.mean * mended.requests
            requests += mended.requests if mended else 0
    return {name: total / requests for name, total in sums.items()} if requests else {}
