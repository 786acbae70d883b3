"""Results of quotas: chosen on validation requests, evaluated on test requests."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import polars as pl

from cascaderank.evaluation.quotas.quota_choice import Goal
from cascaderank.evaluation.quotas.stage_costs import StageCost, Unit
from cascaderank.evaluation.quotas.uneven_quotas import UnevenQuotas
from cascaderank.evaluation.statistics.bootstrap import Summary


@final
@dataclass(frozen=True, kw_only=True)
class EvaluatedQuotas:
    """A vector of quotas with its cost and recall."""

    quotas: tuple[int, ...]
    """Number of candidates that each stage keeps, first stage first."""
    cost: float
    """Mean cost of a validation request."""
    recall: float
    """Mean joint recall of the validation requests, on which the vector was chosen."""
    test: Summary
    """Joint recall of the test requests."""
    gain: Summary
    """Paired difference of the recall of test requests to that of a reference."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        return {
            "quotas": list(self.quotas),
            "cost": self.cost,
            "recall": self.recall,
            "test": self.test.to_json(),
            "gain": self.gain.to_json(),
        }


@final
@dataclass(frozen=True, kw_only=True)
class UnevenReport:
    """Uneven quotas against even ones of the same mean cost, on the test requests."""

    rule: UnevenQuotas
    """Rules of the stages, fitted on the validation requests."""
    test: Summary
    """Joint recall."""
    even: Summary
    """Joint recall of even quotas at the same mean cost: that of the two neighbours on the front,
    mixed so that their mean cost is :attr:`cost`."""
    gain: Summary
    """Paired difference of both."""
    cost: float
    """Mean cost of a request."""
    budget: float
    """Mean cost of a request with the best even quotas, to which the rule was fitted."""
    kept: tuple[tuple[int, int, int], ...]
    """10 %, 50 % and 90 % quantiles over requests of the number of candidates that a stage keeps,
    for each stage but the last."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        return {
            "rules": [asdict(rule) for rule in self.rule.rules],
            "test": self.test.to_json(),
            "even": self.even.to_json(),
            "gain": self.gain.to_json(),
            "cost": self.cost,
            "budget": self.budget,
            "kept": [list(quantiles) for quantiles in self.kept],
        }


@final
@dataclass(frozen=True, kw_only=True)
class QuotaReport:
    """Best quotas for a goal, the front, and alternatives."""

    stages: tuple[str, ...]
    """Names of the stages, first stage first."""
    unit: Unit
    """Unit of all costs."""
    goal: Goal
    """Budget or recall."""
    validation: int
    """Number of requests that quotas were chosen on."""
    requests: int
    """Number of test requests."""
    evaluated: int
    """Number of vectors of quotas that were evaluated."""
    exhaustive: bool
    """Whether these are all vectors of integers; see
    :class:`~cascaderank.evaluation.quotas.QuotaChoice`."""
    present: EvaluatedQuotas
    """Quotas of the run; the reference of all gains but those of :attr:`without`."""
    best: EvaluatedQuotas
    """Best quotas for the goal."""
    front: tuple[EvaluatedQuotas, ...]
    """Points of the Pareto front, in ascending order of cost, the best one among them."""
    without: Mapping[str, EvaluatedQuotas | None]
    """Best quotas for the goal without a stage, with the gain over :attr:`best`; ``None`` if the
    goal cannot be reached. Stages that another stage reads are absent."""
    uneven: UnevenReport
    """Uneven quotas with the mean cost of the best even ones."""
    costs: Mapping[str, StageCost]
    """Cost of each stage by its number of candidates."""
    notes: tuple[str, ...] = ()
    """Limits of the result."""

    def marginal(self) -> tuple[float, ...]:
        """Return the recall that a unit of cost buys from each point of the front to the next.

        The recall is that of the validation requests. NaN for the last point.
        """
        pairs = zip(self.front[:-1], self.front[1:], strict=True)
        return (*((b.recall - a.recall) / (b.cost - a.cost) for a, b in pairs), math.nan)

    def frame(self) -> pl.DataFrame:
        """Return the front, the present and the best quotas as a frame, in order of cost.

        Returns:
            Columns ``kind`` (``"front"``, ``"best"`` or ``"present"``), ``quota/STAGE``, ``cost``,
            ``recall`` (validation), ``test``, ``test_low``, ``test_high``, ``gain``, ``gain_low``,
            ``gain_high``, and ``marginal`` (recall that a unit of cost buys up to the next point;
            null for the last point and for the present quotas).
        """
        rows = [
            ("best" if point == self.best else "front", point, marginal)
            for point, marginal in zip(self.front, self.marginal(), strict=True)
        ]
        rows.append(("present", self.present, math.nan))
        rows.sort(key=lambda row: row[1].cost)
        return pl.DataFrame(
            [
                {
                    "kind": kind,
                    **{f"quota/{n}": q for n, q in zip(self.stages, point.quotas, strict=True)},
                    "cost": point.cost,
                    "recall": point.recall,
                    "test": point.test.mean,
                    "test_low": point.test.low,
                    "test_high": point.test.high,
                    "gain": point.gain.mean,
                    "gain_low": point.gain.low,
                    "gain_high": point.gain.high,
                    "marginal": None if math.isnan(marginal) else marginal,
                }
                for kind, point, marginal in rows
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        marginal = [None if math.isnan(x) else x for x in self.marginal()]
        front = [
            {**point.to_json(), "marginal": x}
            for point, x in zip(self.front, marginal, strict=True)
        ]
        return {
            "stages": list(self.stages),
            "unit": self.unit,
            "goal": asdict(self.goal),
            "requests": {"validation": self.validation, "test": self.requests},
            "evaluated": self.evaluated,
            "exhaustive": self.exhaustive,
            "present": self.present.to_json(),
            "best": self.best.to_json(),
            "front": front,
            "without": {n: point and point.to_json() for n, point in self.without.items()},
            "uneven": self.uneven.to_json(),
            "costs": {name: asdict(cost) for name, cost in self.costs.items()},
            "notes": list(self.notes),
        }
