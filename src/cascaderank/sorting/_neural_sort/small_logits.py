"""Top-k probabilities of NeuralSort where no logit is large.

The logits of row i are straight lines in its pull, ``pull_i * slope_j + intercept_j``. The rows of
a group (those kept or those dropped) are cut into *stretches* of neighbours, short enough for
``exp(place * slope)`` to be a power series of few terms, where the place is the pull relative to
the middle of the stretch. Every row of a stretch is then the exponential at the middle of the
stretch, computed once, times a short combination of powers of the slopes, which all stretches
share. Sums over candidates and over rows are products with these powers, and only one number per
row is stored.

Stretches with no more rows than the series would have terms need no series: all stretches share the
exponentials of each of the places, which are stored in place of the powers.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cascaderank.sorting._neural_sort.lines import LOG2_E, Lines
from cascaderank.sorting._neural_sort.series import series_of, terms_needed

_MAX_EXPONENT = 1.25
"""Largest exponent that a series is used for. Where the exponential is smallest, a series loses
digits: rounding grows by a factor of at most exp(2.5)."""

_SHORT_STRETCH = 10
"""For stretches of at most this many rows, exponentials are used instead of a series, whatever
their width."""

_FLOOR = 1e-30
"""Smaller than any sum over a row or a group of rows; the value of sums without terms."""


class SmallLogitSums(NamedTuple):
    """Sums over both groups of rows of some lists, and the tensors that their gradient needs."""

    kept: Tensor
    """``[lists, list]``; sum over the rows that are kept."""
    dropped: Tensor
    """``[lists, list]``; sum over the rows that are dropped."""
    at_middle: Tensor
    """``[stretch, lists, list]``; exponential of the logit in the middle of each stretch, 0 for
    padding."""
    inverse: Tensor
    """``[lists, stretch, row]``; 1 over the sum of the row, 0 if it is not of its group."""
    pull: Tensor
    """``[lists or 1, stretch, row]``"""
    series: Tensor | None
    """``[term, row]``; coefficients of ``exp(place * slope)`` in powers, by place of a stretch."""
    powers: Tensor
    """``[term, lists, list]``; powers of the slopes over the steepest slope. Without a series
    ``[row, lists, list]``, ``exp(place * slope)`` itself."""
    border: int
    """Number of stretches of rows that are kept; they come first."""

    def logs(self) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of being kept and of being dropped, ``[lists, list]``."""
        ratio = self.kept / self.dropped
        return ratio.reciprocal().log1p_().neg_(), ratio.log1p_().neg_()

    def share(self) -> Tensor:
        """Return the probability of being kept, ``[lists, list]``."""
        return self.kept / (self.kept + self.dropped)


def sum_small_logits(lines: Lines, steepest: float) -> SmallLogitSums:
    """Sum the rows that are kept, and those that are dropped.

    Args:
        lines: lines of some lists.
        steepest: upper bound of the absolute slopes; positive.
    """
    slope = lines.slope
    stretches, rows = _cut(lines, steepest)
    place = np.arange(rows - 1, -rows, -2.0)
    series = None
    if rows <= _SHORT_STRETCH:
        powers = (torch.from_numpy(place).to(slope)[:, None, None] * slope).exp2_()
    else:
        terms = terms_needed(place[0] * steepest, slope.dtype)
        series = series_of(place * steepest, terms, like=slope)
        powers = _powers(slope / (steepest * LOG2_E), terms)
    pull, weight = _rows_of(lines, stretches, rows)
    middle = (pull[..., :1] + pull[..., -1:]).div_(2).transpose(0, 1)
    at_middle = torch.addcmul(lines.intercept, middle, slope).exp2_()
    if lines.real is not None:
        at_middle.mul_(lines.real)
    of_row = _sums_over_candidates(at_middle, series, powers)
    inverse = weight / of_row.clamp_(min=_FLOOR)
    shares = _sums_over_rows(inverse, series, powers)
    parts = list(zip(shares.unbind(1), at_middle.unbind(0), strict=True))
    border = stretches[0]
    kept, dropped = (
        _sum_of_products(some).clamp_(min=_FLOOR) for some in (parts[:border], parts[border:])
    )
    return SmallLogitSums(kept, dropped, at_middle, inverse, pull, series, powers, border)


def small_logits_gradient(
    sums: SmallLogitSums, of_kept: Tensor | None, of_dropped: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients with respect to slope and intercept to base e, given those of the logs.

    Only rows of groups with a gradient are computed; at least one group must have one. All tensors
    are ``[lists, list]``.
    """
    border = sums.border
    groups = []
    if of_kept is not None:
        groups.append((of_kept, sums.kept, slice(border)))
    if of_dropped is not None:
        groups.append((of_dropped, sums.dropped, slice(border, None)))
    weighed = torch.empty_like(sums.at_middle)
    for above, mass, some in groups:
        torch.mul(above / mass, sums.at_middle[some], out=weighed[some])
    with_gradient = slice(groups[0][2].start, groups[-1][2].stop)
    weighed, at_middle = weighed[with_gradient], sums.at_middle[with_gradient]
    inverse, pull = sums.inverse[:, with_gradient], sums.pull[:, with_gradient]
    factors = inverse.new_empty(len(inverse), 3, *inverse.shape[1:])
    pulled, of_rows, of_pulled_rows = factors.unbind(1)
    torch.mul(inverse, pull, out=pulled)
    of_row = _sums_over_candidates(weighed, sums.series, sums.powers)
    torch.mul(of_row.mul_(inverse), inverse, out=of_rows)
    torch.mul(of_rows, pull, out=of_pulled_rows)
    back = _sums_over_rows(factors.flatten(1, 2), sums.series, sums.powers)
    back = back.view(len(back), 3, -1, back.shape[-1]).permute(1, 2, 0, 3)  # stretches first
    of_slope = _sum_of_products(list(zip(weighed, back[0], strict=True)))
    of_slope = _less_products(of_slope, at_middle, back[2])
    above = groups[0][0] + groups[1][0] if len(groups) > 1 else groups[0][0]
    return of_slope, _less_products(above, at_middle, back[1])


def _cut(lines: Lines, steepest: float) -> tuple[tuple[int, int], int]:
    """Return the number of stretches of each group, and the number of rows of a stretch."""
    most = max(1 + int(min(_MAX_EXPONENT / steepest, 2**31)), _SHORT_STRETCH)
    sizes = int(lines.k.max()), int((lines.candidates - lines.k).max())
    stretches, short = (
        [max(1, math.ceil(size / rows)) for size in sizes] for rows in (most, _SHORT_STRETCH)
    )
    if sum(short) <= sum(stretches) + 1:
        stretches = short
    rows = max(math.ceil(size / number) for size, number in zip(sizes, stretches, strict=True))
    return (stretches[0], stretches[1]), max(1, rows)


def _rows_of(lines: Lines, stretches: tuple[int, int], rows: int) -> tuple[Tensor, Tensor]:
    """Return the pull of the rows of each stretch, and which rows belong to their group.

    Returns:
        The pull; and 1 for a row of the group, 0 for a row behind its last. Each has shape
        ``[lists or 1, stretch, row]``.
    """
    k, count = lines.k, lines.candidates
    if k.numel() == count.numel() == 1 and k.device.type == "cpu":  # shared by all lists
        return _rows_of_all(int(k), int(count), stretches, rows, lines.slope.dtype)
    stretch = torch.arange(sum(stretches), device=k.device)
    kept = stretch < stretches[0]
    first = torch.where(kept, stretch * rows, (stretch - stretches[0]) * rows + k)[..., None]
    row = first + torch.arange(rows, device=k.device)
    end = torch.where(kept, k, count)[..., None]
    return (count[..., None] - 1 - 2 * row).to(lines.slope), (row < end).to(lines.slope)


@lru_cache(16)
def _rows_of_all(
    k: int, count: int, stretches: tuple[int, int], rows: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    row = np.arange(rows) + rows * np.concatenate([np.arange(x) for x in stretches])[:, None]
    kept = np.arange(len(row)) < stretches[0]
    row += np.where(kept, 0, k)[:, None]
    within = row < np.where(kept, k, count)[:, None]
    with torch.inference_mode(mode=False):  # inference tensors cannot be saved for backward
        pull = torch.from_numpy(count - 1 - 2 * row).to(dtype)
        return pull[None], torch.from_numpy(within).to(dtype)[None]


def _sums_over_candidates(factors: Tensor, series: Tensor | None, powers: Tensor) -> Tensor:
    """Return the sum of each row of each stretch over the candidates, ``[lists, stretch, row]``.

    Args:
        factors: ``[stretch, lists, list]``; at the middle of each stretch.
        series: see :class:`SmallLogitSums`.
        powers: see :class:`SmallLogitSums`.
    """
    moments = torch.bmm(factors.transpose(0, 1), powers.permute(1, 2, 0))
    return moments if series is None else moments @ series


def _sums_over_rows(factors: Tensor, series: Tensor | None, powers: Tensor) -> Tensor:
    """Return the sum of each candidate over rows, over the middle, ``[lists, stretch, list]``.

    Args:
        factors: ``[lists, stretch, row]``
        series: see :class:`SmallLogitSums`.
        powers: see :class:`SmallLogitSums`.
    """
    return torch.bmm(factors if series is None else factors @ series.T, powers.transpose(0, 1))


def _powers(base: Tensor, terms: int) -> Tensor:
    """Return the powers of all numbers, from the 0th on, ``[term, lists, list]``."""
    powers = base.new_empty(terms, *base.shape)
    one_by_one = powers.unbind(0)
    one_by_one[0].fill_(1.0)
    for before, power in pairwise(one_by_one):
        torch.mul(before, base, out=power)
    return powers


def _less_products(total: Tensor, some: Tensor, others: Tensor) -> Tensor:
    for one, other in zip(some, others, strict=True):
        total = torch.addcmul(total, one, other, value=-1.0)
    return total


def _sum_of_products(pairs: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    total = torch.mul(*pairs[0])
    for one, other in pairs[1:]:
        total.addcmul_(one, other)
    return total
