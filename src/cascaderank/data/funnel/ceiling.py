"""Best joint recall that a cascade can reach on the log of a synthetic funnel."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.funnel.funnel_settings import FunnelSettings
from cascaderank.data.funnel.traffic import Block, deviation
from cascaderank.data.funnel.world import Floats

Mask = NDArray[np.bool_]

_POINTS = 64  # quadrature points per candidate
_STEPS = np.linspace(-6, 6, 241, dtype=np.float32)  # grid of estimates, which have variance 1
_CELLS = 1 << 16  # values computed at a time, so that intermediate arrays fit the CPU cache


def planted_scores(settings: FunnelSettings, block: Block) -> Floats:
    r"""Return the posterior probability of being ground truth, given the features of each stage.

    The features of a stage reveal some parts of a candidate's utility exactly, and estimates of
    others. The best score of a logged candidate is its posterior probability of the top level:

    .. math::
        P(\text{top} \mid \text{seen}) = \frac{E \prod_g p_g}
            {E \prod_g p_g + \sum_g r_g E (1 - p_g) \prod_{h<g} p_h}, \qquad
        p_g = \sigma\left(\frac{m_g - c_g}{s}\right)

    Logging stage :math:`g` ranks by the score :math:`m_g` plus logistic noise of scale :math:`s`.
    Its cut-off in this request is :math:`c_g`, and :math:`r_g` is the fraction of the dropped
    candidates that is logged. The expectation is over the parts in :math:`m_g` that the features
    do not reveal. It is computed by quadrature over the quantiles of these parts before any logging
    stage, conditional on the estimate if the stage has one. The posterior thus accounts for the
    selection by earlier logging stages, also where the features do not reveal what they ranked by.

    Args:
        settings: settings of the funnel.
        block: requests of the funnel.

    Returns:
        ``[stages, requests, list]`` probabilities in [0, 1]; undefined outside the mask.

    Source: this project.
    """
    return np.stack([best_score(settings, block, shares) for shares in settings.knowledge])


def best_score(settings: FunnelSettings, block: Block, shares: Sequence[float]) -> Floats:
    """Return the posterior probability of being ground truth, given a knowledge of the parts.

    Args:
        settings: settings of the funnel.
        block: requests of the funnel.
        shares: known fraction of the variance of each part; a fraction other than 0 and 1 must be
            that of the part's estimate.

    Returns:
        ``[requests, list]`` probabilities in [0, 1], see :func:`planted_scores`.
    """
    cuts, rates = (x[:, :, None, None] for x in (block.choice.cuts, block.choice.rates))
    scores: Floats = np.empty(block.items.shape, np.float32)
    seen = [part for part, share in enumerate(shares) if share == 1]
    points = _points(block.prior, {p: s for p, s in enumerate(shares) if s < 1})
    size = max(1, _CELLS // (_POINTS * scores.shape[1] if points else scores.shape[1]))
    for start in range(0, len(block.user), size):
        rows = slice(start, start + size)
        values = {part: block.parts[part, rows, :, None] for part in seen}
        for part, table in points.items():
            estimates = block.estimates[part][rows] if len(table) > 1 else None
            quantiles = table[0] if estimates is None else _between(table, estimates)
            values[part] = block.factors[part, rows, :, None] * quantiles
        scores[rows] = _posterior(settings, values, cuts[:, rows], rates[:, rows])
    return scores


def _posterior(
    settings: FunnelSettings, values: Mapping[int, Floats], cuts: Floats, rates: Floats
) -> Floats:
    """Return the posterior probability of the top level, ``[requests, list]``.

    Args:
        settings: settings of the funnel.
        values: values of each part: ``[requests, list, 1]`` if it is known, quadrature points
            ``[requests, list, points]`` otherwise.
        cuts: ``[logging stages, requests, 1, 1]`` cut-offs.
        rates: fractions of dropped candidates that are logged, shaped like ``cuts``.
    """
    reached = np.ones((1, 1, 1), np.float32)
    share, logged = np.float32(1), np.float32(0)
    for ranked_by, cut, rate in zip(settings.logging_parts, cuts, rates, strict=True):
        passed = (cut - sum(values[part] for part in ranked_by)) / settings.noise_scale
        with np.errstate(over="ignore"):  # infinity is correct here: its inverse is 0
            np.exp(passed, out=passed)
        passed += 1
        reached = reached / passed
        before, share = share, reached.mean(-1)
        logged = logged + rate[..., 0] * (before - share)
    posterior: Floats = share / np.maximum(share + logged, np.finfo(np.float32).tiny)
    return posterior


def _points(prior: Floats, shares: Mapping[int, float]) -> dict[int, Floats]:
    """Return quadrature points over independent distributions, from a low-discrepancy lattice.

    Args:
        prior: ``[parts, values]`` samples of each part, ascending.
        shares: known fraction of the variance by part, in [0, 1).

    Returns:
        By part: ``[1, points]`` if nothing is known, else ``[steps, points]`` points conditional on
        each estimate in ``_STEPS``.

    Source: for the lattice, M. Roberts, The Unreasonable Effectiveness of Quasirandom Sequences.
    """
    ratio = 1.5
    for _ in range(30):  # the positive root of x^(parts + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (len(shares) + 1))
    steps = ratio ** -np.arange(1.0, len(shares) + 1)
    levels = (0.5 + steps[:, None] * np.arange(_POINTS)) % 1
    points = {}
    for (part, share), at in zip(shares.items(), levels, strict=True):
        if share:
            points[part] = _conditional_quantiles(prior[part], deviation(part), share, at)
        else:
            points[part] = prior[None, part, (at * prior.shape[1]).astype(int)]
    return points


def _conditional_quantiles(
    prior: Floats, scale: float, share: float, levels: NDArray[np.float64]
) -> Floats:
    """Return quantiles of a part conditional on each estimate in ``_STEPS``, ``[steps, levels]``.

    Args:
        prior: ``[values]`` samples of the part, ascending.
        scale: divisor of the part before it is estimated.
        share: fraction of the variance of the part that the estimate explains.
        levels: probabilities of the quantiles, in [0, 1).
    """
    noise = _STEPS[:, None].astype(np.float64) - share**0.5 * prior / scale
    logs = -0.5 * noise**2 / (1 - share)
    cumulative = np.exp(logs - logs.max(1, keepdims=True)).cumsum(1)
    middles = cumulative - 0.5 * np.diff(cumulative, axis=1, prepend=0)
    quantiles = [
        np.interp(levels * c[-1], m, prior) for c, m in zip(cumulative, middles, strict=True)
    ]
    return np.array(quantiles, np.float32)


def _between(table: Floats, estimates: Floats) -> Floats:
    """Interpolate the quantiles of each candidate by its estimate, ``[requests, list, points]``."""
    place = np.interp(estimates, _STEPS, np.arange(len(_STEPS), dtype=np.float32))
    low = np.minimum(place.astype(int), len(_STEPS) - 2)
    weight = (place - low)[..., None].astype(np.float32)
    values: Floats = (1 - weight) * table[low] + weight * table[low + 1]
    return values


def alive_after(scores: Floats, mask: Mask, quotas: Sequence[int]) -> Mask:
    """Return the candidates that are left after each stage of a cascade.

    Args:
        scores: ``[stages, requests, list]`` finite scores.
        mask: ``[requests, list]`` bool, ``True`` for a real candidate.
        quotas: number of candidates that each stage keeps.

    Returns:
        ``[stages, requests, list]`` bool, ``True`` for a candidate that is left.
    """
    alive, after = mask, []
    for stage_scores, quota in zip(scores, quotas, strict=True):
        keep = min(quota, mask.shape[1])
        best = np.where(alive, -stage_scores, np.inf).argpartition(keep - 1, axis=1)[:, :keep]
        kept = np.zeros_like(mask)
        np.put_along_axis(kept, best, values=True, axis=1)
        alive = alive & kept
        after.append(alive)
    return np.stack(after)


class Ceiling:
    """Accumulate, block by block, the recall of the best cascade of a synthetic funnel.

    The best cascade keeps, at every stage, the candidates with the highest posterior probability of
    being ground truth (:func:`planted_scores`), given the parts of the utility that the features of
    the stage reveal and the mechanism of the logging system. The recall is that on this log.

    - It is an upper limit for stages that score each candidate by its own features: parts are
      drawn independently, so the features of one part carry no information about another part.
    - The posterior uses the true cut-offs of the logging system in each request, and assumes that
      candidates are independent given the cut-offs. A model has to estimate the cut-offs, which
      costs almost no recall because they hardly change the order; the assumption is almost exact.
    - It is greedy: a stage keeps the candidates with the highest posterior of its own, irrespective
      of the choices of later and earlier stages. While later stages have all the knowledge of
      earlier ones (complementarity up to 0.5), a joint optimum has no measurable advantage; with
      equal knowledge it has none at all. Above 0.5 the result is the recall of stages that are
      optimal one by one, and :attr:`bound` is the limit of all cascades. Uneven knowledge makes the
      difference: a stage that keeps candidates which only the next one can rank loses recall of its
      own.
    - It is the realised value, on this log, of an expectation over the noise of the logging system.
      The recall of a model on some of the requests can exceed it by chance only.

    Args:
        settings: settings of the funnel.
    """

    def __init__(self, settings: FunnelSettings) -> None:
        self._settings = settings
        self._rng = np.random.default_rng([settings.seed, 5])
        self._requests = 0
        self._random = 0.0
        self._alone = np.zeros(settings.stages)
        self._joint = np.zeros(settings.stages)
        self._pooled = np.zeros(settings.stages)

    def add(self, block: Block) -> None:
        """Count the ground truth that the best cascade keeps in the requests of a block."""
        quotas, knowledge = self._settings.kept, self._settings.knowledge
        pooled = list(accumulate(knowledge, lambda a, b: tuple(map(max, a, b))))
        by_shares = {s: best_score(self._settings, block, s) for s in {*knowledge, *pooled}}
        # Logged candidates are ordered by level, which must not decide between equal scores.
        order = self._rng.random(block.choice.mask.shape).argsort(1)
        by_shares, mask, levels = (
            {s: np.take_along_axis(x, order, 1) for s, x in by_shares.items()},
            np.take_along_axis(block.choice.mask, order, 1),
            np.take_along_axis(block.choice.levels, order, 1),
        )
        scores = np.stack([by_shares[shares] for shares in knowledge])
        top = (levels == self._settings.stages + 1) & mask
        self._joint += (alive_after(scores, mask, quotas) & top).sum((1, 2))
        for stage, quota in enumerate(quotas):
            for counts, shares in ((self._alone, knowledge), (self._pooled, pooled)):
                kept = alive_after(by_shares[shares[stage]][None], mask, [quota])[0]
                counts[stage] += (kept & top).sum()
        self._random += float(np.minimum(quotas[-1] / mask.sum(1), 1).sum())
        self._requests += len(mask)

    @property
    def joint_recall(self) -> float:
        """Fraction of the ground truth that is left after the last stage, in [0, 1]."""
        return self.survival[-1]

    @property
    def bound(self) -> float:
        """Upper bound of the expected joint recall of every cascade, in [0, 1].

        The candidates left after a stage depend on the combined knowledge of this stage and of all
        earlier ones, and their number is at most the quota. They cannot hold more ground truth than
        the ``quota`` most probable candidates given the combined knowledge. The joint recall is at
        most the minimum of these values over the stages. Up to complementarity 0.5 the bound equals
        the minimum of :attr:`recall`.
        """
        return min(self._shares(self._pooled))

    @property
    def random_recall(self) -> float:
        """Expected joint recall of stages that keep random candidates, in [0, 1]."""
        return self._random / self._requests

    @property
    def survival(self) -> list[float]:
        """Fraction of the ground truth that is left after each stage, in [0, 1]."""
        return self._shares(self._joint)

    @property
    def recall(self) -> list[float]:
        """Fraction of the ground truth that each stage alone keeps of the whole list, in [0, 1]."""
        return self._shares(self._alone)

    def _shares(self, counts: NDArray[np.float64]) -> list[float]:
        return [float(share) for share in counts / (self._requests * self._settings.ground_truth)]
