"""Cross-entropy between target ranks and NeuralSort, and its column sums, without the matrix.

Two sums over the rows ``softmax_j(pull_i slope_j - offset_j)`` are needed: the sum of the
logarithms of their denominators, and the sum of each candidate's probability. The pull is a
continuous parameter, and where rows change slowly a few points between them replace all rows
(:mod:`cascaderank.sorting._neural_sort.quadrature`); elsewhere the rows are computed block by
block. The sums of probabilities are the gradient of the sum of logarithms, so the backward pass
needs no further sums.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.sorting._neural_sort.line_blocks import (
    best_logit,
    block_size,
    blocks_of_rows,
    sort_lines,
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
"""Expected number of points, for splitting lists into chunks."""

_SAMPLED = 8
"""Number of candidates of a list at which the precision of the points is checked."""


class CrossEntropyOfLines(torch.autograd.Function):
    """Cross-entropy of each list as a function of the scores, and column sums.

    ``apply(scores, temperature, targets, mask)`` takes ``[lists, list]``, ``[lists, 1]``,
    ``[lists, list]`` int64 (first plus last target rank of a candidate, counted from 0) and
    ``[lists, list]`` bool. It returns the sum of ``-Y_ij log P_ij`` ``[lists, 1]``, and
    ``sum_i P_ij`` ``[lists, list]``, through which no gradient flows.

    As the rows and columns of Y add up to 1, the sum of the target logits is the pull of each
    candidate's target ranks times its slope, less the offsets. The largest logit of row i is that
    of the candidate with rank i, so the offsets cancel against those within the logarithms. The
    remaining terms of the slopes are a sum of differences between neighbours, none of them
    negative.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, temperature: Tensor, targets: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        lines = sort_lines(scores, temperature, mask)
        slope, count, behind = lines.slope, lines.candidates, lines.behind
        rank = torch.arange(scores.shape[-1], device=scores.device)
        excess = (targets.gather(-1, lines.order) - 2 * rank).masked_fill_(behind, 0)
        with torch.autocast(scores.device.type, enabled=False):
            logs, mass, pulled = _sums_of_rows(slope, lines.intercept, count)
        steps = slope[:, :-1] - slope[:, 1:]
        missed = excess.cumsum(-1)[:, :-1].masked_fill(behind[:, 1:], 0).to(steps)
        missed = (missed * steps).sum(-1, keepdim=True)

        of_slope = pulled.add_(excess - (count - 1 - 2 * rank))
        of_slope.masked_fill_(behind, 0.0)
        of_offset = (1 - mass).masked_fill_(behind, 0.0)
        ctx.save_for_backward(*lines.gradients(of_slope, of_offset))
        totals = torch.empty_like(mass).scatter_(-1, lines.order, mass)
        ctx.mark_non_differentiable(totals)
        return logs + missed, totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        of_scores, of_temperature = ctx.saved_tensors
        return above * of_scores, above * of_temperature, None, None


class _Sums(NamedTuple):
    logs: Tensor
    """``[lists, 1]``; sum of the logarithms of the denominators, each relative to the exponential
    of the row's largest logit."""
    mass: Tensor
    """``[lists, list]``; sum of the probabilities."""
    pulled: Tensor
    """``[lists, list]``; sum of the probabilities times the pull of the row."""


def _sums_of_rows(slope: Tensor, intercept: Tensor, count: Tensor) -> _Sums:
    """Sum all rows of a softmax over lines.

    Args:
        slope: ``[lists, list]``, non-increasing along the first ``count`` candidates of each list,
            and 0 behind them.
        intercept: ``[lists, list]``, such that candidate i has the largest logit in row i and at
            every pull nearer to row i than to other rows; very negative behind the real candidates.
        count: ``[lists, 1]``; number of real candidates of each list.
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
    """Return the number of rows of the longest list, and the number of points to begin with."""
    length = slope.shape[-1]
    if slope.device.type != "cpu" and length < SYNC_LENGTH:
        return length, length
    spread = float((slope.amax(-1) - slope.amin(-1)).max())
    most = max(1, int(count.max()))
    return most, points_needed(most, spread, slope.dtype)


def _sums_of_points(
    slope: Tensor, intercept: Tensor, count: Tensor, *, most: int, number: int
) -> _Sums | None:
    """Return the sums from the given number of points, ``None`` if these are too few."""
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
    """Return by how much the largest logits of the points exceed those of the rows, ``[lists, 1]``.

    As a function of the pull, the largest logit is not smooth, so quadrature does not apply to it
    alone. Only together with the logarithm of the denominator does it form a smooth function.
    """
    rank = torch.arange(slope.shape[-1], device=slope.device)
    of_rows = (count - 1 - 2 * rank).double() * slope + intercept
    of_rows.masked_fill_(rank >= count, 0.0)
    of_points = points.weight.double() * best
    return (of_points.sum(-1, keepdim=True) - of_rows.sum(-1, keepdim=True)).to(slope)


def _sampled_places(count: Tensor) -> Tensor:
    """Return the indices of some candidates of each list, ``[lists, some]``, with both ends."""
    share = torch.arange(_SAMPLED, device=count.device)
    return (count - 1).clamp(min=0) * share // (_SAMPLED - 1)
