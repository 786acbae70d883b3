"""Sums of distances between the scores of a list, without looking at pairs."""

from typing import Any, cast

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
        rank = torch.arange(best_first.shape[-1], device=best_first.device)
        first, behind = _ties(best_first, count, rank)
        real = rank < count
        ctx.save_for_backward(first, behind, count, real)
        above, total = _sums_before(best_first, first)
        return (2 * above - total + (count - 2 * first) * best_first).masked_fill(~real, 0.0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        first, behind, count, real = ctx.saved_tensors
        gradient = gradient.masked_fill(~real, 0.0)
        above, total = _sums_before(gradient, first)
        not_below, _ = _sums_before(gradient, behind)
        lower_less_higher = count - behind - first
        of_scores = gradient * lower_less_higher + (total - not_below - above)
        return of_scores.masked_fill(~real, 0.0), None


def _ties(best_first: Tensor, count: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Return the place of the first score that equals each, and the one behind the last."""
    new = F.pad(best_first.diff(dim=-1) != 0, (1, 0), value=True) | (rank == count)
    first = torch.where(new, rank, 0).cummax(-1).values
    next_first = F.pad(torch.where(new, rank, len(rank))[..., 1:], (0, 1), value=len(rank))
    return first, next_first.flip(-1).cummin(-1).values.flip(-1)


def _sums_before(values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sum of the values before each place, and that of all."""
    sums = F.pad(values.cumsum(-1), (1, 0))
    return sums.gather(-1, places), sums[..., -1:]
