"""Blocks of rows of NeuralSort, for functions of all rows that never hold the whole matrix."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cascaderank.sorting._neural_sort.distances import distances_of
from cascaderank.sorting._neural_sort.lines import LOG2_E
from cascaderank.sorting.order import Ties, sort_best_first

_BLOCK_BYTES = {"cpu": 2**20}
"""Size of a block: on a CPU, small enough for the cache."""

_LARGE_BLOCK = 2**26
"""Size of a block on other devices: large enough to occupy the whole device."""

_NEGLIGIBLE = -80.0
"""Logarithm of a number that is negligible beside 1, in float64 too, and still a normal float32."""


class SortedUnits(NamedTuple):
    """Scaled scores in descending order, and the lines of their logits."""

    best_first: Tensor
    """``[lists, list]``; 0 behind the real candidates."""
    order: Tensor
    """``[lists, list]``; original index of each candidate."""
    candidates: Tensor
    """``[lists, 1]``; number of real candidates."""
    behind: Tensor
    """``[lists, list]`` bool; ``True`` for padding."""
    distances: Tensor
    """``[lists, list]``; result of :func:`distances_of`."""
    ties: Ties | None
    """Ties of the scores; ``None`` if it is certain that all are distinct."""
    intercept: Tensor
    """``[lists, list]``; very negative behind the real candidates."""


def sort_units(unit: Tensor, gain: Tensor, mask: Tensor) -> SortedUnits:
    """Sort scaled scores, ``[lists, list]`` in [-1, 1], and compute their lines at a given gain."""
    count = mask.sum(-1, keepdim=True)
    best_first, order = sort_best_first(unit.masked_fill(~mask, -2.0))
    behind = torch.arange(unit.shape[-1], device=unit.device) >= count
    best_first.masked_fill_(behind, 0.0)
    distances, ties = distances_of(best_first, count)
    intercept = (gain * distances).neg_()
    intercept.masked_fill_(behind, torch.finfo(unit.dtype).min / 4)
    return SortedUnits(best_first, order, count, behind, distances, ties, intercept)


def best_logit(slope: Tensor, intercept: Tensor, count: Tensor, pull: Tensor) -> Tensor:
    """Return the largest logit at each pull ``[lists, point]``, that of the nearest rank."""
    rank = (count - 1 - pull).div_(2).round_().long().clamp_(0, slope.shape[-1] - 1)
    # Same order of operations as in blocks_of_rows, so that equal logits cancel exactly.
    return pull * slope.gather(-1, rank) + intercept.gather(-1, rank)


def block_size(slope: Tensor) -> int:
    """Return the number of entries of a block on the device of ``slope``."""
    return _BLOCK_BYTES.get(slope.device.type, _LARGE_BLOCK) // slope.itemsize


def blocks_of_rows(
    slope: Tensor, intercept: Tensor, pull: Tensor, best: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Yield ``exp(logit - best)``, in (0, 1], for blocks of points of all lists.

    Args:
        slope: ``[lists, list]``
        intercept: ``[lists, list]``
        pull: ``[lists, point]``
        best: ``[lists, point]``; largest logit at each pull.

    Yields:
        The slice of points, and a block ``[lists, points, list]`` that the next one overwrites.
    """
    lists, length = slope.shape
    number = pull.shape[-1]
    at_once = max(1, min(number, block_size(slope) // (lists * length)))
    buffer = slope.new_empty(lists * at_once * length)
    for start in range(0, number, at_once):
        at = slice(start, min(start + at_once, number))
        block = buffer[: lists * (at.stop - start) * length].view(lists, -1, length)
        torch.mul(pull[:, at, None], slope[:, None], out=block)
        block.add_(intercept[:, None]).sub_(best[:, at, None])
        yield at, block.clamp_(_NEGLIGIBLE, 0.0).mul_(LOG2_E).exp2_()
