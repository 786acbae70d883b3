"""Exposure probabilities of a cascade whose stages add Gumbel noise to their scores."""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.losses.conditional_survival import log_mass
from cascaderank.selection import check_size, select
from cascaderank.tensors import at_least_float32, check_mask, check_quotas, finite_scores

_AT_ONCE = 1 << 22
"""Number of noisy scores in memory at a time."""

_LOGISTIC = 0.85
"""Scale of logistic noise that approximates Gumbel noise of scale 1. Equal standard deviations need
0.71 and equal upper tails need 1. Of 0.71 to 1, 0.85 has the smallest error in small probabilities,
on random cascades of one to three stages and 10 to 500 candidates."""


def exposure_probability(
    scores: Tensor,
    quotas: Sequence[int],
    *,
    noise: float | Sequence[float] = 1.0,
    mask: Tensor | None = None,
    draws: int = 1000,
    seed: int = 0,
) -> Tensor:
    r"""Return the probability that a stochastic cascade exposes each candidate, by Monte Carlo.

    Stage t ranks the candidates that it receives by :math:`s^t_j + \tau_t G^t_j` with independent
    standard Gumbel noise, and keeps the best :math:`q_t`. With one stage and a quota of 1 this is
    the softmax of :math:`s / \tau`; with a larger quota it is Plackett-Luce without replacement.

    The noise of a candidate in the last stage is integrated out: given the noise of the others, it
    is among the best q with probability :math:`1 - \exp(-\exp((s_j - \theta_{-j}) / \tau))`, where
    :math:`\theta_{-j}` is the q-th best of the others. Small probabilities, by which rewards are
    divided, are therefore not estimated by counting rare events. The standard error is at most that
    of counting, :math:`\sqrt{\rho (1 - \rho) / \text{draws}}`.

    Args:
        scores: ``[stages, batch, list]`` floating point, first stage first.
        quotas: number of candidates that each stage keeps; non-increasing.
        noise: scale :math:`\tau` of the noise, in units of scores: one number, or one per stage. A
            stage with noise 0 ranks by its scores alone.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.
        draws: number of draws.
        seed: random seed of the noise. Use different seeds for cascades whose estimates must be
            independent.

    Returns:
        ``[batch, list]`` float64 in [0, 1]; 0 under the mask. The expected sum over a list is the
        last quota, or the number of candidates if that is smaller. The result is exactly 0 for a
        candidate that no draw of an earlier stage keeps: use more draws if it was exposed.

    Raises:
        ShapeError: if shapes or dtypes do not agree, or the number of quotas or scales differs from
            the number of stages.
        ConfigError: if a quota, a scale or ``draws`` is out of range.
        DataError: if the score of a real candidate is NaN.

    Examples:
        >>> scores = torch.tensor([[[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]]])
        >>> exposure_probability(scores, (2, 1), noise=(0.0, 1.0), draws=10_000)
        tensor([[0.2660, 0.7312, 0.0000]], dtype=torch.float64)
        >>> scores[1, :, :2].softmax(-1)
        tensor([[0.2689, 0.7311]])

    Source: this project; for Gumbel noise and Plackett-Luce Yellott 1977.
    """
    quotas, scales, alive = _checked(scores, quotas, noise, mask)
    draws = check_size(draws, "draws")
    scores = finite_scores(scores.detach().nan_to_num(-torch.inf, torch.inf, -torch.inf))
    stages, batch, length = scores.shape
    generator = torch.Generator(device=scores.device).manual_seed(seed)
    total = torch.zeros(batch, length, dtype=torch.float64, device=scores.device)
    taus = torch.tensor(scales, dtype=scores.dtype, device=scores.device)[:, None, None, None]
    step = max(1, _AT_ONCE // max(1, scores.numel()))
    for start in range(0, draws, step):
        size = min(step, draws - start)
        gumbel = torch.empty(stages, size, batch, length, dtype=scores.dtype, device=scores.device)
        gumbel = gumbel.exponential_(generator=generator).log_().neg_()
        noisy = scores[:, None] + taus * gumbel
        total += _exposed(noisy, scores[-1], quotas, scales[-1], alive).double().sum(0)
    return total / draws


def soft_exposure_probability(
    scores: Tensor,
    quotas: Sequence[int],
    *,
    noise: float | Sequence[float] = 1.0,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Return approximate exposure probabilities, from a soft cascade without draws.

    The mass :math:`a^S_j` of the soft cascade of
    :func:`~cascaderank.losses.conditional_survival.conditional_survival_loss`. Its gate is
    logistic with the temperature :math:`0.85 \tau`, and its cut does not vary between draws. It is
    differentiable, positive for every candidate, and takes the time of about ten draws. On random
    cascades it moves 2 to 6 % of the exposure to other candidates, and a single probability above
    .01 is wrong by 6 to 15 % on average. Propensities that rewards are divided by should come from
    :func:`exposure_probability`.

    Args:
        scores: ``[stages, batch, list]`` floating point, first stage first.
        quotas: number of candidates that each stage keeps; non-increasing.
        noise: scale of the noise, positive: one number, or one per stage.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[batch, list]`` in [0, 1], at least float32; 0 under the mask. The sum over a list is the
        last quota, or the number of candidates if that is smaller.

    Raises:
        ShapeError: as of :func:`exposure_probability`.
        ConfigError: if a quota or a scale is not positive.
        DataError: if the score of a real candidate is NaN.

    Examples:
        >>> scores = torch.tensor([[[2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0]]])
        >>> soft_exposure_probability(scores, (2, 1))
        tensor([[0.2590, 0.4012, 0.3398]])
        >>> exposure_probability(scores, (2, 1), draws=10_000)
        tensor([[0.2174, 0.5292, 0.2531]], dtype=torch.float64)

    Source: this project.
    """
    quotas, scales, alive = _checked(scores, quotas, noise, mask)
    if not all(scales):
        raise ConfigError(
            f"noise of a soft cascade must be positive in every stage; got {list(scales)}; use "
            "exposure_probability for a stage without noise"
        )
    scores = at_least_float32(scores)
    taus = torch.tensor(scales, dtype=scores.dtype, device=scores.device)[:, None]
    alive = alive.expand(scores.shape[1:])
    return log_mass(scores, quotas, taus * _LOGISTIC, alive)[-1].exp() * alive


def _checked(
    scores: Tensor, quotas: Sequence[int], noise: float | Sequence[float], mask: Tensor | None
) -> tuple[tuple[int, ...], tuple[float, ...], Tensor]:
    """Return the quotas, one scale of the noise per stage, and the mask."""
    if scores.dim() != 3 or scores.shape[0] < 1:
        raise ShapeError(f"scores must be [stages, batch, list]; got {list(scores.shape)}")
    stages = scores.shape[0]
    quotas = check_quotas(quotas, stages=stages)
    scales = tuple(noise) if isinstance(noise, Sequence) else (noise,) * stages
    if not all(isinstance(scale, Real) for scale in scales):
        raise ConfigError(
            "noise must be a number, or a list of one number per stage; got "
            f"{type(noise).__name__}; convert an array or a tensor by `noise.tolist()`"
        )
    if len(scales) != stages:
        raise ShapeError(f"noise must be one number per stage: got {len(scales)} for {stages}")
    if not all(0 <= scale < math.inf for scale in scales):
        raise ConfigError(f"noise must be at least 0 and finite; got {list(scales)}")
    mask = check_mask(scores[0], mask)
    missing = (scores.isnan() & mask).nonzero()
    if len(missing):
        stage, request, candidate = (int(place) for place in missing[0])
        more = f" (and {len(missing) - 1:,} more)" if len(missing) > 1 else ""
        raise DataError(
            f"scores of real candidates must not be NaN; got NaN in stage {stage}, request "
            f"{request:,}, candidate {candidate:,}{more}; correct the scores, or mask the candidate"
        )
    return quotas, scales, mask


def _exposed(
    noisy: Tensor, last: Tensor, quotas: Sequence[int], scale: float, mask: Tensor
) -> Tensor:
    """Return the probability of exposure given the noise of the others, ``[draws, batch, list]``.

    Args:
        noisy: ``[stages, draws, batch, list]``.
        last: ``[batch, list]``, scores of the last stage without noise.
        quotas: number of candidates that each stage keeps.
        scale: scale of the noise of the last stage.
        mask: ``[batch, list]`` bool.
    """
    shape = noisy.shape[1:]
    lists = noisy.flatten(1, 2)
    alive = mask.expand(shape).flatten(0, 1)
    if not scale:
        return select(lists, quotas, alive)[-1].reshape(shape)
    if len(quotas) > 1:
        alive = select(lists[:-1], quotas[:-1], alive)[-1]
    alive, quota = alive.reshape(shape), quotas[-1]
    if quota >= shape[-1]:
        return alive
    competing = noisy[-1].masked_fill(~alive, -torch.inf)
    best = competing.topk(quota + 1, dim=-1).values
    inside, outside = best[..., quota - 1 : quota], best[..., quota:]
    others = torch.where(competing >= inside, outside, inside)
    return -torch.expm1(-torch.exp((last - others) / scale)) * alive
