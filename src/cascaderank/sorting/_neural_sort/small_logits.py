"""Top-k probabilities of NeuralSort where no logit is large.

The logits of row i are straight lines in how hard it pulls, ``pull_i * slope_j + intercept_j``. The
rows of a group, those kept or those dropped, are cut into *stretches* of neighbours, short enough
for ``exp(place * slope)`` to be a power series of few terms, where the place is the pull less that
in the middle of the stretch. So all rows of a stretch are what is in its middle, exponentiated
once, times a few powers of the slopes, which all stretches share. Sums over candidates and
over rows are products with these powers, and of a row itself nothing is kept but one number.

Stretches of no more rows than there would be terms need no series: all of them share the
exponentials for each of the places, which stand where the powers would.
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
"""The largest logarithm that a series gives the exponential of. Where it is smallest, a series
has lost digits: a factor of exp(2.5) of rounding, at worst."""

_SHORT_STRETCH = 10
"""Stretches of so many rows are worth their exponentials, however wide they are."""

_FLOOR = 1e-30
"""Less than any sum over a row or a group of rows can be, for those where there is none."""


class SmallLogitSums(NamedTuple):
    """The sums over both groups of rows of some lists, and what their gradient needs."""

    kept: Tensor
    """``[lists, list]``; the sum over the rows that are kept."""
    dropped: Tensor
    """``[lists, list]``; that over the others."""
    at_middle: Tensor
    """``[stretch, lists, list]``; the exponential of the logit in the middle of each stretch, 0
    where no candidate is."""
    inverse: Tensor
    """``[lists, stretch, row]``; one over the sum of the row, 0 if it is not of its group."""
    pull: Tensor
    """``[lists or 1, stretch, row]``"""
    series: Tensor | None
    """``[term, row]``; of ``exp(place * slope)`` by powers, for the places of a stretch."""
    powers: Tensor
    """``[term, lists, list]``; of the slopes over the steepest. Without a series ``[row, lists,
    list]``, ``exp(place * slope)`` itself."""
    border: int
    """How many stretches are of rows that are kept; they come first."""

    def logs(self) -> tuple[Tensor, Tensor]:
        """Return the logarithms of the shares that are kept and dropped, ``[lists, list]``."""
        ratio = self.kept / self.dropped
        return ratio.reciprocal().log1p_().neg_(), ratio.log1p_().neg_()

    def share(self) -> Tensor:
        """Return the share that is kept, ``[lists, list]``."""
        return self.kept / (self.kept + self.dropped)


def sum_small_logits(lines: Lines, steepest: float) -> SmallLogitSums:
    """Sum the rows that are kept, and those that are not.

    Args:
        lines: of some lists.
        steepest: no slope is farther from 0; positive.
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
    """Return the gradients by slope and intercept to base e, given those by the logarithms.

    Only rows of what is learned through are looked at, and that must be something. All tensors are
    ``[lists, list]``.
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
    learned = slice(groups[0][2].start, groups[-1][2].stop)
    weighed, at_middle = weighed[learned], sums.at_middle[learned]
    inverse, pull = sums.inverse[:, learned], sums.pull[:, learned]
    factors = inverse.new_empty(len(inverse), 3, *inverse.shape[1:])
    pulled, of_rows, of_pulled_rows = factors.unbind(1)
    torch.mul(inverse, pull, out=pulled)
    of_row = _sums_over_candidates(weighed, sums.series, sums.powers)
    torch.mul(of_row.mul_(inverse), inverse, out=of_rows)
    torch.mul(of_rows, pull, out=of_pulled_rows)
    back = _sums_over_rows(factors.flatten(1, 2), sums.series, sums.powers)
    back = back.view(len(back), 3, -1, back.shape[-1]).permute(1, 2, 0, 3)  # of each stretch
    of_slope = _sum_of_products(list(zip(weighed, back[0], strict=True)))
    of_slope = _less_products(of_slope, at_middle, back[2])
    above = groups[0][0] + groups[1][0] if len(groups) > 1 else groups[0][0]
    return of_slope, _less_products(above, at_middle, back[1])


def _cut(lines: Lines, steepest: float) -> tuple[tuple[int, int], int]:
    """Return how many stretches each group is cut into, and how many rows a stretch has."""
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
    """Return how hard the rows of each stretch pull, and which are of their group.

    Returns:
        The pull, and 1 for a row of the group, 0 for one behind its last; each
        ``[lists or 1, stretch, row]``.
    """
    k, count = lines.k, lines.candidates
    if k.numel() == count.numel() == 1 and k.device.type == "cpu":  # all lists are alike
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
    with torch.inference_mode(mode=False):  # or it could not be kept for a backward pass
        pull = torch.from_numpy(count - 1 - 2 * row).to(dtype)
        return pull[None], torch.from_numpy(within).to(dtype)[None]


def _sums_over_candidates(factors: Tensor, series: Tensor | None, powers: Tensor) -> Tensor:
    """Return how much each row of each stretch has, ``[lists, stretch, row]``.

    Args:
        factors: ``[stretch, lists, list]``; in the middle of each stretch.
        series: of :class:`SmallLogitSums`.
        powers: likewise.
    """
    moments = torch.bmm(factors.transpose(0, 1), powers.permute(1, 2, 0))
    return moments if series is None else moments @ series


def _sums_over_rows(factors: Tensor, series: Tensor | None, powers: Tensor) -> Tensor:
    """Return how much each candidate has, ``[lists, stretch, list]``, over what is in the middle.

    Args:
        factors: ``[lists, stretch, row]``
        series: of :class:`SmallLogitSums`.
        powers: likewise.
    """
    return torch.bmm(factors if series is None else factors @ series.T, powers.transpose(0, 1))


def _powers(base: Tensor, terms: int) -> Tensor:
    """Return the powers of all numbers from 0 on, ``[term, lists, list]``."""
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
