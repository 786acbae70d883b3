"""Scores in falling order, as the lines that the logits of NeuralSort are."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cascaderank.sorting._neural_sort.distances import distances_of, gradient_of_distances
from cascaderank.sorting.order import Ties, sort_best_first

LOG2_E = math.log2(math.e)
"""``exp(x) = exp2(x * LOG2_E)``"""

SYNC_LENGTH = 512
"""Shortest list for which the values of a tensor are read back from a device other than the CPU."""


class Lines(NamedTuple):
    """Lists in falling order. The logits of a row are ``pull * slope + intercept``, to base 2.

    Torch is several times as fast at ``exp2`` as at ``exp``.

    Row i = 1..n has a pull of ``n + 1 - 2i``, where n is sorting many candidates are real. Candidate i
    is the best of row i, and of what is nearer to it than to other rows.
    """

    slope: Tensor
    """``[lists, list]``, never growing along the real candidates, and 0 behind them."""
    intercept: Tensor
    """``[lists, list]``, at most 0, and 0 behind the real candidates."""
    k: Tensor
    """``[lists or 1, 1]``; sorting many rows are kept, from 0 to all. One for all if it is known that
    they are alike."""
    candidates: Tensor
    """``[lists or 1, 1]``; sorting many are real."""
    real: Tensor | None
    """``[lists, list]`` of the dtype of the slope, 1 for a real candidate; ``None`` if all are."""


class Sorted(NamedTuple):
    """How scores became lines."""

    order: Tensor
    """``[lists, list]``; where each candidate was."""
    temperature: Tensor
    """``[lists, 1]``; the temperature, but no less than the lowest."""
    clamped: Tensor
    """``[lists, 1]`` bool; where the temperature is colder."""
    ties: Ties | None
    """``None`` if it is known that there are none."""


def lines_of(
    scores: Tensor, temperature: Tensor, k: Tensor, mask: Tensor | None
) -> tuple[Lines, Sorted]:
    """Sort scores, and return the lines that they are.

    Neither large scores nor cold temperatures overflow. Below the temperature at which even scores
    that differ by rounding are told apart, colder is no different.

    Args:
        scores: ``[lists, list]``.
        temperature: ``[lists, 1]``, positive.
        k: ``[lists, 1]``.
        mask: ``[lists, list]`` bool; ``None`` if every candidate is real.
    """
    length = scores.shape[-1]
    real = None
    if mask is None:
        count = k.new_full((1, 1), length)
        best_first, order = sort_best_first(scores)
        low, middle = best_first[:, -1:], best_first[:, length // 2 :][:, :1]
        if k.stride(0) == 0 or (scores.device.type == "cpu" and bool((k == k[:1]).all())):
            k = k[:1]
    else:
        count = mask.sum(-1, keepdim=True)
        best_first, order = sort_best_first(scores.masked_fill(~mask, -torch.inf))
        behind = torch.arange(length, device=scores.device) >= count
        best_first.masked_fill_(behind, 0.0)
        low, middle = (
            best_first.gather(-1, place) for place in ((count - 1).clamp_(min=0), count // 2)
        )
        real = (~behind).to(scores)
    # The difference of halves does not overflow. That to the middle is exact for most scores.
    limits = torch.finfo(scores.dtype)
    half_range = (best_first[:, :1] / 2).sub_(low / 2).clamp_(min=limits.tiny / limits.eps**2)
    lowest = half_range.mul_(limits.eps**2)
    clamped = torch.maximum(temperature, lowest)
    slope = torch.add(middle / -2, best_first, alpha=0.5).div_(clamped / (2 * LOG2_E))
    distances, ties = distances_of(slope, count)
    intercept = distances.neg_()
    if real is not None:
        slope, intercept = slope.masked_fill_(behind, 0.0), intercept.masked_fill_(behind, 0.0)
    k = torch.minimum(k, count).clamp_(min=0)
    return Lines(slope, intercept, k, count, real), Sorted(
        order, clamped, clamped > temperature, ties
    )


def gradient_of_scores(
    lines: Lines, sorting: Sorted, of_slope: Tensor, of_intercept: Tensor
) -> Tensor:
    """Return the gradient by scores, ``[lists, list]``, of no meaning where none is real.

    Args:
        lines: from :func:`lines_of`.
        sorting: likewise.
        of_slope: the gradient by the slope to base e, ``[lists, list]``; 0 behind the real
            candidates.
        of_intercept: likewise. It adds up to 0 over a list, since what is added to all logits of
            a row changes nothing.
    """
    of_distances = gradient_of_distances(of_intercept, lines.candidates, sorting.ties)
    of_scores = (of_slope - of_distances).div_(sorting.temperature)
    return torch.empty_like(of_scores).scatter_(-1, sorting.order, of_scores)


def gradient_of_temperature(
    lines: Lines, sorting: Sorted, of_slope: Tensor, of_intercept: Tensor
) -> Tensor:
    """Return the gradient by temperature, ``[lists, 1]``; 0 where that is too cold to matter."""
    of_temperature = (of_slope * lines.slope).addcmul_(of_intercept, lines.intercept)
    of_temperature = of_temperature.sum(-1, keepdim=True).div_(sorting.temperature).div_(-LOG2_E)
    return of_temperature.masked_fill_(sorting.clamped, 0.0)
