"""Cross-entropy."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.sorting._neural_sort.distances import gradient_of_distances
from cascaderank.sorting._neural_sort.line_blocks import (
    best_logit,
    block_size,
    blocks_of_rows,
    sort_units,
)
from cascaderank.sorting._neural_sort.lines import SYNC_LENGTH
from cascaderank.sorting._neural_sort.quadrature import (
    Points,
    fewer_points,
    is_resolved,
    points_needed,
    points_of,
)

_USUAL_POINTS = 24
"""How many points are thought to be needed when lists are put into chunks."""

_SAMPLED = 8
"""How many candidates of a list are degrees whether the points were enough."""


class CrossEntropyOfLines(torch.autograd.Function):
    """From scaled scores to the cross-entropy of each list, and how much each candidate gets.

    ``apply(unit, gain, wanted, mask)`` takes ``[lists, list]`` in [-1, 1], ``[lists, 1]``,
    ``[lists, list]`` int64 (the sum of the first and the last rank that a candidate should have,
    counted from 0) and ``[lists, list]`` bool. It returns the sum of ``-Y_ij log P_ij``
    ``[lists, 1]``, and ``sum_i P_ij`` ``[lists, list]``, which is a constant to the gradient.

    As the rows and columns of Y add up to 1, the logits add up to the pull of the ranks that each
    candidate should have times its slope, less the offsets. The best of row i is the candidate
    that has rank i, so the offsets cancel against those within the logarithms, and what is left of
    the slopes is a sum of steps between neighbours, none of them negative.
    """

    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, gain: Tensor, wanted: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        best_first, order, count, behind, distances, ties, intercept = sort_units(unit, gain, mask)
        rank = torch.arange(unit.shape[-1], device=unit.device)
        too_much = (wanted.gather(-1, order) - 2 * rank).masked_fill_(behind, 0)
        with torch.autocast(unit.device.type, enabled=False):
            logs, mass, pulled = _sums_of_rows(gain * best_first, intercept, count)
        steps = best_first[:, :-1] - best_first[:, 1:]
        missed = too_much.cumsum(-1)[:, :-1].masked_fill(behind[:, 1:], 0).to(steps)
        missed = (missed * steps).sum(-1, keepdim=True)

        of_slope = pulled.add_(too_much - (count - 1 - 2 * rank))
        of_slope.masked_fill_(behind, 0.0)
        of_offset = (1 - mass).masked_fill_(behind, 0.0)
        of_gain = (of_slope * best_first).addcmul_(of_offset, distances).sum(-1, keepdim=True)
        of_best_first = gradient_of_distances(of_offset, count, ties).add_(of_slope).mul_(gain)
        of_unit = torch.empty_like(of_best_first).scatter_(-1, order, of_best_first)
        ctx.save_for_backward(of_unit, of_gain)
        totals = torch.empty_like(mass).scatter_(-1, order, mass)
        ctx.mark_non_differentiable(totals)
        return torch.addcmul(logs, gain, missed), totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        of_unit, of_gain = ctx.saved_tensors
        return above * of_unit, above * of_gain, None, None


class _Sums(NamedTuple):
    logs: Tensor
    """``[lists, 1]``; of what rows are divided by, each over the exponential of its best logit."""
    mass: Tensor
    """``[lists, list]``; of probabilities."""
    pulled: Tensor
    """``[lists, list]``; of probabilities times the pull of the row."""


def _sums_of_rows(slope: Tensor, intercept: Tensor, count: Tensor) -> _Sums:
    """Sum all rows of a softmax over lines.

    Args:
        slope: ``[lists, list]``, never growing along the first ``count`` candidates of each list,
            and 0 behind them.
        intercept: ``[lists, list]``, such that candidate i is the best of row i and of what is
            nearer to it than to other rows; very negative behind the real candidates.
        count: ``[lists, 1]``; how many candidates of each list are real.
    """
    length = slope.shape[-1]
    some = max(1, block_size(slope) // (length * min(length, _USUAL_POINTS)))
    parts = []
    for start in range(0, len(slope), some):
        lines = [x[start : start + some] for x in (slope, intercept, count)]
        most, number = _rows_and_points(lines[0], lines[2])
        sums_of_chunk = None
        while sums_of_chunk is None:
            sums_of_chunk = _sums_of_points(*lines, most=most, number=number)
            number = fewer_points(number * 3 // 2, most)
        parts.append(sums_of_chunk)
    return parts[0] if len(parts) == 1 else _Sums(*map(torch.cat, zip(*parts, strict=True)))


def _rows_and_points(slope: Tensor, count: Tensor) -> tuple[int, int]:
    """Return how many rows the longest list has, and how many points to begin with."""
    length = slope.shape[-1]
    if slope.device.type != "cpu" and length < SYNC_LENGTH:
        return length, length
    spread = float((slope.amax(-1) - slope.amin(-1)).max())
    most = max(1, int(count.max()))
    return most, points_needed(most, spread, slope.dtype)


def _sums_of_points(
    slope: Tensor, intercept: Tensor, count: Tensor, *, most: int, number: int
) -> _Sums | None:
    """Return the sums by so many points, ``None`` if these are too few."""
    points = points_of(count[:, 0], number, rows=most, like=slope)
    pull = points.place.expand(len(slope), -1)
    best = best_logit(slope, intercept, count, pull)
    divisor = torch.empty_like(best)
    sums = slope.new_zeros(len(slope), 2, slope.shape[-1])
    degrees = points.polynomial.shape[1]
    sampled = _sampled_places(count) if degrees > 1 else None
    parts = slope.new_zeros(len(slope), degrees, _SAMPLED)
    for at, block in blocks_of_rows(slope, intercept, pull, best):
        of_row = torch.sum(block, -1, out=divisor[:, at])
        share = points.weight[:, at] / of_row
        sums.baddbmm_(torch.stack([share, share * pull[:, at]], 1), block)
        if sampled is not None:
            sampled_block = block.gather(-1, sampled[:, None].expand(-1, block.shape[1], -1))
            parts.baddbmm_(share[:, None] * points.polynomial[:, :, at], sampled_block)
    if sampled is not None and not is_resolved(parts, None):
        return None
    logs = (points.weight * divisor.log_()).sum(-1, keepdim=True)
    if number < most:
        logs.add_(_best_of_points_less_of_rows(slope, intercept, count, points, best))
    return _Sums(logs.clamp_(min=0.0), *sums.unbind(1))


def _best_of_points_less_of_rows(
    slope: Tensor, intercept: Tensor, count: Tensor, points: Points, best: Tensor
) -> Tensor:
    """Return by how much the best logits of the points exceed those of the rows, ``[lists, 1]``.

    They are as sharp as a list can be, and no points stand for them; only with what rows are
    divided by they make a smooth function.
    """
    rank = torch.arange(slope.shape[-1], device=slope.device)
    of_rows = (count - 1 - 2 * rank).double() * slope + intercept
    of_rows.masked_fill_(rank >= count, 0.0)
    of_points = points.weight.double() * best
    return (of_points.sum(-1, keepdim=True) - of_rows.sum(-1, keepdim=True)).to(slope)


def _sampled_places(count: Tensor) -> Tensor:
    """Return the places of some candidates of each list, ``[lists, some]``, its ends among them."""
    share = torch.arange(_SAMPLED, device=count.device)
    return (count - 1).clamp(min=0) * share // (_SAMPLED - 1)
