"""Soft threshold with a given expected mass: a sum of sigmoids, solved exactly."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cascaderank.sorting.order import sort_best_first
from cascaderank.sorting.scaling import distance_from, positive_temperature

_STEPS = 60
"""Largest number of steps to a threshold; each halves its bracket or its error."""


def log_gate(
    scores: Tensor, log_mass: Tensor, quota: Tensor, *, temperature: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities of passing a gate of a given capacity, and of not passing it.

    ``pass_j = sigmoid((s_j - theta) / temperature)``, with theta such that
    ``sum_j mass_j pass_j = quota``. The gradient with respect to scores, mass and temperature is
    the exact implicit one, with one exception: where the mass near theta is smaller than the
    rounding error of the total, the part with respect to mass is bounded. It would be the
    derivative of a quantity that rounding determines.

    Any positive temperature is supported. Theta is expressed relative to a score next to the cut.
    It is found from the logarithms of the mass passed by the lower candidates and of the mass not
    passed by the upper ones.

    Args:
        scores: ``[..., list]``, 0 under the mask.
        log_mass: ``[..., list]``, finite and at most 0; log of the mass of each candidate.
        quota: ``[...]``, positive and clearly less than the mass of the list. For other lists the
            result is finite but undefined.
        temperature: ``[...]``, positive.
        mask: ``[..., list]`` bool.

    Returns:
        ``(log pass, log stop)``, each ``[..., list]``, at most 0, finite.

    Source: this project.
    """
    nothing = torch.finfo(scores.dtype).min / 4
    log_mass = log_mass.masked_fill(~mask, nothing)
    anchor, upper, log_rest = _split(scores.detach(), log_mass.detach(), quota, mask)
    distance = distance_from(scores, anchor, positive_temperature(temperature)[..., None])
    with torch.no_grad():
        cut = _solve(distance, log_mass, upper, log_rest)
        log_pass, log_stop = F.logsigmoid(distance - cut), F.logsigmoid(cut - distance)
        log_slope = (log_mass + log_pass + log_stop).logsumexp(-1, keepdim=True)
        of_distance = (log_mass + log_pass + log_stop - log_slope).exp()
        largest = -math.log(torch.finfo(scores.dtype).eps)
        of_mass = (log_mass + log_pass - log_slope).clamp(max=largest).exp()
    moved = of_distance * (distance - distance.detach()) + of_mass * (log_mass - log_mass.detach())
    logits = distance - (cut + moved.sum(-1, keepdim=True))  # moved is 0; only its gradient counts
    return F.logsigmoid(logits), F.logsigmoid(-logits)


def _split(
    scores: Tensor, log_mass: Tensor, quota: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Split each list where the cumulative mass of the best candidates reaches the quota.

    Returns:
        The score of the first candidate below the split ``[..., 1]``, which candidates are above it
        ``[..., list]`` bool, and the logarithm of the quota minus the mass above it ``[..., 1]``.
    """
    lowest = torch.finfo(scores.dtype).min
    _, order = sort_best_first(scores.masked_fill(~mask, lowest))
    total = log_mass.double().exp().gather(-1, order).cumsum(-1)
    capacity = quota.double()[..., None]
    rounding = 8 * torch.finfo(scores.dtype).eps * capacity
    above = total <= capacity + rounding
    count = above.sum(-1, keepdim=True)
    reached = total.gather(-1, (count - 1).clamp(min=0)).masked_fill(count == 0, 0.0)
    rest = capacity - reached
    log_rest = rest.clamp(min=torch.finfo(rest.dtype).tiny).log().to(scores)
    log_rest = log_rest.masked_fill(rest <= rounding, torch.finfo(scores.dtype).min / 4)
    first_below = order.gather(-1, count.clamp(max=scores.shape[-1] - 1))
    upper = torch.zeros_like(above).scatter(-1, order, above)
    return scores.gather(-1, first_below), upper, log_rest


def _solve(distance: Tensor, log_mass: Tensor, upper: Tensor, log_rest: Tensor) -> Tensor:
    """Return the cut, ``[..., 1]``, at which the mass passed below equals the mass left free above.

    The upper candidates and the remainder of the quota leave a mass free; the lower candidates pass
    a mass. The logarithm of passed over free mass decreases as the cut rises, with a slope between
    -2 and -1/2 above the first lower candidate, at 0. Its value there gives a bracket. If the root
    is lower, it is no lower than the rounding error of the quota allows.
    """
    nothing = torch.finfo(distance.dtype).min / 4
    of_lower = log_mass.masked_fill(upper, nothing)
    of_upper = log_mass.masked_fill(~upper, nothing)

    def log_ratio(cut: Tensor) -> tuple[Tensor, Tensor]:
        log_pass, log_stop = F.logsigmoid(distance - cut), F.logsigmoid(cut - distance)
        passed = of_lower + log_pass
        free = torch.cat([of_upper + log_stop, log_rest], -1)
        log_passed, log_free = (x.logsumexp(-1, keepdim=True) for x in (passed, free))
        fall = (passed - log_passed).exp() * log_stop.exp()
        rise = (free[..., :-1] - log_free).exp() * log_pass.exp()
        return log_passed - log_free, -(fall + rise).sum(-1, keepdim=True)

    cut = torch.zeros_like(log_rest)
    value, slope = log_ratio(cut)
    epsilon = torch.finfo(distance.dtype).eps
    low = torch.where(value > 0, value / 2, math.log(4 * epsilon))
    high = torch.where(value > 0, value * 2, 0.0)
    previous = torch.full_like(value, torch.inf)
    for done in range(_STEPS):
        newton = cut - value / slope
        # Newton steps alone would cross flat regions in small steps.
        good = (low <= newton) & (newton <= high) & (2 * value.abs() <= previous)
        solved = (newton - cut).abs() <= math.sqrt(epsilon) * (1 + cut.abs())
        previous = value.abs()
        cut = torch.where(good | solved, newton.clamp(low, high), low / 2 + high / 2)
        ends = solved | (high - low <= epsilon * (1 + cut.abs()))
        if (cut.device.type == "cpu" or done % 4 == 3) and bool(ends.all()):  # waits for a device
            break
        value, slope = log_ratio(cut)
        low, high = torch.where(value >= 0, cut, low), torch.where(value <= 0, cut, high)
    return cut
