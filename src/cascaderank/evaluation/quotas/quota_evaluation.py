"""Choose quotas on some requests and evaluate them on others, with the alternatives."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from cascaderank.errors import ConfigError, ShapeError, counted
from cascaderank.evaluation.quotas.quota_choice import (
    Goal,
    QuotaChoice,
    QuotaPoint,
    choose_quotas,
)
from cascaderank.evaluation.quotas.quota_report import (
    EvaluatedQuotas,
    QuotaReport,
    UnevenReport,
)
from cascaderank.evaluation.quotas.request_block import Floats
from cascaderank.evaluation.quotas.scored_requests import ScoredRequests
from cascaderank.evaluation.quotas.stage_costs import CostTable, StageCost, Unit
from cascaderank.evaluation.quotas.uneven_quotas import fit_uneven_quotas
from cascaderank.evaluation.statistics.bootstrap import Summary, bootstrap_intervals
from cascaderank.progress import Progress
from cascaderank.tensors import check_quotas

_POINTS = 40  # of the front that are evaluated on test requests
_QUANTILES = (0.1, 0.5, 0.9)
_FEW = 100  # validation requests; fewer have a note
_NAMES = {"products": "multiply-adds", "ms": "ms"}


def report_quotas(
    validation: ScoredRequests,
    test: ScoredRequests,
    costs: Mapping[str, StageCost],
    *,
    present: Sequence[int],
    unit: Unit,
    goal: Goal | None = None,
    values: int = 40,
    keep: Sequence[str] = (),
    bootstrap: int = 1000,
    seed: int = 0,
    notes: Sequence[str] = (),
    progress: Progress | None = None,
) -> QuotaReport:
    """Choose quotas on validation requests, and evaluate them on test requests.

    Args:
        validation: requests to choose on.
        test: other requests, scored by the same stages.
        costs: cost of each stage by name, first stage first; at least two stages.
        present: present quotas, one per stage. The last one is that of all vectors.
        unit: unit of the costs.
        goal: budget or recall; by default the mean cost of the present quotas.
        values: number of quotas per stage of the grid, see
            :func:`~cascaderank.evaluation.quotas.quota_grids`.
        keep: stages that cannot be left out, such as those that another stage reads.
        bootstrap: number of bootstrap replicates of the intervals; 0 for no intervals.
        seed: random seed of the bootstrap.
        notes: limits of the result.
        progress: receives the number of blocks of requests done.

    Raises:
        ConfigError: if there is one stage, or no vector of quotas reaches the goal; the message has
            the cheapest quotas, or those with the highest recall.
        ShapeError: if there is not one cost and one present quota per stage.

    Examples:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> labels = torch.randn(200, 30)
        >>> scores = labels + torch.randn(2, 200, 30) * torch.tensor([1.0, 0.2])[:, None, None]
        >>> requests = ScoredRequests.of(scores, labels, k=5)
        >>> costs = {
        ...     "retrieval": StageCost(candidates=(0, 1), costs=(0.0, 1.0)),
        ...     "ranking": StageCost(candidates=(0, 1), costs=(0.0, 10.0)),
        ... }
        >>> goal = Goal(kind="recall", value=0.85)
        >>> report = report_quotas(
        ...     requests, requests, costs, present=(20, 5), unit="products", goal=goal
        ... )
        >>> report.best.quotas, report.best.cost
        ((18, 5), 210.0)

    Source: this project.
    """
    present = check_quotas(present, stages=len(costs))
    if not len(costs) == validation.stages == test.stages:
        raise ShapeError(
            f"one cost per stage: got {len(costs)} costs for {validation.stages} and "
            f"{test.stages} stages"
        )
    if len(costs) < 2:
        raise ConfigError(
            "quotas need at least two stages: the quota of the last stage is the length of the "
            "final list, which has no cost; got one stage"
        )
    longest, last = max(validation.longest, present[-1]), present[-1]
    table = CostTable.of(costs, validation.lengths, longest=longest)
    goal = goal or Goal(kind="budget", value=table.of_quotas(present))
    choice = choose_quotas(
        validation, table, goal, last=last, values=values, present=present, progress=progress
    )
    best = choice.best
    if best is None:
        raise ConfigError(unreachable(choice, goal, unit))
    shown = thinned(choice.front, best, points=_POINTS)
    now = QuotaPoint(
        quotas=present,
        cost=table.of_quotas(present),
        recall=float(np.nanmean(validation.recall(present))),
    )
    tested = _TestRequests(test, bootstrap=bootstrap, seed=seed)
    recalls = test.recalls([p.quotas for p in (now, best, *shown)])
    points = tested.points((now, best, *shown), recalls, recalls[0])
    without: dict[str, EvaluatedQuotas | None] = {}
    for stage, name in enumerate(costs):
        if name in keep:
            continue
        others = {n: cost for n, cost in costs.items() if n != name}
        shorter = choose_quotas(
            validation.without(stage),
            CostTable.of(others, validation.lengths, longest=longest),
            goal,
            last=last,
            values=values,
            progress=progress,
        ).best
        without[name] = None
        if shorter is not None:
            recall = test.without(stage).recalls([shorter.quotas])
            without[name] = tested.points((shorter,), recall, recalls[1])[0]
    return QuotaReport(
        stages=tuple(costs),
        unit=unit,
        goal=goal,
        validation=len(validation.lengths),
        requests=len(test.lengths),
        evaluated=choice.evaluated,
        exhaustive=choice.exhaustive,
        present=points[0],
        best=points[1],
        front=points[2:],
        without=without,
        uneven=_uneven(validation, test, costs, choice, best, tested),
        costs=dict(costs),
        notes=(
            *notes,
            *_few(validation, present),
            *_not_confirmed(points[0], points[1]),
            *_cheaper_without(points[1], without, goal, unit),
        ),
    )


def _few(validation: ScoredRequests, quotas: Sequence[int]) -> list[str]:
    """Return a note if the recall that quotas were chosen by is that of few requests."""
    decided = int((~np.isnan(validation.recall(quotas))).sum())
    if decided >= _FEW:
        return []
    of_these = counted(decided, "validation request")
    return [f"chosen on only {of_these} with ground truth; other requests may need other quotas"]


def _not_confirmed(present: EvaluatedQuotas, best: EvaluatedQuotas) -> list[str]:
    """Return a note if the best quotas are worse on the test requests, but not on validation."""
    if best.recall < present.recall or not best.gain.high < 0:  # high is NaN without intervals
        return []
    return [
        "the choice did not hold on the test requests: the recall of the best quotas is below that "
        "of the present ones"
    ]


def _cheaper_without(
    best: EvaluatedQuotas, without: Mapping[str, EvaluatedQuotas | None], goal: Goal, unit: Unit
) -> list[str]:
    """Return a note if fewer stages reach the goal better, with the best stage to leave out."""
    others = {name: point for name, point in without.items() if point is not None}
    if goal.kind == "recall":
        name = min(others, key=lambda n: others[n].cost, default=None)
        if name is None or others[name].cost >= best.cost:
            return []
        found = (
            f"the same goal costs {_number(others[name].cost)} instead of {_number(best.cost)} "
            f"{_NAMES[unit]} per request"
        )
    else:
        name = min(others, key=lambda n: (-others[n].recall, others[n].cost), default=None)
        if name is None or (-others[name].recall, others[name].cost) >= (-best.recall, best.cost):
            return []
        found = (
            f"the recall on validation is {others[name].recall:.4f} instead of {best.recall:.4f}, "
            f"for {_number(others[name].cost)} instead of {_number(best.cost)} {_NAMES[unit]} per "
            "request"
        )
    return [f"without {name}, {found}; see 'Without a stage'"]


_Point = TypeVar("_Point", QuotaPoint, EvaluatedQuotas)


def thinned(front: Sequence[_Point], best: _Point, *, points: int) -> tuple[_Point, ...]:
    """Return points of a front at about equal ratios of cost, with both ends and the best one.

    Args:
        front: points in ascending order of cost.
        best: one of them.
        points: approximate number of points to return.
    """
    costs = np.array([point.cost for point in front])
    low, high = max(costs[0], 1e-300), max(costs[-1], 1e-300)
    levels = np.geomspace(low, high, points)
    chosen = {0, len(front) - 1, front.index(best)}
    chosen |= set((np.maximum(costs.searchsorted(levels, side="right"), 1) - 1).tolist())
    return tuple(front[i] for i in sorted(chosen))


def unreachable(choice: QuotaChoice, goal: Goal, unit: Unit) -> str:
    """Return the message for a goal that no vector of quotas reaches."""
    name = _NAMES[unit]
    nearest = choice.front[0 if goal.kind == "budget" else -1]
    quotas = ", ".join(map(str, nearest.quotas))
    if goal.kind == "budget":
        return (
            f"no quotas cost at most {_number(goal.value)} {name} per request; the cheapest, "
            f"{quotas}, cost {_number(nearest.cost)} {name}, with a recall of "
            f"{nearest.recall:.4f}; set a larger budget"
        )
    return (
        f"no quotas have a recall of {goal.value:g} on the validation requests; the highest, "
        f"{nearest.recall:.4f}, is that of {quotas}, which cost {_number(nearest.cost)} {name} per "
        "request; set a lower recall, or train with a larger last quota"
    )


def _number(cost: float) -> str:
    return f"{cost:,.6g}" if cost < 999_999 else f"{cost:,.0f}"  # no exponent


class _TestRequests:
    """Intervals of test requests."""

    def __init__(self, test: ScoredRequests, *, bootstrap: int, seed: int) -> None:
        self.requests, self._options = test, {"resamples": bootstrap, "seed": seed}

    def summaries(self, columns: Mapping[str, Floats]) -> dict[str, Summary]:
        return bootstrap_intervals(columns, **self._options)

    def points(
        self, points: Sequence[QuotaPoint], recalls: Floats, reference: Floats
    ) -> tuple[EvaluatedQuotas, ...]:
        columns = {f"test {i}": recall for i, recall in enumerate(recalls)}
        columns |= {f"gain {i}": recall - reference for i, recall in enumerate(recalls)}
        found = self.summaries(columns)
        return tuple(
            EvaluatedQuotas(
                quotas=point.quotas,
                cost=point.cost,
                recall=point.recall,
                test=found[f"test {i}"],
                gain=found[f"gain {i}"],
            )
            for i, point in enumerate(points)
        )


def _uneven(
    validation: ScoredRequests,
    test: ScoredRequests,
    costs: Mapping[str, StageCost],
    choice: QuotaChoice,
    best: QuotaPoint,
    tested: _TestRequests,
) -> UnevenReport:
    """Fit uneven quotas on the validation requests, and compare them with the front."""
    rule = fit_uneven_quotas(validation, best.quotas)
    result = rule.apply(test, costs)
    table = CostTable.of(costs, test.lengths, longest=max(test.longest, best.quotas[-1]))
    cost, front = float(result.cost.mean()), choice.front
    lower = max((i for i, p in enumerate(front) if table.of_quotas(p.quotas) <= cost), default=0)
    upper = min(lower + 1, len(front) - 1)
    low, high = (table.of_quotas(front[i].quotas) for i in (lower, upper))
    part = min(max((cost - low) / (high - low), 0.0), 1.0) if high > low else 0.0
    neighbours = test.recalls([front[lower].quotas, front[upper].quotas])
    even = (1 - part) * neighbours[0] + part * neighbours[1]
    found = tested.summaries({"test": result.recall, "even": even, "gain": result.recall - even})
    quantiles = np.quantile(result.kept[:-1], _QUANTILES, axis=1, method="nearest").T
    return UnevenReport(
        rule=rule,
        cost=cost,
        budget=table.of_quotas(best.quotas),
        kept=tuple((int(a), int(b), int(c)) for a, b, c in quantiles),
        **found,
    )
