"""Blocks of rows of NeuralSort, for functions of all rows that never hold the whole matrix."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cascaderank.sorting._neural_sort.distances import distances_of, gradient_of_distances
from cascaderank.sorting._neural_sort.lines import LOG2_E
from cascaderank.sorting.order import Ties, sort_best_first
from cascaderank.sorting.scaling import positive_temperature, slopes_of

_BLOCK_BYTES = {"cpu": 2**20}
"""Size of a block: on a CPU, small enough for the cache."""

_LARGE_BLOCK = 2**26
"""Size of a block on other devices: large enough to occupy the whole device."""

_NEGLIGIBLE = -80.0
"""Logarithm of a number that is negligible beside 1, in float64 too, and still a normal float32."""


class SortedLines(NamedTuple):
    """Scores in descending order, and the lines of their logits, to base e."""

    slope: Tensor
    """``[lists, list]``, non-increasing along the real candidates; 0 behind them."""
    order: Tensor
    """``[lists, list]``; original index of each candidate."""
    candidates: Tensor
    """``[lists, 1]``; number of real candidates."""
    behind: Tensor
    """``[lists, list]`` bool; ``True`` for padding."""
    distances: Tensor
    """``[lists, list]``; result of :func:`distances_of` for the slopes."""
    ties: Ties | None
    """Ties of the slopes; ``None`` if it is certain that all are distinct."""
    intercept: Tensor
    """``[lists, list]``; very negative behind the real candidates."""
    temperature: Tensor
    """``[lists, 1]``; the temperature, clamped from below."""
    bounded: Tensor
    """``[lists, 1]`` bool; lists whose gaps or temperature are bounded, see :func:`slopes_of`."""

    def gradients(self, of_slope: Tensor, of_offset: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients with respect to scores and temperature, given those of the lines.

        Args:
            of_slope: ``[lists, list]``; 0 behind the real candidates.
            of_offset: gradient with respect to the distances, minus the intercepts; likewise.

        Returns:
            ``[lists, list]`` in the order of the list, undefined for padding, and ``[lists, 1]``.
        """
        of_scores = gradient_of_distances(of_offset, self.candidates, self.ties).add_(of_slope)
        of_scores.div_(self.temperature)
        of_temperature = (of_slope * self.slope).addcmul_(of_offset, self.distances)
        of_temperature = of_temperature.sum(-1, keepdim=True).div_(self.temperature).neg_()
        of_temperature.masked_fill_(self.bounded, 0.0)
        return torch.empty_like(of_scores).scatter_(-1, self.order, of_scores), of_temperature


def sort_lines(scores: Tensor, temperature: Tensor, mask: Tensor) -> SortedLines:
    """Sort scores ``[lists, list]`` and compute their lines at temperatures ``[lists, 1]``."""
    count = mask.sum(-1, keepdim=True)
    lowest = torch.finfo(scores.dtype).min
    best_first, order = sort_best_first(scores.masked_fill(~mask, lowest))
    behind = torch.arange(scores.shape[-1], device=scores.device) >= count
    best_first.masked_fill_(behind, 0.0)
    slope, middle, bounded = slopes_of(best_first, count, temperature)
    slope.masked_fill_(behind, 0.0)
    distances, ties = distances_of(slope, count, middle)
    intercept = distances.neg().masked_fill_(behind, lowest / 4)
    temperature = positive_temperature(temperature)
    return SortedLines(
        slope, order, count, behind, distances, ties, intercept, temperature, bounded
    )


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
