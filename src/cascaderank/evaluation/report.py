"""Report: what an evaluation found, with intervals; what ``--json`` prints."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cascaderank.evaluation.bootstrap import bootstrap_interval

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
class Summary:
    """A mean over the requests where a value is defined, and its bootstrap interval."""

    mean: float
    """NaN if it is defined for no request."""
    low: float
    high: float
    requests: int
    """How many requests the mean is over."""
    undefined: int
    """How many requests have no such value, and are left out."""

    def to_json(self) -> dict[str, float | int | None]:
        """Return plain numbers; ``None`` for what is undefined, since JSON has no NaN."""
        ends = {"mean": self.mean, "low": self.low, "high": self.high}
        numbers = {name: None if math.isnan(x) else x for name, x in ends.items()}
        return {**numbers, "requests": self.requests, "undefined": self.undefined}


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
    """Replicates behind the intervals; 0 for none."""
    confidence: float
    metrics: Mapping[str, Summary]
    """Of the cascade as a whole: ``joint_recall`` and ``reachable``."""
    stages: Mapping[str, StageReport]
    """By name, first stage first."""
    notes: tuple[str, ...] = ()
    """What was left out, and why."""

    def to_json(self) -> dict[str, object]:
        """Return the report as what :func:`json.dumps` takes, without NaN; keys never change."""
        return {
            "requests": self.requests,
            "without_ground_truth": self.without_ground_truth,
            "ground_truth": {"k": self.k, "threshold": self.threshold},
            "bootstrap": {"replicates": self.bootstrap, "confidence": self.confidence},
            "metrics": {name: summary.to_json() for name, summary in self.metrics.items()},
            "stages": {name: _stage_to_json(stage) for name, stage in self.stages.items()},
            "notes": list(self.notes),
        }


def summarise(
    per_request: Mapping[str, NDArray[np.float64]],
    *,
    bootstrap: int,
    seed: int,
    confidence: float = 0.95,
) -> dict[str, Summary]:
    """Average each column over the requests where it is defined.

    Args:
        per_request: one value per request by name, all of one length of at least 1; NaN is
            undefined.
        bootstrap: replicates for the intervals; 0 leaves the ends NaN.
        seed: of the bootstrap.
        confidence: between 0 and 1.

    Example:
        >>> recall = np.array([1.0, 0.5, np.nan])
        >>> summarise({"recall": recall}, bootstrap=0, seed=0)["recall"].mean
        0.75
    """
    values = np.column_stack(list(per_request.values()))
    low, high = np.full((2, values.shape[1]), np.nan)
    if bootstrap:
        low, high = bootstrap_interval(
            values, replicates=bootstrap, seed=seed, confidence=confidence
        )
    summaries = {}
    for i, (name, column) in enumerate(per_request.items()):
        defined = column[~np.isnan(column)]
        summaries[name] = Summary(
            mean=float(defined.mean()) if len(defined) else math.nan,
            low=float(low[i]),
            high=float(high[i]),
            requests=len(defined),
            undefined=len(column) - len(defined),
        )
    return summaries


def _stage_to_json(stage: StageReport) -> dict[str, object]:
    summaries: dict[str, Summary | None] = {name: getattr(stage, name) for name in STAGE_METRICS}
    return {"quota": stage.quota} | {
        name: None if summary is None else summary.to_json() for name, summary in summaries.items()
    }
