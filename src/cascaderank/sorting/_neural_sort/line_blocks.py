"""All rows of NeuralSort at once: how sure they are, and of whom, without the matrix.

What is wanted of the rows ``softmax_j(pull_i slope_j - offset_j)`` are sums over all of them: of
the logarithms of what they are divided by, and of each candidate's probability. Pull may be any
number, and where rows change slowly a few points between them stand for all
(:mod:`cascaderank.sorting._neural_sort.quadrature`); elsewhere they are taken block by block. The sums of
probabilities are the gradient of the sum of logarithms, so there is nothing left to be done in
the backward pass.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cascaderank.sorting._neural_sort.distances import distances_of
from cascaderank.sorting._neural_sort.lines import LOG2_E
from cascaderank.sorting.order import Ties, sort_best_first

_BLOCK_BYTES = {"cpu": 2**20}
"""How large a block is: on a CPU, it should stay in the cache."""

_LARGE_BLOCK = 2**26
"""On other devices, it should keep all of it busy."""

_NEGLIGIBLE = -80.0
"""The logarithm of what is nothing beside 1, in float64 too, and is still a normal float32."""


class SortedUnits(NamedTuple):
    """Scaled scores in falling order, and what makes them lines."""

    best_first: Tensor
    """``[lists, list]``; 0 behind the real ones."""
    order: Tensor
    """``[lists, list]``; where each was."""
    candidates: Tensor
    """``[lists, 1]``; how many are real."""
    behind: Tensor
    """``[lists, list]`` bool; what is not."""
    distances: Tensor
    """``[lists, list]``; of :func:`distances_of`."""
    ties: Ties | None
    """Likewise."""
    intercept: Tensor
    """``[lists, list]``; very negative behind the real ones."""


def sort_units(unit: Tensor, gain: Tensor, mask: Tensor) -> SortedUnits:
    """Sort scores in [-1, 1], ``[lists, list]``, that are to be multiplied by a gain."""
    count = mask.sum(-1, keepdim=True)
    best_first, order = sort_best_first(unit.masked_fill(~mask, -2.0))
    behind = torch.arange(unit.shape[-1], device=unit.device) >= count
    best_first.masked_fill_(behind, 0.0)
    distances, ties = distances_of(best_first, count)
    intercept = (gain * distances).neg_()
    intercept.masked_fill_(behind, torch.finfo(unit.dtype).min / 4)
    return SortedUnits(best_first, order, count, behind, distances, ties, intercept)


def best_logit(slope: Tensor, intercept: Tensor, count: Tensor, pull: Tensor) -> Tensor:
    """Return the largest logit at each pull ``[lists, point]``: that of the nearest rank."""
    rank = (count - 1 - pull).div_(2).round_().long().clamp_(0, slope.shape[-1] - 1)
    # In the order of blocks_of_rows, so that the two cancel to the bit where they should.
    return pull * slope.gather(-1, rank) + intercept.gather(-1, rank)


def block_size(slope: Tensor) -> int:
    return _BLOCK_BYTES.get(slope.device.type, _LARGE_BLOCK) // slope.itemsize


def blocks_of_rows(
    slope: Tensor, intercept: Tensor, pull: Tensor, best: Tensor
) -> Iterator[tuple[slice, Tensor]]:
    """Yield ``exp(logit - best)``, in (0, 1], for some points of all lists.

    Yields:
        Which points, and a block ``[lists, points, list]`` that the next one overwrites.
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
