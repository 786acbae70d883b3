"""Thresholds of weighted logistic models without slope, solved to convergence."""

import torch
from torch import Tensor

from cascaderank.sorting.scaling import largest_distance, positive_temperature

_NEWTON = 4
"""Number of Newton steps for all lists; the few that are not solved then take more."""
_STEPS = 200
_CLOSE = 0.03
"""Newton step, in units of the temperature, after which two more steps reach rounding error."""


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
        :math:`(\theta - s_j) / \tau` of upper ones, without gradient. Finite but undefined in a
        list without weight on one of the sides.

    Source: this project.
    """
    temperature = positive_temperature(temperature)
    if not weights.numel():
        return (scores * sign).expand(weights[..., 0, :].shape)
    slope = sign / temperature
    cut = _solve(scores, weights, slope, temperature)
    # A threshold has the precision of the scores; the offset has that of the distances from it.
    limit = largest_distance(scores.dtype)
    distance = ((scores - cut) * slope).clamp_(-limit, limit)
    offset = torch.zeros_like(cut)
    for _ in range(2):
        step = _newton(distance - offset * sign, weights)[1]
        offset = (offset + step.nan_to_num_(0.0)).clamp_(-2 * _CLOSE, 2 * _CLOSE)
    return distance.sub_(offset * sign)


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


def _solve(scores: Tensor, weights: Tensor, slope: Tensor, temperature: Tensor) -> Tensor:
    """Return thresholds, ``[..., 1]``, each within about 0.001 temperatures."""
    mass = weights.sum(-1)
    log_mass = mass.log().nan_to_num_(0.0, 0.0, 0.0)
    shift = temperature * (log_mass[..., 1:] - log_mass[..., :1])
    low, high = scores.amin(-1, keepdim=True) - shift, scores.amax(-1, keepdim=True) - shift
    means = torch.matmul(weights, (scores / 2)[..., None])[..., 0] / mass
    cut = means.sum(-1, keepdim=True).nan_to_num_(0.0).clamp(low, high)
    for _ in range(_NEWTON):
        log_ratio, step = _newton((scores - cut).mul_(slope), weights)
        target = cut + step * temperature
        cut = torch.where(target.isfinite(), target, cut).clamp(low, high)
    unsolved = (mass > 0).all(-1) & ~(step.abs() <= _CLOSE).squeeze(-1)
    rest = unsolved.nonzero(as_tuple=True)
    if len(rest[0]):
        parts = (scores, weights, slope, temperature, low, high)
        cut[rest] = _bracketed(*(_lists(part, rest, unsolved.shape) for part in parts))
    return cut


def _lists(values: Tensor, rest: tuple[Tensor, ...], shape: torch.Size) -> Tensor:
    """Return some of the lists of a tensor that broadcasts to all of them."""
    return values.expand(*shape, *values.shape[len(shape) :])[rest]


def _bracketed(
    scores: Tensor, weights: Tensor, slope: Tensor, temperature: Tensor, low: Tensor, high: Tensor
) -> Tensor:
    """Return thresholds ``[lists, 1]``; a bracket is halved where a Newton step is not good."""
    cut, previous = low / 2 + high / 2, torch.full_like(low, torch.inf)
    for _ in range(_STEPS):
        log_ratio, step = _newton((scores - cut).mul_(slope), weights)
        low = torch.where(log_ratio >= 0, cut, low)
        high = torch.where(log_ratio <= 0, cut, high)
        target, size = cut + step * temperature, log_ratio.abs()
        close = (step.abs() <= _CLOSE) | size.isnan()
        good = (low <= target) & (target <= high) & (close | (2 * size <= previous))
        cut, previous = torch.where(good, target, low / 2 + high / 2), size
        if bool((close | (high - low <= _CLOSE * temperature)).all()):
            break
    return cut
