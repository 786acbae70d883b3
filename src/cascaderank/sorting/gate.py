"""A gate that lets a given mass through: the threshold of a sum of sigmoids, solved exactly."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from cascaderank.sorting.scaling import scale_lists

_BISECTIONS, _STEPS = 8, 20
"""How often the bracket of a threshold is halved, and how many steps are taken in all. The rest
are Newton's within the bracket; alone they would cross flat parts in small steps."""


def log_gate(
    scores: Tensor, log_mass: Tensor, quota: Tensor, *, temperature: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the log-probabilities to pass a gate that lets ``quota`` through, and not to pass.

    ``pass_j = sigmoid((s_j - theta) / temperature)``, with theta such that
    ``sum_j mass_j pass_j = quota``. The gradient is the exact implicit one, by scores, mass and
    temperature. Only where the mass near theta is less than rounding of the whole is the part
    by mass bounded: it would be the derivative of something that rounding decides.

    Any temperature will do. Theta is counted from a score next to the cut, and solved for by the
    logarithms of how much the lower candidates pass and how much the upper ones do not.

    Args:
        scores: ``[..., list]``, 0 under the mask.
        log_mass: ``[..., list]``, finite and at most 0; how much of each candidate there is.
        quota: ``[...]``, positive and clearly less than the mass of the list. For other lists
            the result is finite and means nothing.
        temperature: ``[...]``, positive.
        mask: ``[..., list]`` bool.

    Returns:
        ``(log pass, log stop)``, each ``[..., list]``, at most 0, finite.

    Source: this project.
    """
    nothing = torch.finfo(scores.dtype).min / 4
    unit, gain = scale_lists(scores, temperature, mask)
    log_mass = log_mass.masked_fill(~mask, nothing)
    anchor, upper, log_rest = _split(unit.detach(), log_mass.detach(), quota, mask)
    distance = gain * (unit - anchor)
    with torch.no_grad():
        cut = _solve(distance, log_mass, upper, log_rest)
        log_pass, log_stop = F.logsigmoid(distance - cut), F.logsigmoid(cut - distance)
        log_slope = (log_mass + log_pass + log_stop).logsumexp(-1, keepdim=True)
        of_distance = (log_mass + log_pass + log_stop - log_slope).exp()
        largest = -math.log(torch.finfo(scores.dtype).eps)
        of_mass = (log_mass + log_pass - log_slope).clamp(max=largest).exp()
    moved = of_distance * (distance - distance.detach()) + of_mass * (log_mass - log_mass.detach())
    logits = distance - (cut + moved.sum(-1, keepdim=True))  # moved is 0, its gradient is not
    return F.logsigmoid(logits), F.logsigmoid(-logits)


def _split(
    unit: Tensor, log_mass: Tensor, quota: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Split each list where the mass of the best reaches the quota.

    Returns:
        The score of the first candidate below ``[..., 1]``, who is above ``[..., list]``, and
        the logarithm of what the upper ones lack to the quota ``[..., 1]``.
    """
    order = unit.masked_fill(~mask, -2.0).argsort(-1, descending=True)
    total = log_mass.double().exp().gather(-1, order).cumsum(-1)
    wanted = quota.double()[..., None]
    rounding = 8 * torch.finfo(unit.dtype).eps * wanted
    above = total <= wanted + rounding
    count = above.sum(-1, keepdim=True)
    reached = total.gather(-1, (count - 1).clamp(min=0)).masked_fill(count == 0, 0.0)
    rest = wanted - reached
    log_rest = rest.clamp(min=torch.finfo(rest.dtype).tiny).log().to(unit)
    log_rest = log_rest.masked_fill(rest <= rounding, torch.finfo(unit.dtype).min / 4)
    first_below = order.gather(-1, count.clamp(max=unit.shape[-1] - 1))
    upper = torch.zeros_like(above).scatter(-1, order, above)
    return unit.gather(-1, first_below), upper, log_rest


def _solve(distance: Tensor, log_mass: Tensor, upper: Tensor, log_rest: Tensor) -> Tensor:
    """Return the cut, ``[..., 1]``, where the lower ones pass as much as the upper ones lack.

    The logarithm of the first over the second falls as the cut rises, by a slope between -2 and
    -1/2 above the first lower candidate, at 0. So its value there tells a bracket; if the root is
    lower, it is no lower than rounding of the quota can make it.
    """
    nothing = torch.finfo(distance.dtype).min / 4
    of_lower = log_mass.masked_fill(upper, nothing)
    of_upper = log_mass.masked_fill(~upper, nothing)

    def log_ratio(cut: Tensor) -> tuple[Tensor, Tensor]:
        log_pass, log_stop = F.logsigmoid(distance - cut), F.logsigmoid(cut - distance)
        passed = of_lower + log_pass
        lacked = torch.cat([of_upper + log_stop, log_rest], -1)
        log_passed, log_lacked = (x.logsumexp(-1, keepdim=True) for x in (passed, lacked))
        fall = (passed - log_passed).exp() * log_stop.exp()
        rise = (lacked[..., :-1] - log_lacked).exp() * log_pass.exp()
        return log_passed - log_lacked, -(fall + rise).sum(-1, keepdim=True)

    cut = torch.zeros_like(log_rest)
    value, slope = log_ratio(cut)
    lowest = math.log(4 * torch.finfo(distance.dtype).eps)
    low = torch.where(value > 0, value / 2, lowest)
    high = torch.where(value > 0, value * 2, 0.0)
    for done in range(_STEPS):
        newton = (cut - value / slope).clamp(low, high)
        cut = low / 2 + high / 2 if done < _BISECTIONS else newton
        value, slope = log_ratio(cut)
        low, high = torch.where(value >= 0, cut, low), torch.where(value <= 0, cut, high)
    return cut
