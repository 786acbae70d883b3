"""Sums of distances between the scores of a list, without looking at pairs."""

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def sums_of_distances(best_first: Tensor, count: Tensor) -> Tensor:
    """Return how far each score of a list is from all others together: ``sum_i |s_j - s_i|``.

    Takes O(n log n) time and O(n) memory. Equal scores get equal sums to the bit, and the gradient
    of the distance between them is 0, as that of ``abs`` is.

    Args:
        best_first: ``[..., list]``, never growing along the first ``count`` scores of each list,
            and 0 behind them.
        count: ``[..., 1]``; how many scores of each list are real.

    Returns:
        ``[..., list]``, at least 0; 0 behind the real scores.

    Examples:
        >>> sums_of_distances(torch.tensor([3.0, 1.0, 0.0, 0.0]), torch.tensor([3]))
        tensor([5., 3., 4., 0.])

    Source: this project.
    """
    return cast("Tensor", _SumsOfDistances.apply(best_first, count))  # type: ignore[no-untyped-call]


class _SumsOfDistances(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, best_first: Tensor, count: Tensor) -> Tensor:
        distances, ctx.ties = distances_of(best_first, count)
        ctx.save_for_backward(count)
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (count,) = ctx.saved_tensors
        return gradient_of_distances(gradient, count, ctx.ties), None


class Ties(NamedTuple):
    """Where the scores that are equal to each begin and end."""

    first: Tensor
    """``[..., list]``; the place of the first."""
    behind: Tensor
    """``[..., list]``; the place behind the last."""


def distances_of(best_first: Tensor, count: Tensor) -> tuple[Tensor, Ties | None]:
    """Return the sums of distances, and the ties; ``None`` if it is known that there are none."""
    rank = torch.arange(best_first.shape[-1], device=best_first.device)
    new = best_first[..., 1:] != best_first[..., :-1]
    on_cpu = best_first.device.type == "cpu"  # elsewhere, to ask would be to wait
    if on_cpu and (bool(new.all()) or bool((new | (rank[1:] >= count)).all())):
        ties, first = None, rank
        total = best_first.cumsum(-1)
        above, total = total - best_first, total[..., -1:]
    else:
        ties = _ties(new, count, rank)
        first = ties.first
        above, total = _sums_before(best_first, first)
    distances = (count - 2 * first).to(best_first) * best_first
    distances.add_(above, alpha=2).sub_(total)
    return _fill_behind(distances, count, rank), ties


def gradient_of_distances(gradient: Tensor, count: Tensor, ties: Ties | None) -> Tensor:
    """Return the gradient by the scores, given that by the sums and what the sums came with."""
    rank = torch.arange(gradient.shape[-1], device=gradient.device)
    gradient = _fill_behind(gradient.clone(), count, rank)
    if ties is None:
        not_below = gradient.cumsum(-1)
        both = 2 * not_below - gradient
        total = not_below[..., -1:]
        lower_less_higher = count - 1 - 2 * rank
    else:
        above, total = _sums_before(gradient, ties.first)
        both = above + _sums_before(gradient, ties.behind)[0]
        lower_less_higher = count - ties.behind - ties.first
    of_scores = gradient.mul_(lower_less_higher.to(gradient)).add_(total).sub_(both)
    return _fill_behind(of_scores, count, rank)


def _fill_behind(values: Tensor, count: Tensor, rank: Tensor) -> Tensor:
    """Put 0 behind the real scores, in place."""
    if values.device.type == "cpu" and bool((count == len(rank)).all()):
        return values
    return values.masked_fill_(rank >= count, 0.0)


def find_ties(best_first: Tensor, count: Tensor) -> Ties:
    """Find the scores that are equal to each, among the first ``count``."""
    rank = torch.arange(best_first.shape[-1], device=best_first.device)
    return _ties(best_first[..., 1:] != best_first[..., :-1], count, rank)


def _ties(new: Tensor, count: Tensor, rank: Tensor) -> Ties:
    """Find equal scores, given which but the first differ from the one before."""
    new = F.pad(new, (1, 0), value=True) | (rank == count)
    first = torch.where(new, rank, 0).cummax(-1).values
    next_first = F.pad(torch.where(new, rank, len(rank))[..., 1:], (0, 1), value=len(rank))
    return Ties(first, next_first.flip(-1).cummin(-1).values.flip(-1))


def _sums_before(values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the values before each place, and that of all."""
    sums = F.pad(values.cumsum(-1), (1, 0))
    return sums.gather(-1, places), sums[..., -1:]
