"""Sums of distances between the scores of a list, without enumerating pairs."""

import torch
from torch import Tensor
from torch.nn import functional as F

from cascaderank.sorting.order import Ties, all_distinct, find_ties
from cascaderank.sorting.scaling import sums_from_place


def distances_of(best_first: Tensor, count: Tensor, middle: Tensor) -> tuple[Tensor, Ties | None]:
    """Return the sum of each score's distances to all others, less that of the middle score.

    ``sum_i |s_j - s_i| - sum_i |s_m - s_i|``, where m is the middle score. The sums are accumulated
    from score to score over the gaps between them, from the middle outwards: crossing a gap adds it
    to the distance of every score on one side and subtracts it from that of every score on the
    other. A distant score is therefore reached last and does not affect the precision of others.
    Takes O(n) time and memory. Equal scores get bitwise equal sums. No gradient flows through the
    result.

    Args:
        best_first: ``[..., list]``, non-increasing along the first ``count`` scores of each list.
        count: ``[..., 1]``; number of real scores of each list.
        middle: ``[..., 1]``; place of the middle score, any real score.

    Returns:
        ``[..., list]``, undefined behind the real scores; and the ties, ``None`` if it is
        certain that all scores are distinct.

    Examples:
        >>> distances_of(torch.tensor([3.0, 1.0, 0.0]), torch.tensor([3]), torch.tensor([1]))[0]
        tensor([2., 0., 1.])

    Source: this project.
    """
    length = best_first.shape[-1]
    gaps = best_first[..., :-1] - best_first[..., 1:]
    ties = None if all_distinct(gaps, count) else find_ties(best_first, count)
    twice = torch.arange(2.0, 2 * length, 2.0, dtype=gaps.dtype, device=gaps.device)
    sums = sums_from_place(gaps.mul_(twice - count), middle)
    if ties is not None and best_first.device.type != "cpu":  # sums differ by rounding there
        sums = sums.gather(-1, ties.first)
    return sums, ties


def gradient_of_distances(gradient: Tensor, count: Tensor, ties: Ties | None) -> Tensor:
    """Return the gradient with respect to the scores, given that of the sums of their distances.

    The gradient of the distance between equal scores is 0, as that of ``abs`` is.

    Args:
        gradient: ``[..., list]``, adding up to 0 over each list, as the gradient of a softmax of
            the sums does, and 0 behind the real scores.
        count: ``[..., 1]``; number of real scores of each list.
        ties: ties between the scores; ``None`` if all are distinct.

    Returns:
        ``[..., list]``, undefined behind the real scores.
    """
    if ties is None:
        twice = torch.arange(
            0.0, 2 * gradient.shape[-1], 2.0, dtype=gradient.dtype, device=gradient.device
        )
        return gradient.cumsum(-1).mul_(-2).addcmul_(gradient, count - twice)
    sums = F.pad(gradient.cumsum(-1), (1, 0))
    both = sums.gather(-1, ties.first).add_(sums.gather(-1, ties.behind))
    return (gradient * (count - ties.first - ties.behind)).sub_(both)
