"""Scores in descending order, and the straight lines that the logits of NeuralSort are."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from cascaderank.sorting._neural_sort.distances import distances_of, gradient_of_distances
from cascaderank.sorting.order import Ties, sort_best_first
from cascaderank.sorting.scaling import positive_temperature, slopes_of

LOG2_E = math.log2(math.e)
"""``exp(x) = exp2(x * LOG2_E)``"""

SYNC_LENGTH = 512
"""Shortest list for which reading values back from a device other than the CPU pays off."""


class Lines(NamedTuple):
    """Lists in descending order. The logits of a row are ``pull * slope + intercept``, to base 2.

    Torch computes ``exp2`` several times as fast as ``exp``.

    Row i = 1..n has the pull ``n + 1 - 2i``, where n is the number of real candidates. Candidate i
    has the largest logit in row i, and at every pull that is nearer to row i than to other rows.
    """

    slope: Tensor
    """``[lists, list]``, non-increasing along the real candidates, and 0 behind them."""
    intercept: Tensor
    """``[lists, list]``, and 0 behind the real candidates."""
    k: Tensor
    """``[lists or 1, 1]``; number of rows that are kept, from 0 to all. One value if it is certain
    that all lists have the same."""
    candidates: Tensor
    """``[lists or 1, 1]``; number of real candidates."""
    real: Tensor | None
    """``[lists, list]`` of the slope's dtype, 1 for a real candidate; ``None`` if all are real."""


class Sorted(NamedTuple):
    """How the scores were sorted and scaled."""

    order: Tensor
    """``[lists, list]``; original index of each candidate."""
    temperature: Tensor
    """``[lists, 1]``; the temperature, clamped from below."""
    clamped: Tensor
    """``[lists, 1]`` bool; lists with a bounded gap, or for which the temperature was lower."""
    ties: Ties | None
    """``None`` if it is certain that all scores are distinct."""


def lines_of(
    scores: Tensor, temperature: Tensor, k: Tensor, mask: Tensor | None
) -> tuple[Lines, Sorted]:
    """Sort the scores and return the lines of their logits.

    Neither large scores nor low temperatures overflow: slopes are bounded, see
    :func:`~cascaderank.sorting.scaling.slopes_of`.

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
        if k.stride(0) == 0 or (scores.device.type == "cpu" and bool((k == k[:1]).all())):
            k = k[:1]
    else:
        count = mask.sum(-1, keepdim=True)
        best_first, order = sort_best_first(scores.masked_fill(~mask, -torch.inf))
        behind = torch.arange(length, device=scores.device) >= count
        best_first.masked_fill_(behind, 0.0)
        real = (~behind).to(scores)
    slope, middle, bounded = slopes_of(best_first, count, temperature, unit=LOG2_E)
    if real is not None:
        slope.masked_fill_(behind, 0.0)
    distances, ties = distances_of(slope, count, middle)
    intercept = distances.neg_()
    if real is not None:
        intercept.masked_fill_(behind, 0.0)
    k = torch.minimum(k, count).clamp_(min=0)
    return Lines(slope, intercept, k, count, real), Sorted(
        order, positive_temperature(temperature), bounded, ties
    )


def gradient_of_scores(
    lines: Lines, sorting: Sorted, of_slope: Tensor, of_intercept: Tensor
) -> Tensor:
    """Return the gradient with respect to the scores, ``[lists, list]``, undefined for padding.

    Args:
        lines: first result of :func:`lines_of`.
        sorting: second result of :func:`lines_of`.
        of_slope: gradient with respect to the slope to base e, ``[lists, list]``; 0 behind the real
            candidates.
        of_intercept: gradient with respect to the intercept to base e, likewise. It adds up to 0
            over a list, since the softmax is invariant to a constant added to all logits of a row.
    """
    of_distances = gradient_of_distances(of_intercept, lines.candidates, sorting.ties)
    of_scores = (of_slope - of_distances).div_(sorting.temperature)
    return torch.empty_like(of_scores).scatter_(-1, sorting.order, of_scores)


def gradient_of_temperature(
    lines: Lines, sorting: Sorted, of_slope: Tensor, of_intercept: Tensor
) -> Tensor:
    """Return the gradient with respect to the temperature, ``[lists, 1]``; 0 where clamped."""
    of_temperature = (of_slope * lines.slope).addcmul_(of_intercept, lines.intercept)
    of_temperature = of_temperature.sum(-1, keepdim=True).div_(sorting.temperature).div_(-LOG2_E)
    return of_temperature.masked_fill_(sorting.clamped, 0.0)
