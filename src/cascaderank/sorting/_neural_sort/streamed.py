"""Top-k probabilities of NeuralSort for logits of any size, computed some rows at a time.

The logits of row i are straight lines in its pull, ``pull_i * slope_j - offset_j``. The pull is a
continuous parameter, so rows can be interpolated. Where the probabilities change slowly from row to
row, a few points replace all rows of a group, those kept or those dropped
(:mod:`cascaderank.sorting._neural_sort.quadrature`). With candidates in order of score, two facts
hold for every row:

- the candidate with the largest logit is the one whose rank is nearest to the row;
- as a function of the row, the probability of a candidate rises up to its own rank and falls behind
  it. Among the rows of a group it is therefore largest in the row of its own rank, or in the row of
  the group that is nearest to it.

Both maxima are subtracted before a logit is exponentiated, so that one exponential per entry serves
the sums over rows and the sums over columns, and neither overflows or vanishes. The rest are
products of a block with a few vectors. The backward pass recomputes the blocks, and only those of
groups with a gradient.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from cascaderank.sorting._neural_sort.lines import LOG2_E, SYNC_LENGTH, Lines
from cascaderank.sorting._neural_sort.quadrature import (
    fewer_points,
    is_resolved,
    points_needed,
    points_of,
)

_BLOCK_BYTES = {"cpu": 2**22}
"""Size of a block: on a CPU, small enough for the cache."""

_LARGE_BLOCK = 2**26
"""Size of a block on other devices: large enough to occupy the whole device."""

_FLOOR = 1e-30
"""Smaller than any sum over a row or a group of rows; the value of sums without terms."""

_NEGLIGIBLE = -115.0
"""Logarithm to base 2 of a number that is negligible beside 1, in float64 too, and still a normal
float32."""


class Group(NamedTuple):
    """Rows that are kept, or rows that are dropped, and the sums over them."""

    pull: Tensor
    """``[lists or 1, point]``"""
    weight: Tensor
    """``[lists or 1, point]``; number of rows that a point stands for."""
    best: Tensor
    """``[lists, point]``; largest logit of each point, to base 2."""
    shift: Tensor
    """``[lists, list]``; largest ``logit - best`` of a candidate, to base 2."""
    largest: Tensor
    """``[lists, list]``; exponential of the shift, 0 for padding."""
    inverse: Tensor
    """``[lists, point]``; 1 over the sum of the row."""
    sums: Tensor
    """``[lists, list]``; sum of each candidate over the rows, divided by ``largest``."""


class StreamedSums(NamedTuple):
    """Both groups of rows of some lists."""

    kept: Group
    dropped: Group

    def logs(self) -> tuple[Tensor, Tensor]:
        """Return the log-probabilities of being kept and of being dropped, ``[lists, list]``."""
        kept, dropped = self
        ratio = (kept.sums / dropped.sums).log_()
        ratio.add_(kept.shift - dropped.shift, alpha=1 / LOG2_E)
        return F.logsigmoid(ratio), F.logsigmoid(-ratio)

    def share(self) -> Tensor:
        """Return the probability of being kept, ``[lists, list]``."""
        return self.logs()[0].exp_()


def sum_streamed(lines: Lines) -> StreamedSums:
    """Sum the rows that are kept, and those that are dropped; O(n) time per point."""
    slope, intercept = lines.slope, lines.intercept
    k, count = (x.expand(len(slope), 1) for x in (lines.k, lines.candidates))
    length = slope.shape[-1]
    # Reading values waits for the device, which does not pay off for short lists.
    reads_values = slope.device.type == "cpu" or length >= SYNC_LENGTH
    spread = float((slope.amax(-1) - slope.amin(-1)).max()) / LOG2_E if reads_values else 0.0
    rank = torch.arange(length, device=slope.device)
    buffer, groups = _buffer(slope), []
    for sizes, middle, border, own in (
        (k, count - k, k - 1, rank < k),
        (count - k, -k, k, rank >= k),
    ):
        rows = _Rows(slope, intercept, count, sizes[:, 0], middle.to(slope), lines.real)
        shift = _largest_logit(rows, border.clamp(0, length - 1)).masked_fill_(own, 0.0)
        most = max(int(sizes.max()), 1) if reads_values else length
        number = points_needed(most, spread, slope.dtype) if reads_values else length
        sums_of_group = None
        while sums_of_group is None:
            sums_of_group = _sum_group(rows, most, number, shift, buffer)
            number = fewer_points(number * 3 // 2, most)
        groups.append(sums_of_group)
    return StreamedSums(*groups)


def streamed_gradient(
    lines: Lines, sums: StreamedSums, of_kept: Tensor | None, of_dropped: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients with respect to slope and intercept to base e, given those of the logs.

    Only rows of groups with a gradient are computed. All tensors are ``[lists, list]``.
    """
    of_slope, of_intercept = torch.zeros_like(lines.slope), torch.zeros_like(lines.slope)
    slope, intercept = lines.slope, lines.intercept
    buffer = _buffer(slope)
    for group, above in zip(sums, (of_kept, of_dropped), strict=True):
        if above is None:
            continue
        ratio = above / group.sums
        back = ratio.new_zeros(len(ratio), 3, ratio.shape[-1])
        what = slope, intercept, group.pull, group.best, group.shift
        for at, block in _blocks(*what, buffer):
            pull, inverse = group.pull[:, at], group.inverse[:, at]
            share = group.weight[:, at] * inverse
            of_row = torch.bmm(ratio[:, None], block.mT)[:, 0].mul_(inverse).mul_(share)
            back.baddbmm_(torch.stack([share * pull, of_row, of_row * pull], 1), block)
        pulled, of_rows, of_pulled_rows = back.unbind(1)
        of_slope.addcmul_(ratio, pulled).addcmul_(of_pulled_rows, group.largest, value=-1.0)
        of_intercept.add_(above).addcmul_(of_rows, group.largest, value=-1.0)
    return of_slope, of_intercept


class _Rows(NamedTuple):
    """Rows of a group, before the points that stand for them are chosen."""

    slope: Tensor
    intercept: Tensor
    candidates: Tensor
    """``[lists, 1]``; number of real candidates."""
    sizes: Tensor
    """``[lists]``; number of rows."""
    middle: Tensor
    """``[lists, 1]``; pull at the middle of the group."""
    real: Tensor | None
    """``[lists, list]``; 1 for a real candidate, ``None`` if all are real."""


def _sum_group(rows: _Rows, most: int, number: int, shift: Tensor, buffer: Tensor) -> Group | None:
    """Return the sums from the given number of points, ``None`` if these are too few.

    The shift is that of :class:`Group`.
    """
    slope, intercept, real = rows.slope, rows.intercept, rows.real
    points = points_of(rows.sizes, number, rows=most, like=slope)
    pull = rows.middle + points.place
    best = _best_logit(rows, pull)
    largest = shift.exp2() if real is None else shift.exp2() * real
    inverse = slope.new_empty(pull.shape)
    sums = slope.new_zeros(len(slope), points.polynomial.shape[1], slope.shape[-1])
    for at, block in _blocks(slope, intercept, pull, best, shift, buffer):
        of_row = torch.bmm(largest[:, None], block.mT)[:, 0]
        torch.reciprocal(of_row.clamp_(min=_FLOOR), out=inverse[:, at])
        share = points.weight[:, at] * inverse[:, at]
        sums.baddbmm_(share[:, None] * points.polynomial[:, :, at], block)
    if sums.shape[1] > 1 and not is_resolved(sums, real):
        return None
    mass = sums[:, 0].clamp_(min=_FLOOR)
    return Group(pull, points.weight, best, shift, largest, inverse, mass)


def _best_logit(rows: _Rows, pull: Tensor) -> Tensor:
    """Return the largest logit at each pull ``[lists, point]``, that of the nearest rank."""
    rank = (rows.candidates - 1 - pull).div_(2).round_()
    rank = rank.long().clamp_(0, rows.slope.shape[-1] - 1)
    return pull * rows.slope.gather(-1, rank) + rows.intercept.gather(-1, rank)


def _largest_logit(rows: _Rows, border: Tensor) -> Tensor:
    """Return ``logit - best`` of all candidates in the row of a given rank, ``[lists, list]``."""
    pull = (rows.candidates - 1 - 2 * border).to(rows.slope)
    # Same order of operations as in _blocks and _best_logit, so that equal logits cancel exactly.
    logits = pull * rows.slope + rows.intercept
    return logits.sub_(logits.gather(-1, border)).clamp_(max=0.0)


def _block_size(slope: Tensor) -> int:
    return _BLOCK_BYTES.get(slope.device.type, _LARGE_BLOCK) // slope.itemsize


def _buffer(slope: Tensor) -> Tensor:
    """Allocate the memory of a block; all blocks share it."""
    return slope.new_empty(max(_block_size(slope), slope.numel()))


def _blocks(
    slope: Tensor,
    intercept: Tensor,
    pull: Tensor,
    best: Tensor,
    shift: Tensor,
    buffer: Tensor,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield ``exp2(logit - best - shift)``, positive and bounded, for blocks of points.

    Yields:
        The slice of points, and a block ``[lists, points, list]`` that the next one overwrites.
    """
    lists, length = slope.shape
    number = pull.shape[-1]
    at_once = max(1, min(number, len(buffer) // (lists * length)))
    slope, intercept = slope[:, None], intercept[:, None]
    for start in range(0, number, at_once):
        at = slice(start, min(start + at_once, number))
        some = pull[:, at, None]
        block = buffer[: lists * some.shape[1] * length].view(lists, -1, length)
        torch.mul(some, slope, out=block)
        block.add_(intercept).sub_(best[:, at, None]).sub_(shift[:, None])
        yield at, block.clamp_(_NEGLIGIBLE, 0.0).exp2_()
