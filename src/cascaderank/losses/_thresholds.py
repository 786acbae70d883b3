"""Thresholds of weighted logistic models without slope, solved to convergence."""

import math

import torch
from torch import Tensor

from cascaderank.sorting.scaling import largest_distance, positive_temperature

_SMOOTH_STEPS = 6
"""Number of Newton steps for all lists; the few that are not solved then take more."""
_STEPS = 200
_SPREAD = 3.0
"""Spread of the distances, in temperatures, at which Newton steps converge from any origin."""
_FAR = 64.0
"""Distance of the threshold from the origin, in units of the temperature, that costs precision."""


@torch.no_grad()
def signed_distances(
    scores: Tensor, lower: Tensor, upper: Tensor, *, temperature: Tensor
) -> Tensor:
    r"""Return how far each candidate is on the wrong side of the best threshold of its list.

    The threshold :math:`\theta` minimises the weighted cross-entropy of a logistic model that
    separates upper candidates from lower ones. Its score equation is a balance of errors:

    .. math::
        \sum_{j \in \text{lower}} w_j \, \sigma\left(\frac{s_j - \theta}{\tau}\right)
        = \sum_{j \in \text{upper}} w_j \, \sigma\left(\frac{\theta - s_j}{\tau}\right)

    The logarithm of the ratio of both sides decreases as the threshold rises. Its root is found by
    Newton steps, first at a higher temperature in a list whose scores are far apart; where these
    do not converge, within a bracket that is halved.

    Candidates are the first dimension, so that each operation covers all lists at once.

    Args:
        scores: ``[list, ...]``, finite.
        lower: ``[list, ...]``, weights of the lower candidates; 0 for all others.
        upper: ``[list, ...]``, weights of the upper candidates; no candidate has both.
        temperature: ``[...]``, positive.

    Returns:
        ``[list, ...]``: :math:`(s_j - \theta) / \tau` of lower candidates, and
        :math:`(\theta - s_j) / \tau` of all others, without gradient. In a list without weight on
        one of the sides, where the best threshold is infinite, they are far below 0.

    Source: this project.
    """
    if not lower.numel():
        return scores.expand_as(lower)
    weights, scratch = (lower, upper), torch.empty_like(lower)
    mass = [weight.sum(0) for weight in weights]
    solvable = (mass[0] > 0) & (mass[1] > 0)
    tiny, limit = torch.finfo(scores.dtype).tiny, largest_distance(scores.dtype)
    mean = [
        _dot(weight, scores / 2, scratch).div_(each.clamp(min=tiny))
        for weight, each in zip(weights, mass, strict=True)
    ]
    origin = mean[0] + mean[1]
    distance = (scores - origin).div_(positive_temperature(temperature)).clamp_(-limit, limit)
    wrong = distance.square()
    square = _dot(lower, wrong, scratch) + _dot(upper, wrong, scratch)
    spread = square.div_((mass[0] + mass[1]).clamp_(min=tiny)).sqrt_()
    temper = spread.div_(_SPREAD).clamp_(min=1.0)
    sign = lower.sign().mul_(2).sub_(1)
    distance *= sign
    offset, solved, tempered = torch.zeros_like(origin), ~solvable, True
    for _ in range(_SMOOTH_STEPS):
        torch.addcmul(distance, sign, offset, value=-1, out=wrong)
        if tempered:
            wrong.div_(temper)
        step = _newton(wrong, weights, scratch)[1].mul_(temper)
        offset += step.masked_fill_(~solvable, 0.0)
        solved = (step.abs() <= _close(scores.dtype)) & (temper == 1)
        if step.device.type == "cpu" and bool((solved | ~solvable).all()):
            break
        temper = (temper / _SPREAD).clamp_(min=1.0)
        tempered = step.device.type != "cpu" or bool((temper > 1).any())
    solved &= offset.abs() <= _FAR
    distance.addcmul_(sign, offset.nan_to_num_(0.0, 0.0, 0.0), value=-1)
    rest = ~solved & solvable
    if bool(rest.any()):
        scores, lower, upper, sign, slope = (
            x.expand_as(distance)[:, rest]
            for x in (scores, lower, upper, sign, 1 / positive_temperature(temperature))
        )
        distance[:, rest] = _bracketed(scores, sign, slope, (lower, upper))
    return torch.where(solvable, distance, distance.new_tensor(-limit), out=distance)


def _close(dtype: torch.dtype) -> float:
    """Return the length of a Newton step, in temperatures, after which the error is rounding."""
    return math.sqrt(torch.finfo(dtype).eps)


def _dot(weights: Tensor, values: Tensor, scratch: Tensor) -> Tensor:
    """Return weighted sums over candidates, ``[...]``; memory of this size is slow to get anew."""
    return torch.mul(weights, values, out=scratch).sum(0)


def _newton(
    distance: Tensor, weights: tuple[Tensor, Tensor], scratch: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the logarithm of the ratio of errors, and the Newton step in units of the temperature.

    Args:
        distance: ``[list, ...]``, signed; overwritten.
        weights: of lower and of upper candidates, each ``[list, ...]``.
        scratch: ``[list, ...]``, overwritten.
    """
    errors, total, share = distance.sigmoid_(), [], []
    for weight in weights:
        total.append(_dot(weight, errors, scratch))
        share.append(scratch.mul_(errors).sum(0).div_(total[-1]))
    log_ratio = total[0].log_() - total[1].log_()
    return log_ratio, log_ratio / (2 - share[0] - share[1])


def _bracketed(
    scores: Tensor, sign: Tensor, slope: Tensor, weights: tuple[Tensor, Tensor]
) -> Tensor:
    """Return signed distances from the threshold, ``[list, lists]``, for any scores.

    The threshold is found twice: distances from the first origin, the median score, may be coarse
    near it; those from the nearest score are not.
    """
    limit, outside = largest_distance(scores.dtype), weights[0] + weights[1] == 0
    origin = scores.masked_fill(outside, torch.nan).nanmedian(0).values
    for _ in range(2):
        distance = ((scores - origin) * slope * sign).clamp_(-limit, limit)
        offset = _root(distance, weights, sign)
        beside = (distance - offset * sign).abs().masked_fill_(outside, torch.inf)
        origin = scores.gather(0, beside.argmin(0, keepdim=True))[0]
    return distance - offset * sign


def _root(distance: Tensor, weights: tuple[Tensor, Tensor], sign: Tensor) -> Tensor:
    """Return thresholds ``[lists]``; a bracket is halved where a Newton step is not good."""
    shift, unsigned = weights[1].sum(0).log() - weights[0].sum(0).log(), distance * sign
    low, high = unsigned.amin(0) - shift, unsigned.amax(0) - shift
    root, previous = low / 2 + high / 2, torch.full_like(low, torch.inf)
    close, scratch = _close(distance.dtype), torch.empty_like(distance)
    for _ in range(_STEPS):
        log_ratio, step = _newton(distance - root * sign, weights, scratch)
        low = torch.where(log_ratio >= 0, root, low)
        high = torch.where(log_ratio <= 0, root, high)
        target, size = root + step, log_ratio.abs()
        solved = (step.abs() <= close) | size.isnan()
        good = (low <= target) & (target <= high) & (solved | (2 * size <= previous))
        root, previous = torch.where(good, target, low / 2 + high / 2), size
        if bool((solved | (high - low <= close)).all()):
            break
    return root
