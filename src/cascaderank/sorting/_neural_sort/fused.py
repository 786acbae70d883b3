"""Top-k probabilities of NeuralSort on a GPU, by Triton kernels that hold one tile at a time.

Every entry is computed where it is needed, from the two lines of its candidate, and is only ever
added to sums. Memory is therefore linear in the list. Time is quadratic, which a GPU affords for
lists of the lengths that are ranked. Small and large logits are treated alike: the maximum is
subtracted before exponentiation, as in :mod:`cascaderank.sorting._neural_sort.streamed`.

Without Triton or without a GPU this module is not used.
"""

# The arguments of kernels are pointers and numbers, whose types Triton determines.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cascaderank.sorting._neural_sort.lines import LOG2_E, Lines

try:
    import triton
    import triton.language as tl
except ImportError:  # available on Linux only
    triton = None

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 2**14
"""Longer lists with small logits are faster by power series, whose time is linear."""

_ROWS, _COLUMNS = 32, 64
"""Size of a tile: rows, candidates."""


class FusedSums(NamedTuple):
    """Sums over both groups of rows, and the tensors of their gradient; ``[lists, list]`` each."""

    inverse: Tensor
    """1 over the sum of each row's exponentials, relative to that of its best candidate."""
    kept: Tensor
    """Sum over the rows that are kept, divided by 2 to the power of its shift."""
    dropped: Tensor
    """Sum over the rows that are dropped, divided by 2 to the power of its shift."""
    kept_shift: Tensor
    """Largest logit of a candidate in the rows that are kept, less that of its row, to base 2."""
    dropped_shift: Tensor
    """The same in the rows that are dropped."""

    def logs(self) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of being kept and of being dropped, ``[lists, list]``."""
        ratio = (self.kept / self.dropped).log_()
        ratio.add_(self.kept_shift - self.dropped_shift, alpha=1 / LOG2_E)
        return F.logsigmoid(ratio), F.logsigmoid(-ratio)

    def share(self) -> Tensor:
        """Return the probability of being kept, ``[lists, list]``."""
        return self.logs()[0].exp_()


def use_kernels(slope: Tensor) -> bool:
    """Return whether the kernels are available and the fastest method for these lists."""
    return slope.is_cuda and slope.shape[-1] <= _LONGEST and find_spec("triton") is not None


def sum_fused(lines: Lines) -> FusedSums:
    """Sum the rows that are kept, and those that are dropped."""
    slope, intercept, count, k = _contiguous(lines)
    sums = FusedSums(*(torch.empty_like(slope) for _ in range(5)))
    length = slope.shape[-1]
    where = slope, intercept, count
    _launch(_sum_rows, _ROWS, length, *where, sums.inverse)
    _launch(_sum_columns, _COLUMNS, length, *where, k, *sums)
    return sums


def fused_gradient(
    lines: Lines, sums: FusedSums, of_kept: Tensor | None, of_dropped: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients with respect to slope and intercept to base e, given those of the logs.

    Only rows of groups with a gradient are computed. All tensors are ``[lists, list]``.
    """
    slope, intercept, count, k = _contiguous(lines)
    none = torch.zeros_like(slope)
    of_kept, of_dropped = (none if x is None else x for x in (of_kept, of_dropped))
    ratios = of_kept / sums.kept, of_dropped / sums.dropped
    of_row, of_slope, of_intercept = (torch.empty_like(slope) for _ in range(3))
    groups = {"through_kept": of_kept is not none, "through_dropped": of_dropped is not none}
    length = slope.shape[-1]
    where = slope, intercept, count, k, sums.inverse, sums.kept_shift, sums.dropped_shift, *ratios
    _launch(_row_gradients, _ROWS, length, *where, of_row)
    _launch(_line_gradients, _COLUMNS, length, *where, of_row, of_slope, of_intercept, **groups)
    return of_slope, of_intercept.add_(of_kept).add_(of_dropped)


def _contiguous(lines: Lines) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    numbers = (x[:, 0].expand(len(lines.slope)) for x in (lines.candidates, lines.k))
    count, k = (x.to(lines.slope.device, torch.int32).contiguous() for x in numbers)
    return lines.slope.contiguous(), lines.intercept.contiguous(), count, k


def _launch(kernel: Any, size: int, length: int, *tensors: Tensor, **flags: bool) -> None:
    """Run a kernel over all lists, ``size`` of their rows or candidates per program."""
    grid = (len(tensors[0]), triton.cdiv(length, size))
    with torch.cuda.device_of(tensors[0]):
        kernel[grid](*tensors, length, tile_rows=_ROWS, tile_columns=_COLUMNS, **flags)


def _jit(function: Callable[..., None]) -> Any:
    return function if triton is None else triton.jit(function)


@_jit
def _shares(pull, slope, intercept, best, shift):
    """Return ``exp2(logit - best - shift)`` of a tile, positive and at most 1."""
    logit = pull[:, None] * slope[None, :] + intercept[None, :] - best[:, None] - shift
    return tl.exp2(tl.minimum(tl.maximum(logit, -115.0), 0.0))


@_jit
def _sum_rows(
    slope, intercept, count, inverse, length, tile_rows: tl.constexpr, tile_columns: tl.constexpr
):
    at, real = tl.program_id(0).to(tl.int64) * length, tl.load(count + tl.program_id(0))
    row = tl.program_id(1) * tile_rows + tl.arange(0, tile_rows)
    own_slope = tl.load(slope + at + row, mask=row < length, other=0.0)
    own_intercept = tl.load(intercept + at + row, mask=row < length, other=0.0)
    pull = (real - 1 - 2 * row).to(own_slope.dtype)
    best = pull * own_slope + own_intercept
    total = tl.zeros([tile_rows], dtype=own_slope.dtype)
    for start in range(0, real, tile_columns):
        column = start + tl.arange(0, tile_columns)
        a = tl.load(slope + at + column, mask=column < real, other=0.0)
        b = tl.load(intercept + at + column, mask=column < real, other=0.0)
        logit = pull[:, None] * a[None, :] + b[None, :] - best[:, None]
        share = tl.exp2(tl.minimum(logit, 0.0))
        total += tl.sum(tl.where((column < real)[None, :], share, 0.0), 1)
    one_over = tl.where(row < real, 1.0 / tl.maximum(total, 1e-30), 0.0)
    tl.store(inverse + at + row, one_over, mask=row < length)


@_jit
def _sum_columns(
    slope, intercept, count, k, inverse, kept, dropped, kept_shift, dropped_shift, length,
    tile_rows: tl.constexpr, tile_columns: tl.constexpr,
):  # fmt: skip
    at, real = tl.program_id(0).to(tl.int64) * length, tl.load(count + tl.program_id(0))
    border = tl.load(k + tl.program_id(0))
    column = tl.program_id(1) * tile_columns + tl.arange(0, tile_columns)
    a = tl.load(slope + at + column, mask=column < length, other=0.0)
    b = tl.load(intercept + at + column, mask=column < length, other=0.0)
    # A candidate is most probable in the row of its own rank, or in the nearest row of the group.
    last = tl.minimum(tl.maximum(border - 1, 0), length - 1)
    pull = (real - 1 - 2 * last).to(a.dtype)
    best = pull * tl.load(slope + at + last) + tl.load(intercept + at + last)
    of_kept = tl.where(column < border, 0.0, tl.minimum(pull * a + b - best, 0.0))
    first = tl.minimum(border, length - 1)
    pull = (real - 1 - 2 * first).to(a.dtype)
    best = pull * tl.load(slope + at + first) + tl.load(intercept + at + first)
    of_dropped = tl.where(column < border, tl.minimum(pull * a + b - best, 0.0), 0.0)
    kept_sum = tl.zeros([tile_columns], dtype=a.dtype)
    dropped_sum = tl.zeros([tile_columns], dtype=a.dtype)
    for start in range(0, real, tile_rows):
        row = start + tl.arange(0, tile_rows)
        own_slope = tl.load(slope + at + row, mask=row < real, other=0.0)
        own_intercept = tl.load(intercept + at + row, mask=row < real, other=0.0)
        one_over = tl.load(inverse + at + row, mask=row < real, other=0.0)
        pulls = (real - 1 - 2 * row).to(a.dtype)
        bests = pulls * own_slope + own_intercept
        is_kept = (row < border)[:, None]
        shift = tl.where(is_kept, of_kept[None, :], of_dropped[None, :])
        share = _shares(pulls, a, b, bests, shift) * one_over[:, None]
        kept_sum += tl.sum(tl.where(is_kept, share, 0.0), 0)
        dropped_sum += tl.sum(tl.where(is_kept, 0.0, share), 0)
    tl.store(kept + at + column, tl.maximum(kept_sum, 1e-30), mask=column < length)
    tl.store(dropped + at + column, tl.maximum(dropped_sum, 1e-30), mask=column < length)
    tl.store(kept_shift + at + column, of_kept, mask=column < length)
    tl.store(dropped_shift + at + column, of_dropped, mask=column < length)


@_jit
def _row_gradients(
    slope, intercept, count, k, inverse, kept_shift, dropped_shift, kept_ratio, dropped_ratio,
    of_row, length, tile_rows: tl.constexpr, tile_columns: tl.constexpr,
):  # fmt: skip
    """Sum, over the entries of a row, the gradient of each entry times the entry."""
    at, real = tl.program_id(0).to(tl.int64) * length, tl.load(count + tl.program_id(0))
    border = tl.load(k + tl.program_id(0))
    row = tl.program_id(1) * tile_rows + tl.arange(0, tile_rows)
    own_slope = tl.load(slope + at + row, mask=row < length, other=0.0)
    own_intercept = tl.load(intercept + at + row, mask=row < length, other=0.0)
    one_over = tl.load(inverse + at + row, mask=row < length, other=0.0)
    pull = (real - 1 - 2 * row).to(own_slope.dtype)
    best = pull * own_slope + own_intercept
    is_kept = (row < border)[:, None]
    total = tl.zeros([tile_rows], dtype=own_slope.dtype)
    for start in range(0, real, tile_columns):
        column = start + tl.arange(0, tile_columns)
        in_list = column < real
        a = tl.load(slope + at + column, mask=in_list, other=0.0)
        b = tl.load(intercept + at + column, mask=in_list, other=0.0)
        of_kept = tl.load(kept_shift + at + column, mask=in_list, other=0.0)
        of_dropped = tl.load(dropped_shift + at + column, mask=in_list, other=0.0)
        by_kept = tl.load(kept_ratio + at + column, mask=in_list, other=0.0)
        by_dropped = tl.load(dropped_ratio + at + column, mask=in_list, other=0.0)
        shift = tl.where(is_kept, of_kept[None, :], of_dropped[None, :])
        share = _shares(pull, a, b, best, shift)
        total += tl.sum(share * tl.where(is_kept, by_kept[None, :], by_dropped[None, :]), 1)
    tl.store(of_row + at + row, total * one_over, mask=row < length)


@_jit
def _line_gradients(
    slope, intercept, count, k, inverse, kept_shift, dropped_shift, kept_ratio, dropped_ratio,
    of_row, of_slope, of_intercept, length, tile_rows: tl.constexpr, tile_columns: tl.constexpr,
    through_kept: tl.constexpr, through_dropped: tl.constexpr,
):  # fmt: skip
    """Sum the gradients of a candidate's entries over rows, with respect to slope and intercept."""
    at, real = tl.program_id(0).to(tl.int64) * length, tl.load(count + tl.program_id(0))
    border = tl.load(k + tl.program_id(0))
    column = tl.program_id(1) * tile_columns + tl.arange(0, tile_columns)
    in_list = column < length
    a = tl.load(slope + at + column, mask=in_list, other=0.0)
    b = tl.load(intercept + at + column, mask=in_list, other=0.0)
    of_kept = tl.load(kept_shift + at + column, mask=in_list, other=0.0)
    of_dropped = tl.load(dropped_shift + at + column, mask=in_list, other=0.0)
    by_kept = tl.load(kept_ratio + at + column, mask=in_list, other=0.0)
    by_dropped = tl.load(dropped_ratio + at + column, mask=in_list, other=0.0)
    by_slope = tl.zeros([tile_columns], dtype=a.dtype)
    by_intercept = tl.zeros([tile_columns], dtype=a.dtype)
    begin, end = 0, real
    if not through_kept:
        begin = (tl.minimum(border, real) // tile_rows) * tile_rows
    if not through_dropped:
        end = tl.minimum(border, real)
    for start in range(begin, end, tile_rows):
        row = start + tl.arange(0, tile_rows)
        own_slope = tl.load(slope + at + row, mask=row < real, other=0.0)
        own_intercept = tl.load(intercept + at + row, mask=row < real, other=0.0)
        one_over = tl.load(inverse + at + row, mask=row < real, other=0.0)
        weight = tl.load(of_row + at + row, mask=row < real, other=0.0)
        pull = (real - 1 - 2 * row).to(a.dtype)
        best = pull * own_slope + own_intercept
        is_kept = (row < border)[:, None]
        shift = tl.where(is_kept, of_kept[None, :], of_dropped[None, :])
        share = _shares(pull, a, b, best, shift) * one_over[:, None]
        through_row = share * tl.exp2(shift) * weight[:, None]
        through = share * tl.where(is_kept, by_kept[None, :], by_dropped[None, :]) - through_row
        by_slope += tl.sum(pull[:, None] * through, 0)
        by_intercept -= tl.sum(through_row, 0)
    tl.store(of_slope + at + column, tl.where(column < real, by_slope, 0.0), mask=in_list)
    tl.store(of_intercept + at + column, tl.where(column < real, by_intercept, 0.0), mask=in_list)
