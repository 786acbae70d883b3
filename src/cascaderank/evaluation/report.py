"""Report: metrics of an evaluation with bootstrap intervals, as printed by ``--json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.errors import ConfigError
from cascaderank.evaluation.statistics.bootstrap import Summary
from cascaderank.html_tables import html_table

STAGE_METRICS = (
    "recall",
    "ndcg_linear",
    "ndcg_exponential",
    "survival",
    "lost",
    "ceiling_if_perfect",
    "depth",
)
"""Metrics of each stage; fields of :class:`StageReport`."""

WHOLE_METRICS = (
    "joint_recall",
    "joint_recall_decided",
    "reachable",
    "ndcg_linear",
    "ndcg_exponential",
)
"""Metrics of the cascade as a whole, in every report whose labels allow them."""

ALL_CANDIDATES = "all_candidates"
"""Prefix of the values per request of an additional metric of a stage over all candidates."""


def over_all_candidates(metric: str, stage: str) -> str:
    """Return the name of the values per request of an additional metric of a stage.

    Examples:
        >>> over_all_candidates("ndcg@10", "ranking")
        'all_candidates/ndcg@10/ranking'
    """
    return f"{ALL_CANDIDATES}/{metric}/{stage}"


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """Ranking metrics of one stage, and survival of the ground truth in it.

    Recall, NDCG and the additional metrics rank *all candidates* of a request by this stage, also
    those that an earlier stage cuts. They measure the stage alone, not the list that the cascade
    returns; that is measured by :attr:`Report.metrics`.
    """

    quota: int
    """Number of candidates that the stage keeps."""
    recall: Summary
    """Recall@m@k of this stage over all candidates, with m its quota."""
    ndcg_linear: Summary
    """NDCG with linear gain over all candidates; cut off at k if the ground truth is the top k."""
    ndcg_exponential: Summary | None
    """NDCG with gain 2^y - 1; ``None``, with a note, if the labels are too large to be grades."""
    survival: Summary
    """Share of the ground truth that remains after this stage."""
    lost: Summary
    """Share of the ground truth that this stage cut."""
    ceiling_if_perfect: Summary
    """Joint recall if this stage alone were perfect."""
    depth: Summary
    """Mean number of ranks by which the ground truth that this stage cut missed its quota;
    undefined where it cut none."""
    over_all_candidates: Mapping[str, Summary] = field(default_factory=dict)
    """Additional metrics by name, over all candidates."""

    @property
    def metrics(self) -> Mapping[str, Summary]:
        """The name of :attr:`over_all_candidates` in version 0.2."""
        return self.over_all_candidates


@dataclass(frozen=True, kw_only=True)
class Report:
    """Result of an evaluation."""

    requests: int
    """Number of requests."""
    without_ground_truth: int
    """Number of requests without ground truth; recall is undefined for them, and its mean excludes
    them."""
    k: int | None
    """Size of the ground truth, the top ``k`` by label; ``None`` if defined by ``threshold``."""
    threshold: float | None
    """Minimum label of the ground truth; ``None`` if defined by ``k``."""
    bootstrap: int
    """Number of bootstrap replicates of the intervals; 0 if there are none."""
    confidence: float
    """Confidence level of the intervals, in (0, 1)."""
    metrics: Mapping[str, Summary]
    """Metrics of the cascade as a whole.

    ``joint_recall``: share of the ground truth that the cascade returns. ``joint_recall_decided``:
    the same over the requests with more candidates than the last quota; in a shorter list no
    candidate is cut. ``reachable``: maximum that the quotas allow. ``ndcg_linear``,
    ``ndcg_exponential`` and the additional metrics, such as ``ndcg@10``: of the *final list*, the
    candidates that pass all stages in the order of the last. Denominators (the ideal DCG, the size
    of the ground truth) are over all candidates of the request in the log, also those that a stage
    cuts; relevant documents that are no candidates do not count. All are means over the requests
    with ground truth."""
    stages: Mapping[str, StageReport]
    """Stage reports by name, first stage first."""
    notes: tuple[str, ...] = ()
    """Omitted or undefined metrics, with the reason."""
    per_request: Mapping[str, NDArray[np.int64] | NDArray[np.float64]] = field(
        default_factory=dict, repr=False, compare=False
    )
    """Values by name, ``[requests]`` each, from :meth:`Evaluator.per_request`; not in the JSON,
    and empty in a report read from JSON."""

    def frame(self) -> pl.DataFrame:
        """Return all metrics as a frame; ``.to_pandas()`` makes it one of pandas.

        Returns:
            One row per metric: ``stage`` (null for the cascade as a whole), ``metric``, ``mean``,
            ``low``, ``high`` (null if undefined), ``requests`` and ``undefined``.

        Examples:
            >>> summary = Summary(mean=0.5, low=0.4, high=0.6, requests=9, undefined=1)
            >>> Report(
            ...     requests=10, without_ground_truth=1, k=5, threshold=None, bootstrap=0,
            ...     confidence=0.95, metrics={"joint_recall": summary}, stages={},
            ... ).frame().rows()
            [(None, 'joint_recall', 0.5, 0.4, 0.6, 9, 1)]
        """
        rows: list[dict[str, object]] = [
            {"stage": None, "metric": name, **summary.to_json()}
            for name, summary in self.metrics.items()
        ]
        for stage, report in self.stages.items():
            summaries = {name: getattr(report, name) for name in STAGE_METRICS}
            summaries |= {f"{ALL_CANDIDATES}/{n}": x for n, x in report.over_all_candidates.items()}
            rows += [
                {"stage": stage, "metric": name, **summary.to_json()}
                for name, summary in summaries.items()
                if summary is not None
            ]
        numbers = dict.fromkeys(("mean", "low", "high"), pl.Float64())
        counts = dict.fromkeys(("requests", "undefined"), pl.Int64())
        text = dict.fromkeys(("stage", "metric"), pl.String())
        return pl.DataFrame(rows, schema={**text, **numbers, **counts})

    def per_request_frame(self) -> pl.DataFrame:
        """Return the values of each request as a frame, one row per request.

        Returns:
            ``row``, the row of the request in the log, and one column per metric of
            :attr:`per_request`; NaN where undefined.

        Raises:
            ConfigError: if the report was read from JSON, which has no values per request.
        """
        if not self.per_request:
            raise ConfigError(
                "expected values per request, found none, as in a report from JSON; evaluate the "
                "run again, or read per_request.parquet in its folder"
            )
        return pl.DataFrame(dict(self.per_request))

    def _repr_html_(self) -> str:
        """Return the tables that a notebook shows."""
        rules = [] if self.k is None else [f"the top {self.k} by label"]
        rules += [] if self.threshold is None else [f"labels of at least {self.threshold:g}"]
        truth = " among ".join(rules)
        whole = html_table(
            f"{self.requests:,} requests; ground truth: {truth}",
            ("cascade", "mean", "low", "high", "requests"),
            ((n, s.mean, s.low, s.high, s.requests) for n, s in self.metrics.items()),
        )
        stages = html_table(
            "stages",
            ("stage", "quota", "recall alone", "survival", "lost", "ceiling if perfect"),
            (
                (n, s.quota, s.recall.mean, s.survival.mean, s.lost.mean, s.ceiling_if_perfect.mean)
                for n, s in self.stages.items()
            ),
            notes=" ".join(self.notes),
        )
        return whole + stages

    def to_json(self) -> dict[str, object]:
        """Return a JSON-compatible dict without NaN; its keys are stable."""
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
        """Return the report from the output of :meth:`to_json`, without the values per request."""
        return cls(
            requests=data["requests"],
            without_ground_truth=data["without_ground_truth"],
            k=data["ground_truth"]["k"],
            threshold=data["ground_truth"]["threshold"],
            bootstrap=data["bootstrap"]["resamples"],
            confidence=data["bootstrap"]["confidence"],
            metrics={name: Summary.from_json(plain) for name, plain in data["metrics"].items()},
            stages={name: _stage_from_json(plain) for name, plain in data["stages"].items()},
            notes=tuple(data["notes"]),
        )


def _stage_to_json(stage: StageReport) -> dict[str, object]:
    summaries: dict[str, Summary | None] = {name: getattr(stage, name) for name in STAGE_METRICS}
    return {
        "quota": stage.quota,
        **{name: None if x is None else x.to_json() for name, x in summaries.items()},
        ALL_CANDIDATES: {n: summary.to_json() for n, summary in stage.over_all_candidates.items()},
    }


def _stage_from_json(data: Mapping[str, Any]) -> StageReport:
    standard = {name: data[name] and Summary.from_json(data[name]) for name in STAGE_METRICS}
    # Reports of version 0.2 have the second key.
    additional = data.get(ALL_CANDIDATES, data.get("metrics", {}))
    return StageReport(
        quota=data["quota"],
        over_all_candidates={name: Summary.from_json(x) for name, x in additional.items()},
        **standard,
    )
