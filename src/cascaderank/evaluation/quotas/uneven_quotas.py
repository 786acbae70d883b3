"""Uneven quotas: requests keep different numbers of candidates, by a rule with a mean budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError
from cascaderank.evaluation.quotas.request_block import Block, Floats, Integers
from cascaderank.evaluation.quotas.scored_requests import ScoredRequests
from cascaderank.evaluation.quotas.stage_costs import StageCost
from cascaderank.tensors import check_quotas

FEATURES = (
    "1",
    "z",
    "log rank",
    "z * log rank",
    "score",
    "z of the best",
    "log candidates",
    "log deviation",
    "log deviation * log rank",
)
"""Features of :class:`CutRule`; z is the score, standardised over the candidates received."""

_STEPS, _RIDGE = 50, 1e-6  # of Newton's method
_HALVINGS = 60
_FITTED = 1 << 20  # approximate number of candidates of the regression


@final
@dataclass(frozen=True, kw_only=True)
class CutRule:
    """Number of candidates that a stage keeps of a request, from its own scores.

    The value of a candidate is an estimate of its expected share of the ground truth that the
    later stages return, a logistic function of :data:`FEATURES`. It is made non-increasing in the
    rank. The stage keeps the candidates with at least a threshold, and at least ``least``.
    """

    coefficients: tuple[float, ...]
    """Coefficients of :data:`FEATURES`."""
    centre: float
    """Mean of the scores, subtracted from the feature ``score``."""
    scale: float
    """Standard deviation of the scores, the divisor of the feature ``score``."""
    threshold: float
    """Smallest value of a candidate that is kept, in [0, 1]."""
    least: int
    """Smallest number of candidates that a request keeps, if it has as many."""

    def numbers(self, scores: Floats) -> Integers:
        """Return how many candidates requests keep.

        Args:
            scores: ``[batch, list]`` scores of the stage for the candidates that it receives, in
                any order; NaN is padding.

        Returns:
            ``[batch]``, at most the number of candidates.
        """
        ranked = -np.sort(-scores, axis=1)  # NaN last
        return self.kept(self.values(ranked), (~np.isnan(scores)).sum(1))

    def values(self, ranked: Floats) -> Floats:
        """Return the value of candidates, ``[batch, list]``; -1 for padding.

        Args:
            ranked: ``[batch, list]`` scores, best first; NaN is padding.
        """
        inputs = _features(ranked, self.centre, self.scale)
        logits = inputs @ np.array(self.coefficients)
        values = np.minimum.accumulate(_logistic(logits), axis=1)
        return np.where(np.isnan(ranked), -1.0, values)

    def kept(self, values: Floats, received: Integers) -> Integers:
        """Return the number of candidates to keep, ``[batch]``.

        Args:
            values: ``[batch, list]`` values of candidates.
            received: ``[batch]`` number of candidates.
        """
        above = (values >= self.threshold).sum(1)
        return np.asarray(np.minimum(np.maximum(above, self.least), received), dtype=np.int64)


@final
@dataclass(frozen=True, kw_only=True)
class UnevenQuotas:
    """Rules of all stages but the last, which keeps the same number for every request."""

    rules: tuple[CutRule, ...]
    last: int
    """Quota of the last stage."""

    def apply(self, requests: ScoredRequests, costs: Mapping[str, StageCost]) -> "UnevenResult":
        """Run the cascade with these rules.

        Args:
            requests: requests, of the same stages as those of :func:`fit_uneven_quotas`.
            costs: cost of each stage.
        """
        count = len(requests.lengths)
        recall, cost = np.zeros(count), np.zeros(count)
        kept = np.zeros((requests.stages, count), dtype=np.int64)
        for block in requests.blocks():
            alive = block.real
            for stage, of_stage in enumerate(costs.values()):
                received = alive.sum(1)
                cost[block.requests] += of_stage.of(received)
                numbers = np.minimum(received, self.last)
                if stage < len(self.rules):
                    numbers = self.rules[stage].numbers(_ranked(block, stage, alive)[0])
                alive = block.best(stage, alive, numbers)
                kept[stage, block.requests] = numbers
            recall[block.requests] = block.share(alive)
        recall[~requests.with_truth] = np.nan
        return UnevenResult(recall, cost, kept)


class UnevenResult(NamedTuple):
    """Result of uneven quotas for some requests."""

    recall: Floats
    """``[requests]`` joint recall; NaN without ground truth."""
    cost: Floats
    """``[requests]`` cost of each request."""
    kept: Integers
    """``[stages, requests]`` number of candidates that each stage keeps."""


def fit_uneven_quotas(requests: ScoredRequests, quotas: Sequence[int]) -> UnevenQuotas:
    r"""Fit rules that keep as many candidates as some quotas in the mean, but not in each request.

    For a mean number of candidates, the expected recall is highest if the candidates with the
    highest expected share of the returned ground truth are kept, whichever request they belong to:
    the rule keeps all with a share of at least a threshold :math:`\tau`. The share is estimated by
    logistic regression on :data:`FEATURES`, which a server has when the stage has scored its
    candidates:

    .. math::
        \hat w(x) = 1 / (1 + e^{-\beta x})

    Its target is the candidate's share of the ground truth if the later stages, with the given
    quotas, return it when this stage passes on all its candidates; otherwise 0. The threshold is
    the smallest with which the stage keeps, in the mean, no more than with its quota. Stages are
    fitted one after the other, on the candidates that the rules before them keep.

    Args:
        requests: requests to fit on, at least one with ground truth.
        quotas: even quotas, one per stage; their means are the budget of each stage.

    Raises:
        ShapeError: if there is not one quota per stage.
        ConfigError: if quotas increase, or there is one stage.

    Source: this project; a threshold on the expected gain is the optimal allocation under a linear
    cost (Neyman and Pearson 1933). Requests of different computation: DCAF (arXiv 2006.09684).
    """
    quotas = check_quotas(quotas, stages=requests.stages)
    if len(quotas) < 2:
        raise ConfigError("uneven quotas need at least two stages; got one")
    rules: list[CutRule] = []
    for stage in range(len(quotas) - 1):
        rules.append(_fitted(requests, rules, stage, quotas))
    return UnevenQuotas(rules=tuple(rules), last=quotas[-1])


def _fitted(
    requests: ScoredRequests, rules: Sequence[CutRule], stage: int, quotas: Sequence[int]
) -> CutRule:
    """Fit the rule of a stage on the candidates that the rules of earlier stages keep."""
    lists, targets = [], []
    even = 0
    for block in requests.blocks():
        alive = _alive(block, rules)
        even += int(np.minimum(block.lengths, quotas[stage]).sum())
        ranked, order = _ranked(block, stage, alive)
        returned = alive
        for later, quota in enumerate(quotas[stage + 1 :], start=stage + 1):
            returned = block.best(later, returned, np.full(len(alive), quota))
        share = np.zeros(alive.shape)
        share[block.target_rows, block.target_columns] = block.weights
        lists.append(ranked)
        targets.append(np.take_along_axis(share * returned, order, axis=1))
    scores = np.concatenate([ranked[~np.isnan(ranked)] for ranked in lists])
    centre, scale = float(scores.mean()), float(scores.std()) or 1.0
    coefficients = _regression(lists, targets, centre, scale)
    rule = CutRule(
        coefficients=tuple(coefficients.tolist()),
        centre=centre,
        scale=scale,
        threshold=0.0,
        least=quotas[-1],
    )
    values = [rule.values(ranked) for ranked in lists]
    received = [(~np.isnan(ranked)).sum(1) for ranked in lists]

    low, high = 0.0, 1.0  # at 1 a request keeps `least`, which is at most its quota
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        trial = replace(rule, threshold=middle)
        kept = sum(int(trial.kept(v, n).sum()) for v, n in zip(values, received, strict=True))
        low, high = (middle, high) if kept > even else (low, middle)
    return replace(rule, threshold=high)


def _alive(block: Block, rules: Sequence[CutRule]) -> NDArray[np.bool_]:
    """Return the candidates that some rules keep, ``[block, list]``."""
    alive = block.real
    for stage, rule in enumerate(rules):
        alive = block.best(stage, alive, rule.numbers(_ranked(block, stage, alive)[0]))
    return alive


def _ranked(block: Block, stage: int, alive: NDArray[np.bool_]) -> tuple[Floats, Integers]:
    """Return the scores of candidates that are alive, best first, and the order; NaN is padding."""
    order = block.order[stage]
    in_order = np.take_along_axis(alive, order, axis=1)
    first = np.argsort(~in_order, axis=1, kind="stable")[:, : int(alive.sum(1).max(initial=0))]
    order = np.take_along_axis(order, first, axis=1)
    scores = np.take_along_axis(block.scores[stage], order, axis=1).astype(np.float64)
    real = np.take_along_axis(in_order, first, axis=1)
    return np.where(real, scores, np.nan), order


def _features(ranked: Floats, centre: float, scale: float) -> Floats:
    """Return the features of candidates, ``[batch, list, features]``; 0 for padding."""
    real = ~np.isnan(ranked)
    count = np.maximum(real.sum(1, keepdims=True), 1)
    scores = np.where(real, ranked, 0.0)
    mean = scores.sum(1, keepdims=True) / count
    deviation = np.sqrt((np.where(real, scores - mean, 0.0) ** 2).sum(1, keepdims=True) / count)
    z = np.where(real, scores - mean, 0.0) / np.where(deviation == 0, 1.0, deviation)
    rank = np.broadcast_to(np.log1p(np.arange(ranked.shape[1])), ranked.shape)
    spread = np.broadcast_to(np.log(np.maximum(deviation / scale, 1e-6)), z.shape)
    columns = [
        np.ones_like(z),
        z,
        rank,
        z * rank,
        (scores - centre) / scale,
        np.broadcast_to(z[:, :1], z.shape),
        np.broadcast_to(np.log(count), z.shape),
        spread,
        spread * rank,
    ]
    return np.where(real[..., None], np.stack(columns, axis=-1), 0.0)


def _regression(
    lists: Sequence[Floats], targets: Sequence[Floats], centre: float, scale: float
) -> Floats:
    """Fit the logistic regression by Newton's method; targets are shares in [0, 1]."""
    beta = np.zeros(len(FEATURES))
    # Of many candidates, those of every n-th request suffice for a few coefficients.
    every = -(-sum(ranked.size for ranked in lists) // _FITTED)
    parts = [
        (_features(ranked[::every], centre, scale)[real], target[::every][real])
        for ranked, target in zip(lists, targets, strict=True)
        for real in [~np.isnan(ranked[::every])]
    ]
    mean = sum(float(y.sum()) for _, y in parts) / sum(len(y) for _, y in parts)
    beta[0] = np.log(max(mean, 1e-12) / max(1 - mean, 1e-12))
    for _ in range(_STEPS):
        gradient, hessian = -_RIDGE * beta, _RIDGE * np.eye(len(beta))
        for x, y in parts:
            p = _logistic(x @ beta)
            gradient += x.T @ (y - p)
            hessian += (x * (p * (1 - p))[:, None]).T @ x
        step = np.linalg.solve(hessian, gradient)
        beta += step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-300))
        if np.abs(step).max() < 1e-6:
            break
    return beta


def _logistic(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-np.clip(x, -500, 500)))
