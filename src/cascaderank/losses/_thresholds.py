"""Thresholds of weighted logistic models without slope, solved to convergence."""

import math

import torch
from torch import Tensor

from cascaderank.sorting.scaling import largest_distance, positive_temperature

_NEWTON = 6
"""Number of Newton steps for all lists; the few that are not solved then take more."""
_STEPS = 200
_FAR = 64.0
"""Distance of the threshold from the origin, in units of the temperature, that costs precision."""


@torch.no_grad()
def signed_distances(
    scores: Tensor, weights: Tensor, sign: Tensor, *, temperature: Tensor
) -> Tensor:
    r"""Return how far each candidate is on the wrong side of the best threshold of its list.

    The threshold :math:`\theta` minimises the weighted cross-entropy of a logistic model that
    separates upper candidates from lower ones. Its score equation is a balance of errors:

    .. math::
        \sum_{j \in \text{lower}} w_j \, \sigma\left(\frac{s_j - \theta}{\tau}\right)
        = \sum_{j \in \text{upper}} w_j \, \sigma\left(\frac{\theta - s_j}{\tau}\right)

    The logarithm of the ratio of both sides decreases as the threshold rises. Its root is found by
    Newton steps; where these do not converge, within a bracket that is halved.

    Args:
        scores: ``[..., list]``, finite.
        weights: ``[..., 2, list]``, not negative: of lower candidates, and of upper ones; 0 for
            all others.
        sign: ``[..., list]``, 1 for lower and -1 for upper candidates.
        temperature: ``[..., 1]``, positive.

    Returns:
        ``[..., list]``: :math:`(s_j - \theta) / \tau` of lower candidates and
        :math:`(\theta - s_j) / \tau` of upper ones, without gradient. In a list
        without weight on one of the sides, where the best threshold is infinite, they are far
        below 0.

    Source: this project.
    """
    if not weights.numel():
        return (scores * sign).expand(weights[..., 0, :].shape)
    slope = sign / positive_temperature(temperature)
    mass = weights.sum(-1)
    origin = (torch.matmul(weights, (scores / 2)[..., None])[..., 0] / mass).sum(-1, keepdim=True)
    distance = _distance(scores, origin.nan_to_num_(0.0), slope)
    offset, solvable = torch.zeros_like(origin), (mass > 0).all(-1, keepdim=True)
    close = _close(scores.dtype)
    for _ in range(_NEWTON):
        step = torch.where(solvable, _newton(distance - offset * sign, weights)[1], 0.0)
        offset += step
        if step.device.type == "cpu" and float(step.abs().max()) <= close:
            break
    solved = (step.abs() <= close) & (offset.abs() <= _FAR)
    rest = (~solved).squeeze(-1).nonzero(as_tuple=True)
    distance -= offset.nan_to_num_(0.0, 0.0, 0.0) * sign
    if len(rest[0]):
        some = [x.expand_as(distance)[rest] for x in (scores, sign, slope)]
        distance[rest] = _bracketed(some[0], some[1], some[2], weights[rest], origin[rest])
    return distance.masked_fill_(~solvable, -largest_distance(scores.dtype))


def _close(dtype: torch.dtype) -> float:
    """Return the length of a Newton step, in temperatures, after which the error is rounding."""
    return math.sqrt(torch.finfo(dtype).eps)


def _distance(scores: Tensor, origin: Tensor, slope: Tensor) -> Tensor:
    """Return signed distances in units of the temperature, ``[..., list]``, bounded."""
    limit = largest_distance(scores.dtype)
    return ((scores - origin) * slope).clamp_(-limit, limit)


def _newton(distance: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithm of the ratio of errors, and the Newton step in units of the temperature.

    Args:
        distance: ``[..., list]``, signed; overwritten.
        weights: ``[..., 2, list]``
    """
    errors = distance.sigmoid_()
    total = torch.matmul(weights, errors[..., None])[..., 0]
    square = torch.matmul(weights, errors.square_()[..., None])[..., 0]
    log_total = total.log()
    log_ratio = log_total[..., :1] - log_total[..., 1:]
    return log_ratio, log_ratio / (2 - (square / total).sum(-1, keepdim=True))


def _bracketed(
    scores: Tensor, sign: Tensor, slope: Tensor, weights: Tensor, origin: Tensor
) -> Tensor:
    """Return signed distances from the threshold, ``[lists, list]``, for any scores.

    The threshold is found twice: distances from the first origin may be coarse near it, those from
    the nearest score are not.
    """
    for _ in range(2):
        distance = _distance(scores, origin, slope)
        offset = _root(distance, weights, sign)
        beside = (distance - offset * sign).abs().masked_fill_(sign == 0, torch.inf)
        origin = scores.gather(-1, beside.argmin(-1, keepdim=True))
    return distance - offset * sign


def _root(distance: Tensor, weights: Tensor, sign: Tensor) -> Tensor:
    """Return thresholds ``[lists, 1]``; a bracket is halved where a Newton step is not good."""
    log_mass = weights.sum(-1).log()
    shift, unsigned = log_mass[:, 1:] - log_mass[:, :1], distance * sign
    low, high = unsigned.amin(-1, keepdim=True) - shift, unsigned.amax(-1, keepdim=True) - shift
    root, previous = low / 2 + high / 2, torch.full_like(low, torch.inf)
    close = _close(distance.dtype)
    for _ in range(_STEPS):
        log_ratio, step = _newton(distance - root * sign, weights)
        low = torch.where(log_ratio >= 0, root, low)
        high = torch.where(log_ratio <= 0, root, high)
        target, size = root + step, log_ratio.abs()
        solved = (step.abs() <= close) | size.isnan()
        good = (low <= target) & (target <= high) & (solved | (2 * size <= previous))
        root, previous = torch.where(good, target, low / 2 + high / 2), size
        if bool((solved | (high - low <= close)).all()):
            break
    return root
