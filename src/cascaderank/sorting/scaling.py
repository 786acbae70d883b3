"""Distances of scores in units of the temperature, and the spread of a list."""

import torch
from torch import Tensor

from cascaderank.sorting.order import sort_best_first
from cascaderank.tensors import below_best, count_real, is_whole

SMALLEST_SPREAD = 1e-3
"""Lower bound of the spread of a list. Without it, a temperature relative to the spread would
blow up the gradient of a list of (nearly) equal scores."""


def largest_distance(dtype: torch.dtype) -> float:
    """Return the largest result of :func:`distance_from`, ``eps^-2``.

    Scores at the largest distance from the cut are kept or dropped with certainty. Sums of such
    distances over a list do not overflow.
    """
    return torch.finfo(dtype).eps ** -2


def positive_temperature(temperature: Tensor) -> Tensor:
    """Return temperatures of at least about 1e-31 (float64: 1e-292), whose reciprocal is finite."""
    limits = torch.finfo(temperature.dtype)
    return temperature.clamp(min=limits.tiny / limits.eps)


def distance_from(scores: Tensor, origin: Tensor, temperature: Tensor) -> Tensor:
    """Return ``(scores - origin) / temperature``, bounded by :func:`largest_distance`.

    The precision is that of a floating point number: distances near 0 are exact to rounding,
    however far away other scores of the list are. The origin is therefore a score at which
    precision matters, such as that at the cut. A centre computed from all scores would not do:
    with one score of -1e9, all others would be rounded to multiples of 32.

    Where a distance would exceed the bound, the temperature of this distance is raised, as a
    constant to the gradient.

    Args:
        scores: ``[...]``, finite.
        origin: finite; broadcasts to the scores.
        temperature: positive, and of at least the minimum of :func:`positive_temperature`;
            broadcasts to the scores.

    Examples:
        >>> scores = torch.tensor([-1e9, 0.25, 0.75, 2.0])
        >>> distance_from(scores, torch.tensor(0.75), torch.tensor(0.5))
        tensor([-2.0000e+09, -1.0000e+00,  0.0000e+00,  2.5000e+00])
    """
    half = scores / 2 - origin / 2  # the difference of halves does not overflow
    lowest = half.detach().abs() / largest_distance(scores.dtype)
    return half / torch.maximum(temperature / 2, lowest)


def distance_from_middle(scores: Tensor, temperature: Tensor, mask: Tensor) -> Tensor:
    """Return the distances from the middle score in units of the temperature, ``[..., list]``.

    The values are those of :func:`slopes_of`, in the order of the list and 0 under the mask. The
    middle score is a constant to the gradient, and bounds are, too. The result must be used in
    differences only.

    Args:
        scores: ``[..., list]``, finite.
        temperature: ``[...]``, positive.
        mask: ``[..., list]`` bool.

    Examples:
        >>> scores, mask = torch.tensor([-1e9, 1.0, 2.0, 4.0]), torch.tensor([True] * 4)
        >>> distance_from_middle(scores, torch.tensor(0.5), mask)
        tensor([-2.0000e+09,  0.0000e+00,  2.0000e+00,  6.0000e+00])
    """
    length = scores.shape[-1]
    real = mask.reshape(-1, length)
    flat = scores.detach().reshape(-1, length).masked_fill(~real, torch.finfo(scores.dtype).min)
    with torch.no_grad():
        best_first, order = sort_best_first(flat)
        slopes, place, bounded = slopes_of(
            best_first, real.sum(-1, keepdim=True), temperature.reshape(-1, 1)
        )
        middle = best_first.gather(-1, place.expand(len(flat), 1)).view(*scores.shape[:-1], 1)
    distance = distance_from(scores, middle, positive_temperature(temperature)[..., None])
    if scores.device.type != "cpu" or bool(bounded.any()):
        values = torch.empty_like(flat).scatter_(-1, order, slopes).view(scores.shape)
        distance = values + (distance - distance.detach())
    return distance if is_whole(mask) else distance.masked_fill(~mask, 0.0)


def slopes_of(
    best_first: Tensor, count: Tensor, temperature: Tensor, *, unit: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distances of sorted scores from the middle one in units of the temperature.

    The middle score is exact to rounding, and so are the scores near it, however far away others
    are. It is the one in the middle of the list or, if that equals the lowest, as where most of the
    candidates were given one large negative score, the one in the middle of all higher scores, if
    these are more than an eighth of the list.

    In lists where a distance exceeds :func:`largest_distance`, the gaps between neighbours are
    bounded instead: candidates that far apart are fully separated, and a larger gap would change
    nothing.

    Args:
        best_first: ``[lists, list]``, non-increasing along the first ``count`` scores of each list.
        count: ``[lists or 1, 1]``; number of real scores of each list.
        temperature: ``[lists, 1]``, positive.
        unit: factor of the result.

    Returns:
        ``[lists, list]``, undefined behind the real scores; the place of the middle score, ``[lists
        or 1, 1]``; and the lists with bounded gaps or with a temperature too low to divide by,
        ``[lists, 1]`` bool.
    """
    lists, end = len(best_first), best_first.shape[-1] - 1
    place = (count // 2).clamp(max=end)
    low = best_first.gather(-1, (count - 1).clamp(min=0).expand(lists, 1))
    middle = best_first.gather(-1, place.expand(lists, 1))
    tied = middle == low
    if best_first.device.type != "cpu" or bool(tied.any()):
        higher = (best_first > low) & (torch.arange(end + 1, device=low.device) < count)
        higher = higher.sum(-1, keepdim=True)
        place = torch.where(tied & (higher > count // 8), higher // 2, place)
        middle = best_first.gather(-1, place)
    clamped = positive_temperature(temperature)
    half = clamped / (2 * unit)
    # The difference of halves does not overflow; the one to the middle score is usually exact.
    slope = torch.add(middle / -2, best_first, alpha=0.5).div_(half)
    most = largest_distance(slope.dtype)
    far = (best_first[:, :1] / 2 - low / 2) / most > clamped / 2
    bounded = far | (clamped > temperature)
    if slope.device.type != "cpu" or bool(far.any()):
        gaps = (best_first[:, 1:] / 2 - best_first[:, :-1] / 2).div_(half).clamp_(-most, 0.0)
        slope = torch.where(far, sums_from_place(gaps, place), slope)
    return slope, place, bounded


def sums_from_place(steps: Tensor, place: Tensor) -> Tensor:
    """Return the sums of steps from one place to every other; 0 at the place itself.

    ``sum_(m <= i < j) steps_i`` for places j behind the given place m, and ``-sum_(j <= i < m)
    steps_i`` for those before it.

    Args:
        steps: ``[..., list - 1]``; from each place to the next.
        place: ``[..., 1]`` int64.

    Examples:
        >>> sums_from_place(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2]))
        tensor([-3., -2.,  0.,  3.])
    """
    sums = steps.new_zeros(*steps.shape[:-1], steps.shape[-1] + 1)
    if place.numel() == 1 and place.device.type == "cpu":
        at = int(place)
        torch.cumsum(steps[..., at:], -1, out=sums[..., at + 1 :])
        sums[..., :at] = steps[..., :at].flip(-1).cumsum_(-1).flip(-1).neg_()
        return sums
    behind = steps * (torch.arange(steps.shape[-1], device=steps.device) >= place)
    torch.cumsum(behind, -1, out=sums[..., 1:])
    sums[..., :-1] -= (steps - behind).flip(-1).cumsum_(-1).flip(-1)
    return sums


def spread(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute deviation of each list's real scores, ``[...]``, always positive.

    Source: this project.
    """
    share = mask / count_real(mask)[..., None].clamp(min=1)
    scores = below_best(scores, mask)
    mean = (scores * share).sum(-1, keepdim=True)
    deviation = ((scores - mean).abs() * share).sum(-1)
    return deviation.clamp(min=SMALLEST_SPREAD)
