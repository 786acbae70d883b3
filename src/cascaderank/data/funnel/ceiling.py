"""The best joint recall that a cascade can reach on the log of a synthetic funnel."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.funnel.settings import FunnelSettings
from cascaderank.data.funnel.traffic import Block
from cascaderank.data.funnel.world import Floats

Mask = NDArray[np.bool_]

_POINTS = 64
_CELLS = 1 << 16  # at a time, so that what is in between stays in the processor's cache


def planted_scores(settings: FunnelSettings, block: Block) -> Floats:
    r"""Return how probable each stage finds it that a candidate is ground truth.

    A stage sees some parts of a candidate's utility and no more. What it could know at best about
    a candidate that was logged is

    .. math::
        P(\text{top} \mid \text{seen}) = \frac{E \prod_g p_g}
            {E \prod_g p_g + \sum_g r_g E (1 - p_g) \prod_{h<g} p_h}, \qquad
        p_g = \sigma\left(\frac{m_g - c_g}{s}\right)

    where logging stage :math:`g` gives a candidate the score :math:`m_g` plus logistic noise of
    scale :math:`s`, cuts at :math:`c_g` in this request, and :math:`r_g` is the share of what it
    dropped that was logged. The expectation is over the parts in :math:`m_g` that the stage does
    not see, by quadrature with the quantiles they have before any logging stage.

    Args:
        settings: of the funnel.
        block: some of its requests.

    Returns:
        ``[stages, requests, list]`` in [0, 1]; what lies outside the mask means nothing.

    Source: this project.
    """
    cuts, rates = (x[:, :, None, None] for x in (block.choice.cuts, block.choice.rates))
    scores = np.empty_like(block.parts)
    for stage, seen in enumerate(settings.stage_parts):
        unseen = [part for part in range(settings.stages) if part not in seen]
        points = _points(block.prior[unseen])
        size = max(1, _CELLS // (points.shape[1] * block.parts.shape[2]))
        for start in range(0, len(block.user), size):
            rows = slice(start, start + size)
            values = {part: block.parts[part, rows, :, None] for part in seen}
            values |= dict(zip(unseen, points, strict=True))
            scores[stage, rows] = _posterior(settings, values, cuts[:, rows], rates[:, rows])
    return scores


def _posterior(
    settings: FunnelSettings, values: Mapping[int, Floats], cuts: Floats, rates: Floats
) -> Floats:
    """Return the probability of the top level, ``[requests, list]``.

    Args:
        settings: of the funnel.
        values: of each part: ``[requests, list, 1]`` if it is seen, else ``[points]``.
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


def _points(priors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return points spread evenly over independent distributions, ``[parts, points]``.

    Args:
        priors: ``[parts, values]``: rising values of each.

    Source: for the lattice, M. Roberts, The Unreasonable Effectiveness of Quasirandom Sequences.
    """
    if not len(priors):
        return np.zeros((0, 1), np.float32)
    ratio = 1.5
    for _ in range(30):  # the positive root of x^(parts + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (len(priors) + 1))
    steps = ratio ** -np.arange(1.0, len(priors) + 1)
    levels = (0.5 + steps[:, None] * np.arange(_POINTS)) % 1
    where = (levels * priors.shape[1]).astype(int)
    return np.take_along_axis(priors, where, axis=1)


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
      to what the later stages, who see more, would make of it. As later stages see all that
      earlier ones see, thinking ahead gains nothing that could be measured.
    - It is an expectation over the noise of the logging system that came out as one number of
      this log. A model's recall on some of the requests may lie above by chance, never by merit.
    """

    def __init__(self, settings: FunnelSettings) -> None:
        self._settings = settings
        self._requests = 0
        self._chance = 0.0
        self._alone = np.zeros(settings.stages)
        self._joint = np.zeros(settings.stages)

    def add(self, block: Block) -> None:
        """Count the ground truth that is left in the requests of a block."""
        quotas = self._settings.kept
        scores, mask = planted_scores(self._settings, block), block.choice.mask
        top = (block.choice.levels == self._settings.stages + 1) & mask
        self._joint += (alive_after(scores, mask, quotas) & top).sum((1, 2))
        for stage, (own, quota) in enumerate(zip(scores, quotas, strict=True)):
            self._alone[stage] += (alive_after(own[None], mask, [quota])[0] & top).sum()
        self._chance += float(np.minimum(quotas[-1] / mask.sum(1), 1).sum())
        self._requests += len(mask)

    @property
    def joint_recall(self) -> float:
        """Share of the ground truth that is left after the last stage, in [0, 1]."""
        return self.survival[-1]

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
