"""The best joint recall that a cascade can reach on the log of a synthetic funnel."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.data.funnel.settings import FunnelSettings
from cascaderank.data.funnel.traffic import Block

_DRAWS = 32


def planted_scores(settings: FunnelSettings, block: Block) -> Tensor:
    r"""Return how probable each stage finds it that a candidate is ground truth.

    A stage sees some parts of a candidate's utility and no more. What it could know at best about
    a candidate that was logged is

    .. math::
        P(\text{top} \mid \text{seen}) = \frac{E \prod_g p_g}
            {E \prod_g p_g + \sum_g r_g E (1 - p_g) \prod_{h<g} p_h}, \qquad
        p_g = \Phi\left(\frac{m_g - c_g}{\sigma}\right)

    where logging stage :math:`g` gives a candidate the score :math:`m_g` plus noise of deviation
    :math:`\sigma`, cuts at :math:`c_g` in this request, and :math:`r_g` is the share of what it
    dropped that was logged. The expectation is over the parts in :math:`m_g` that the stage does
    not see, by quadrature with the quantiles they have before any logging stage.

    Args:
        settings: of the funnel.
        block: some of its requests.

    Returns:
        ``[stages, requests, list]`` in [0, 1]; what lies outside the mask means nothing.

    Source: this project.
    """
    parts = torch.from_numpy(block.parts)[..., None]  # [parts, requests, list, 1]
    cuts = torch.from_numpy(block.choice.cuts)[:, :, None, None]
    rates = torch.from_numpy(block.choice.rates)[:, :, None, None]
    scores = []
    for seen in settings.stage_parts:
        values = list(parts)
        unseen = [part for part in range(settings.stages) if part not in seen]
        for part, points in zip(unseen, _points(block.prior[unseen]), strict=True):
            values[part] = torch.from_numpy(points)  # [draws]
        reached = torch.ones_like(parts[0])
        logged = torch.zeros_like(parts[0])
        for stage, known in enumerate(settings.logging_parts):
            utility = sum((values[part] for part in known), torch.zeros(()))
            passed = torch.special.ndtr((utility - cuts[stage]) / settings.noise)
            logged = logged + rates[stage] * (reached * (1 - passed)).mean(-1, keepdim=True)
            reached = reached * passed
        top = reached.mean(-1)
        scores.append(top / (top + logged[..., 0]).clamp(min=torch.finfo(top.dtype).tiny))
    return torch.stack(scores)


def _points(priors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return points spread evenly over independent distributions, ``[parts, draws]``.

    Args:
        priors: ``[parts, values]``: rising values of each.

    Source: for the lattice, M. Roberts, The Unreasonable Effectiveness of Quasirandom Sequences.
    """
    ratio = 1.5
    for _ in range(30):  # the positive root of x^(parts + 1) = x + 1
        ratio = (1 + ratio) ** (1 / (len(priors) + 1))
    steps = ratio ** -np.arange(1.0, len(priors) + 1)
    levels = (0.5 + steps[:, None] * np.arange(_DRAWS)) % 1
    where = (levels * priors.shape[1]).astype(int)
    return np.take_along_axis(priors, where, axis=1)


def alive_after(scores: Tensor, mask: Tensor, quotas: Sequence[int]) -> Tensor:
    """Return which candidates are left after each stage of a cascade.

    Args:
        scores: ``[stages, requests, list]``, without ties.
        mask: ``[requests, list]`` bool, ``True`` for a real candidate.
        quotas: how many candidates each stage keeps.

    Returns:
        ``[stages, requests, list]`` bool.
    """
    alive, after = mask, []
    for stage_scores, quota in zip(scores, quotas, strict=True):
        best = stage_scores.masked_fill(~alive, -torch.inf).topk(min(quota, mask.shape[1])).indices
        alive = alive & torch.zeros_like(mask).scatter(1, best, value=True)
        after.append(alive)
    return torch.stack(after)


class Ceiling:
    """Adds up, block by block, how much of the ground truth the best cascade keeps.

    This is the expected recall, on this very log, of the cascade in which every stage keeps the
    candidates that it finds most probable to be ground truth, where it knows the parts of the
    utility that its features tell, exactly, and how the logging system works.

    - It is a ceiling for stages that judge a candidate by its own features: each part is drawn
      independently of what tells the others, so a stage cannot guess what it does not see.
    - The cut-offs of the logging system are taken as known, request by request. A model has to
      guess them, which costs it next to nothing (they differ little and hardly change an order).
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
        scores = planted_scores(self._settings, block)
        mask = torch.from_numpy(block.choice.mask)
        top = torch.from_numpy(block.choice.levels == self._settings.stages + 1) & mask
        self._joint += (alive_after(scores, mask, quotas) & top).sum((1, 2)).numpy()
        for stage, (own, quota) in enumerate(zip(scores, quotas, strict=True)):
            self._alone[stage] += int((alive_after(own[None], mask, [quota])[0] & top).sum())
        self._chance += float((quotas[-1] / mask.sum(1).double()).clamp(max=1).sum())
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
