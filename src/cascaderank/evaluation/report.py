"""Report: what an evaluation found, with intervals; what ``--json`` prints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascaderank.evaluation.bootstrap import Summary

STAGE_METRICS = (
    "recall",
    "ndcg_linear",
    "ndcg_exponential",
    "survival",
    "lost",
    "ceiling_if_perfect",
    "depth",
)
"""What is reported of each stage; fields of :class:`StageReport`."""

WHOLE_METRICS = ("joint_recall", "reachable")
"""What is reported of the cascade as a whole."""


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """How one stage ranks, and what becomes of the ground truth in it."""

    quota: int
    recall: Summary
    """Recall@m@k of this stage over the whole list, m its quota."""
    ndcg_linear: Summary
    """Over the whole list, at the size of the ground truth if that is fixed."""
    ndcg_exponential: Summary | None
    """The same with gain 2^y - 1; ``None`` if the labels are no grades, as a note then says."""
    survival: Summary
    """Share of the ground truth alive after this stage."""
    lost: Summary
    """Share of the ground truth that this stage cut."""
    ceiling_if_perfect: Summary
    """Joint recall if this stage alone were perfect."""
    depth: Summary
    """Ranks below the quota of what it cut of the ground truth; undefined where it cut none."""
    metrics: Mapping[str, Summary] = field(default_factory=dict)
    """Metrics that were asked for by name, over the whole list."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What an evaluation found."""

    requests: int
    without_ground_truth: int
    """Requests without ground truth: undefined in every recall, and left out of its mean."""
    k: int | None
    """The ground truth is the top ``k`` by label, or if ``None`` by ``threshold``."""
    threshold: float | None
    bootstrap: int
    """Resamples behind the intervals; 0 for none."""
    confidence: float
    metrics: Mapping[str, Summary]
    """Of the cascade as a whole: ``joint_recall`` and ``reachable``."""
    stages: Mapping[str, StageReport]
    """By name, first stage first."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""
    per_request: Mapping[str, NDArray[np.int64] | NDArray[np.float64]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """Values by name, ``[requests]`` each, as :meth:`Evaluator.per_request` gives them; not in the
    JSON, and empty in a report read from it."""

    def to_json(self) -> dict[str, object]:
        """Return the report as what :func:`json.dumps` takes, without NaN; keys never change."""
        return {
            "requests": self.requests,
            "without_ground_truth": self.without_ground_truth,
            "ground_truth": {"k": self.k, "threshold": self.threshold},
            "bootstrap": {"resamples": self.bootstrap, "confidence": self.confidence},
            "metrics": {name: summary.to_json() for name, summary in self.metrics.items()},
            "stages": {name: _stage_to_json(stage) for name, stage in self.stages.items()},
            "notes": list(self.notes),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Report":
        """Return the report that :meth:`to_json` was called on, without its values per request."""
        return cls(
            requests=data["requests"],
            without_ground_truth=data["without_ground_truth"],
            k=data["ground_truth"]["k"],
            threshold=data["ground_truth"]["threshold"],
            bootstrap=data["bootstrap"]["resamples"],
            confidence=data["bootstrap"]["confidence"],
            metrics={name: Summary.from_json(found) for name, found in data["metrics"].items()},
            stages={name: _stage_from_json(found) for name, found in data["stages"].items()},
            notes=tuple(data["notes"]),
        )


def _stage_to_json(stage: StageReport) -> dict[str, object]:
    summaries: dict[str, Summary | None] = {name: getattr(stage, name) for name in STAGE_METRICS}
    return {
        "quota": stage.quota,
        **{name: None if of is None else of.to_json() for name, of in summaries.items()},
        "metrics": {name: summary.to_json() for name, summary in stage.metrics.items()},
    }


def _stage_from_json(data: Mapping[str, Any]) -> StageReport:
    found = {name: data[name] and Summary.from_json(data[name]) for name in STAGE_METRICS}
    metrics = {name: Summary.from_json(of) for name, of in data.get("metrics", {}).items()}
    return StageReport(quota=data["quota"], metrics=metrics, **found)
