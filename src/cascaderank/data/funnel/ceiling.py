"""The best joint recall that a cascade can reach on the log of a synthetic funnel."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.funnel.settings import FunnelSettings
from cascaderank.data.funnel.traffic import Block, deviation
from cascaderank.data.funnel.world import Floats

Mask = NDArray[np.bool_]

_POINTS = 64
_STEPS = np.linspace(-6, 6, 241, dtype=np.float32)  # of estimates, which have variance 1
_CELLS = 1 << 16  # at a time, so that what is in between stays in the processor's cache


def planted_scores(settings: FunnelSettings, block: Block) -> Floats:
    r"""Return how probable each stage finds it that a candidate is ground truth.

    A stage sees some parts of a candidate's utility, perhaps estimates of others, and no more. What
    it could know at best about a candidate that was logged is

    .. math::
        P(\text{top} \mid \text{seen}) = \frac{E \prod_g p_g}
            {E \prod_g p_g + \sum_g r_g E (1 - p_g) \prod_{h<g} p_h}, \qquad
        p_g = \sigma\left(\frac{m_g - c_g}{s}\right)

    where logging stage :math:`g` gives a candidate the score :math:`m_g` plus logistic noise of
    scale :math:`s`, cuts at :math:`c_g` in this request, and :math:`r_g` is the share of what it
    dropped that was logged. The expectation is over the parts in :math:`m_g` that the stage does
    not see, by quadrature with the quantiles they have before any logging stage, given the
    estimate if the stage sees one. So a stage that does not know what an earlier one chose by
    does know that the candidate was chosen.

    Args:
        settings: of the funnel.
        block: some of its requests.

    Returns:
        ``[stages, requests, list]`` in [0, 1]; what lies outside the mask means nothing.

    Source: this project.
    """
    return np.stack([best_score(settings, block, shares) for shares in settings.knowledge])


def best_score(settings: FunnelSettings, block: Block, shares: Sequence[float]) -> Floats:
    """Return how probable it is that a candidate is ground truth, for who knows these shares.

    Args:
        settings: of the funnel.
        block: some of its requests.
        shares: of the variance of each part; what is not 0 or 1 must be that of its estimate.

    Returns:
        ``[requests, list]``: see :func:`planted_scores`.
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
            values[part] = table[0] if estimates is None else _between(table, estimates)
        scores[rows] = _posterior(settings, values, cuts[:, rows], rates[:, rows])
    return scores


def _posterior(
    settings: FunnelSettings, values: Mapping[int, Floats], cuts: Floats, rates: Floats
) -> Floats:
    """Return the probability of the top level, ``[requests, list]``.

    Args:
        settings: of the funnel.
        values: of each part: ``[requests, list, 1]`` if it is seen, ``[points]`` if nothing is
            known of it, ``[requests, list, points]`` if an estimate is.
        cuts: ``[logging stages, requests, 1, 1]``.
        rates: as ``cuts``.
    """
    reached = np.ones((1, 1, 1), np.float32)
    share, logged = np.float32(1), np.float32(0)
    for known, cut, rate in zip(settings.logging_parts, cuts, rates, strict=True):
        passed = (cut - sum(values[part] for part in known)) / settings.noise_scale
        with np.errstate(over="ignore"):  # whose inverse is the 0 that it should be
            np.exp(passed, out=passed)
        passed += 1
        reached = reached / passed
        before, share = share, reached.mean(-1)
        logged = logged + rate[..., 0] * (before - share)
    posterior: Floats = share / np.maximum(share + logged, np.finfo(np.float32).tiny)
    return posterior


def _points(prior: Floats, shares: Mapping[int, float]) -> dict[int, Floats]:
    """Return points spread evenly over independent distributions, by part.

    Args:
        prior: ``[parts, values]``: rising values of each.
        shares: of the variance that is known, by part, in [0, 1).

    Returns:
        ``[1, points]`` if nothing is known, else ``[steps, points]``: given that the estimate is
        each of ``_STEPS``.

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
    """Return quantiles of a part given each of the estimates in ``_STEPS``, ``[steps, levels]``.

    Args:
        prior: ``[values]``, rising.
        scale: what the part is divided by before it is estimated.
        share: of its variance that the estimate tells.
        levels: in [0, 1).
    """
    away = _STEPS[:, None].astype(np.float64) - share**0.5 * prior / scale
    logs = -0.5 * away**2 / (1 - share)
    chances = np.exp(logs - logs.max(1, keepdims=True)).cumsum(1)
    middles = chances - 0.5 * np.diff(chances, axis=1, prepend=0)
    quantiles = [np.interp(levels * c[-1], m, prior) for c, m in zip(chances, middles, strict=True)]
    return np.array(quantiles, np.float32)


def _between(table: Floats, estimates: Floats) -> Floats:
    """Look up quantiles of each candidate by its estimate, ``[requests, list, points]``."""
    place = np.interp(estimates, _STEPS, np.arange(len(_STEPS), dtype=np.float32))
    low = np.minimum(place.astype(int), len(_STEPS) - 2)
    weight = (place - low)[..., None].astype(np.float32)
    values: Floats = (1 - weight) * table[low] + weight * table[low + 1]
    return values


def alive_after(scores: Floats, mask: Mask, quotas: Sequence[int]) -> Mask:
    """Return which candidates are left after each stage of a cascade.

    Args:
        scores: ``[stages, requests, list]``, finite.
        mask: ``[requests, list]`` bool, ``True`` for a real candidate.
        quotas: how many candidates each stage keeps.

    Returns:
        ``[stages, requests, list]`` bool.
    """
    alive, after = mask, []
    for own, quota in zip(scores, quotas, strict=True):
        keep = min(quota, mask.shape[1])
        best = np.where(alive, -own, np.inf).argpartition(keep - 1, axis=1)[:, :keep]
        kept = np.zeros_like(mask)
        np.put_along_axis(kept, best, values=True, axis=1)
        alive = alive & kept
        after.append(alive)
    return np.stack(after)


class Ceiling:
    """Adds up, block by block, how much of the ground truth the best cascade keeps.

    This is the expected recall, on this very log, of the cascade in which every stage keeps the
    candidates that it finds most probable to be ground truth, where it knows the parts of the
    utility that its features tell, exactly, and how the logging system works.

    - It is a ceiling for stages that judge a candidate by its own features: each part is drawn
      independently of what tells the others, so a stage cannot guess what it does not see.
    - The cut-offs of the logging system are taken as known, request by request, and candidates as
      independent of each other given the cut-offs. A model has to guess the former, which costs
      it next to nothing, since they hardly change an order; the latter is all but true.
    - It is greedy: a stage keeps what it would want in the end itself, and does not think ahead
      to what the later stages make of it, nor back to what the earlier ones have dropped. As long
      as later stages know all that earlier ones know (complementarity up to 0.5), thinking ahead
      gains nothing that could be measured; if all know the same, nothing at all. Beyond that it is
      the recall of stages that each do their own best, and :attr:`bound` is what cannot be passed.
    - It is an expectation over the noise of the logging system that came out as one number of
      this log. A model's recall on some of the requests may lie above by chance, never by merit.
    """

    def __init__(self, settings: FunnelSettings) -> None:
        self._settings = settings
        self._requests = 0
        self._chance = 0.0
        self._alone = np.zeros(settings.stages)
        self._joint = np.zeros(settings.stages)
        self._pooled = np.zeros(settings.stages)

    def add(self, block: Block) -> None:
        """Count the ground truth that is left in the requests of a block."""
        quotas, own = self._settings.kept, self._settings.knowledge
        pooled = list(accumulate(own, lambda a, b: tuple(map(max, a, b))))
        by_shares = {s: best_score(self._settings, block, s) for s in {*own, *pooled}}
        scores, mask = np.stack([by_shares[shares] for shares in own]), block.choice.mask
        top = (block.choice.levels == self._settings.stages + 1) & mask
        self._joint += (alive_after(scores, mask, quotas) & top).sum((1, 2))
        for stage, quota in enumerate(quotas):
            for counts, shares in ((self._alone, own), (self._pooled, pooled)):
                kept = alive_after(by_shares[shares[stage]][None], mask, [quota])[0]
                counts[stage] += (kept & top).sum()
        self._chance += float(np.minimum(quotas[-1] / mask.sum(1), 1).sum())
        self._requests += len(mask)

    @property
    def joint_recall(self) -> float:
        """Share of the ground truth that is left after the last stage, in [0, 1]."""
        return self.survival[-1]

    @property
    def bound(self) -> float:
        """Share that no cascade can pass in expectation, whatever its stages agree on.

        What is left after a stage was chosen by what this stage and the earlier ones know between
        them, and is no more than its quota. So it holds no more ground truth than the most probable
        candidates given all of this knowledge at once, and what is left in the end holds no more
        than the least of these. Up to complementarity 0.5 it is the least of :attr:`recall`.
        """
        return min(self._shares(self._pooled))

    @property
    def random_recall(self) -> float:
        """Share that is left by stages that keep candidates by chance, in expectation."""
        return self._chance / self._requests

    @property
    def survival(self) -> list[float]:
        """Share of the ground truth that is left after each stage."""
        return self._shares(self._joint)

    @property
    def recall(self) -> list[float]:
        """Share that each stage would keep of the whole list, if it were alone."""
        return self._shares(self._alone)

    def _shares(self, counts: NDArray[np.float64]) -> list[float]:
        return [float(share) for share in counts / (self._requests * self._settings.ground_truth)]
