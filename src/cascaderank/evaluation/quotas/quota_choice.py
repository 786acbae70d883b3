"""The best vector of quotas under a budget, and the front of recall against cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation.quotas.quota_sweep import (
    QuotaRecalls,
    quota_grids,
    quota_recalls,
)
from cascaderank.evaluation.quotas.request_block import Integers
from cascaderank.evaluation.quotas.scored_requests import ScoredRequests
from cascaderank.evaluation.quotas.stage_costs import CostTable
from cascaderank.progress import Progress, Silent

_ROUNDS, _REFINED = 8, 150  # of refinement, and approximate number of vectors in each


@final
@dataclass(frozen=True, kw_only=True)
class QuotaPoint:
    """A vector of quotas with its cost and recall."""

    quotas: tuple[int, ...]
    """Number of candidates that each stage keeps, first stage first."""
    cost: float
    """Mean cost of a request."""
    recall: float
    """Mean joint recall of the requests that the vector was chosen on."""


@final
@dataclass(frozen=True, kw_only=True)
class Goal:
    """What to optimise: the recall under a budget, or the cost of a recall."""

    kind: Literal["budget", "recall"]
    value: float
    """Largest mean cost of a request, or smallest mean joint recall."""

    def __post_init__(self) -> None:
        """Check the value.

        Raises:
            ConfigError: if it is no positive number, or a recall above 1.
        """
        most = 1.0 if self.kind == "recall" else math.inf
        if not 0 < self.value <= most or math.isinf(self.value):
            allowed = "above 0 and at most 1" if self.kind == "recall" else "positive and finite"
            raise ConfigError(f"the {self.kind} must be {allowed}; got {self.value:g}")

    def best(self, front: Sequence[QuotaPoint]) -> QuotaPoint | None:
        """Return the best point of a front; ``None`` if no point reaches the goal."""
        if self.kind == "budget":
            return next((p for p in reversed(front) if p.cost <= self.value * (1 + 1e-9)), None)
        return next((p for p in front if p.recall >= self.value - 1e-12), None)


def quota_front(recalls: QuotaRecalls, costs: CostTable) -> tuple[QuotaPoint, ...]:
    """Return the Pareto front: the vectors of quotas that no other vector dominates.

    A vector dominates another if its cost is not higher and its recall not lower, and one of them
    is better. Of several vectors with the same cost and recall, the first is returned.

    Args:
        recalls: recalls of all vectors.
        costs: table of costs, at least to the longest list.

    Returns:
        Points in ascending order of cost, and of recall.

    Raises:
        ShapeError: if the table of costs is shorter.
    """
    size = recalls.recalls.shape[1]
    if costs.by_quota.shape[1] < size:
        raise ShapeError(
            f"costs must have quotas up to {size - 1}; got {costs.by_quota.shape[1] - 1}"
        )
    cost = costs.of_recalls(recalls.leading)[:, :size]
    valid = np.flatnonzero(~np.isnan(recalls.recalls.ravel()))
    x, y = cost.ravel()[valid], recalls.recalls.ravel()[valid]
    order = np.lexsort((-y, x))
    before = np.maximum.accumulate(np.concatenate([[-np.inf], y[order][:-1]]))
    # Sums of the same numbers in another order may differ in the last digits.
    better = order[y[order] > before + 1e-12]
    vectors, quotas = np.unravel_index(valid[better], recalls.recalls.shape)
    return tuple(
        QuotaPoint(
            quotas=recalls.quotas(int(v), int(q)), cost=float(cost[v, q]), recall=float(y[i])
        )
        for v, q, i in zip(vectors, quotas, better, strict=True)
    )


@final
@dataclass(frozen=True, kw_only=True)
class QuotaChoice:
    """Best vector of quotas for a goal, chosen on some requests."""

    best: QuotaPoint | None
    """``None`` if no vector reaches the goal."""
    front: tuple[QuotaPoint, ...]
    """Pareto front over the evaluated vectors, in ascending order of cost; at least one point."""
    evaluated: int
    """Number of vectors that were evaluated."""
    exhaustive: bool
    """Whether all vectors of integers were evaluated; otherwise, all quotas of the last stage but
    one for a grid of the earlier ones, which is refined to integers around the best vector."""


def choose_quotas(
    requests: ScoredRequests,
    costs: CostTable,
    goal: Goal,
    *,
    last: int,
    values: int = 40,
    present: Sequence[int] = (),
    progress: Progress | None = None,
) -> QuotaChoice:
    """Choose the quotas with the highest recall under a budget, or the cheapest of a recall.

    The quota of the last stage is the length of the final list. It is given: it has no cost, so a
    longer list would always be better. The other quotas are chosen from all vectors of
    :func:`quota_recalls`. If their grid does not have all integers, the integers between the
    neighbours of the best vector in the grid are evaluated too, repeatedly, until the gaps are 1.

    Args:
        requests: requests to choose on.
        costs: mean cost of each stage over the same requests, to their longest list.
        goal: budget or recall.
        last: quota of the last stage.
        values: number of quotas per stage of the grid, see :func:`quota_grids`.
        present: quotas that the grid must have, one per stage.
        progress: receives the number of blocks of requests done.

    Raises:
        ConfigError: if a number is out of range, or there is no stage.

    Examples:
        >>> import torch
        >>> from cascaderank.evaluation.quotas.stage_costs import StageCost
        >>> scores = torch.tensor([[[4.0, 3.0, 2.0, 1.0]], [[1.0, 2.0, 4.0, 3.0]]])
        >>> requests = ScoredRequests.of(scores, torch.tensor([[0.0, 0.0, 1.0, 0.0]]), k=1)
        >>> each = StageCost(candidates=(0, 1), costs=(0.0, 1.0))
        >>> costs = CostTable.of({"one": each, "two": each}, requests.lengths, longest=4)
        >>> choose_quotas(requests, costs, Goal(kind="budget", value=8), last=1).best
        QuotaPoint(quotas=(3, 1), cost=7.0, recall=1.0)

    Source: this project.
    """
    if requests.stages == 1:
        recall = float(np.nanmean(requests.recall((last,))))
        only = QuotaPoint(quotas=(last,), cost=costs.of_quotas((last,)), recall=recall)
        best = goal.best((only,))
        return QuotaChoice(best=best, front=(only,), evaluated=1, exhaustive=True)
    grids = quota_grids(requests, last=last, values=values, present=present)
    recalls = _recalls(requests, last, grids, progress)
    front = quota_front(recalls, costs)
    best, evaluated = goal.best(front), int((~np.isnan(recalls.recalls)).sum())
    longest = max(requests.longest, last)
    exhaustive = all(len(grid) == longest - last + 1 for grid in grids)
    for _ in range(_ROUNDS):
        if best is None:
            break
        around = [_around(grid, q) for grid, q in zip(grids, best.quotas, strict=False)]
        gaps = [max(q - a, b - q) for (a, b), q in zip(around, best.quotas, strict=False)]
        if max(gaps, default=0) <= 1:
            break
        most = max(3, min(values, int(_REFINED ** (1 / len(grids)))))
        grids = [_finer(a, b, q, most) for (a, b), q in zip(around, best.quotas, strict=False)]
        recalls = _recalls(requests, last, grids, progress)
        evaluated += int((~np.isnan(recalls.recalls)).sum())
        front = _joined(front, quota_front(recalls, costs))
        best = goal.best(front)
    return QuotaChoice(best=best, front=front, evaluated=evaluated, exhaustive=exhaustive)


def _around(grid: Integers, quota: int) -> tuple[int, int]:
    """Return the neighbours of a quota in a grid; the quota itself at an end."""
    place = int(grid.searchsorted(quota))
    after = place + int(place < len(grid) and grid[place] == quota)
    return int(grid[max(place - 1, 0)]), int(grid[min(after, len(grid) - 1)])


def _finer(low: int, high: int, quota: int, most: int) -> Integers:
    between = np.linspace(low, high, min(high - low + 1, most))
    return np.unique([*np.rint(between).astype(np.int64), quota])


def _recalls(
    requests: ScoredRequests, last: int, grids: Sequence[Integers], progress: Progress | None
) -> QuotaRecalls:
    bar = progress or Silent()
    bar.start("quotas", requests.number_of_blocks)
    recalls = quota_recalls(requests, last=last, grids=grids, progress=bar.advance)
    bar.stop()
    return recalls


def _joined(*fronts: Sequence[QuotaPoint]) -> tuple[QuotaPoint, ...]:
    """Return the Pareto front of the points of several fronts."""
    points = sorted((p for front in fronts for p in front), key=lambda p: (p.cost, -p.recall))
    joined: list[QuotaPoint] = []
    for point in points:
        if not joined or point.recall > joined[-1].recall + 1e-12:
            joined.append(point)
    return tuple(joined)
