"""Sorting lists of scores, and the tied scores of a sorted list.

:func:`sort_best_first` and :func:`sort_ascending` carry no gradient and use the fastest sort of the
device. :func:`sorted_values` carries a gradient that is shared evenly among equal scores.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Ties(NamedTuple):
    """Extent of the run of equal scores that each score of a sorted list belongs to."""

    first: Tensor
    """``[..., list]``; index of the first score of the run."""
    behind: Tensor
    """``[..., list]``; end of the run: the index of its last score plus 1."""


def sort_best_first(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return each list in descending order, and the original index of each of its scores.

    On a CPU, numpy sorts several times as fast as torch. A float32 and its index fit into one
    int64, and sorting these integers is faster still. So are float64 numbers sorted that float32
    represents exactly. No gradient flows through the result.

    Args:
        scores: ``[..., list]`` floating point; only float32 and float64 are sorted faster.

    Returns:
        ``(best first, order)``, each ``[..., list]``. Equal scores stay in the order of the list.

    Examples:
        >>> best_first, order = sort_best_first(torch.tensor([1.0, 3.0, 2.0]))
        >>> best_first, order
        (tensor([3., 2., 1.]), tensor([1, 2, 0]))
    """
    scores = scores.detach()
    if scores.device.type == "cpu" and scores.dtype is torch.float32:
        order = _order_of_float32(scores)
    elif scores.device.type == "cpu" and scores.dtype is torch.float64:
        narrow = scores.float()
        if torch.equal(narrow.double(), scores):
            order = _order_of_float32(narrow)
        else:
            order = torch.from_numpy(np.argsort(-scores.numpy(), axis=-1, kind="stable"))
    else:
        return torch.sort(scores, dim=-1, descending=True, stable=True)
    return scores.gather(-1, order), order


def sort_ascending(scores: Tensor) -> Tensor:
    """Return each list ``[..., list]`` in ascending order. No gradient flows through the result."""
    scores = scores.detach()
    if scores.device.type == "cpu" and scores.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(scores.numpy(), axis=-1))
    return scores.sort(dim=-1).values


def sorted_values(scores: Tensor) -> Tensor:
    """Sort each list, best first, and share the gradient of equal values evenly.

    A plain sort passes the gradient of the k-th value to one of the candidates that tie for it,
    depending on their positions in the list. Here all of them receive the same part, so the order
    of the list never matters.

    Args:
        scores: ``[..., list]``, finite.

    Returns:
        ``[..., list]``, non-increasing along the list.

    Examples:
        >>> scores = torch.tensor([1.0, 2.0, 2.0], requires_grad=True)
        >>> sorted_values(scores)[0].backward()
        >>> scores.grad
        tensor([0.0000, 0.5000, 0.5000])

    Source: this project.
    """
    values = scores.sort(dim=-1, descending=True).values
    fixed = values.detach()
    group = F.pad((fixed[..., 1:] != fixed[..., :-1]).long().cumsum(-1), (1, 0))
    # Of value 0, so that sums of large scores do not overflow; only the gradient counts.
    total = torch.zeros_like(values).scatter_add(-1, group, values - fixed)
    count = torch.zeros_like(fixed).scatter_add(-1, group, torch.ones_like(fixed))
    return fixed + (total / count.clamp(min=1)).gather(-1, group)


def find_ties(best_first: Tensor, count: Tensor) -> Ties:
    """Return the run of equal scores of each score, among the first ``count`` scores.

    Args:
        best_first: ``[..., list]``, non-increasing along the first ``count`` scores of each list.
        count: ``[..., 1]``; number of real scores of each list.
    """
    rank = torch.arange(best_first.shape[-1], device=best_first.device)
    new = best_first[..., 1:] != best_first[..., :-1]
    new = F.pad(new, (1, 0), value=True) | (rank == count)
    first = torch.where(new, rank, 0).cummax(-1).values
    next_first = F.pad(torch.where(new, rank, len(rank))[..., 1:], (0, 1), value=len(rank))
    return Ties(first, next_first.flip(-1).cummin(-1).values.flip(-1))


def all_distinct(gaps: Tensor, count: Tensor) -> bool:
    """Return whether no two scores are equal, as far as known without a device synchronisation.

    On a device other than the CPU the result is always ``False``.

    Args:
        gaps: ``[..., list - 1]``; differences between adjacent scores of a sorted list.
        count: ``[..., 1]``; number of real scores of each list.
    """
    if gaps.device.type != "cpu":
        return False
    if count.numel() > 1:
        behind = torch.arange(1, gaps.shape[-1] + 1) >= count
        gaps = gaps.masked_fill(behind, 1.0)
    return not gaps.numel() or float(gaps.amin()) > 0


def _order_of_float32(scores: Tensor) -> Tensor:
    bits = (scores.contiguous().numpy() + np.float32(0)).view(np.int32)  # -0 becomes 0: they tie
    falling = bits >> 31
    falling &= 0x7FFFFFFF
    falling ^= bits  # integers that sort as the floating point numbers do
    np.invert(falling, out=falling)
    keys = falling.astype(np.int64)
    keys <<= 32
    keys |= np.arange(bits.shape[-1])
    keys.sort(axis=-1)
    keys &= 0xFFFFFFFF
    return torch.from_numpy(keys)
