"""Top-k probabilities of NeuralSort, block by block: every row is worked out, none is kept.

The logits of row i are straight lines in how hard the row pulls, ``pull_i * slope_j - offset_j``.
With candidates in order of score, two things are known without looking at a row:

- candidate i is the best of row i, so the row's largest logit is that of candidate i;
- over rows, the probability of a candidate rises up to its own rank and falls behind it. So among
  the rows of a group (those kept, or those dropped), it is largest in the row of its own rank,
  or in the row of the group that is nearest to it.

Both are subtracted before a logit is exponentiated, so that one exponential per entry serves the
sums over rows and the sums over columns, and neither overflows or vanishes. What remains are
products of a block with a few vectors. The backward pass computes the blocks again.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_BLOCK_BYTES = {"cpu": 2**20}
"""How large a block is: on a CPU, it should stay in the cache of a core."""

_LARGE_BLOCK = 2**26
"""On other devices, it should keep all of it busy."""

_GENTLE = 25.0
"""Logits between this and its negative can be exponentiated as they are."""

_FLOOR = 1e-30
"""Less than any sum over a row or a group of rows can be, for those where there is none."""

_NEGLIGIBLE = -80.0
"""The logarithm of what is nothing beside 1, in float64 too, and is still a normal float32."""


def log_top_k_of_lines(
    slope: Tensor, offset: Tensor, k: Tensor, count: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum the first k rows of a softmax over lines, and the others, in log space.

    Row i = 1..n is ``P_ij = softmax_j((n + 1 - 2i) slope_j - offset_j)``. The sums are those of
    :func:`cascaderank.sorting._rows.log_top_k_of_rows`, with the same gradients. Takes O(n^2)
    time and O(n) memory.

    Where there is nothing to say (behind the real candidates, and where k keeps all or none), the
    numbers mean nothing, and must get no gradient from above.

    Args:
        slope: ``[..., list]``, never growing along the first ``count`` candidates of each list,
            and 0 behind them.
        offset: ``[..., list]``, such that candidate i is the best of row i.
        k: ``[..., 1]``; how many rows are kept.
        count: ``[..., 1]``; how many candidates of each list are real.

    Returns:
        ``(log kept, log dropped)``, each ``[..., list]`` and at most 0.

    Source: this project.
    """
    flat = [x.reshape(-1, x.shape[-1]) for x in (slope, offset, k, count)]
    logs = _LogTopKOfLines.apply(*flat)  # type: ignore[no-untyped-call]
    log_kept, log_dropped = cast("tuple[Tensor, Tensor]", logs)
    return log_kept.view(slope.shape), log_dropped.view(slope.shape)


class _LogTopKOfLines(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, slope: Tensor, offset: Tensor, k: Tensor, count: Tensor
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(slope.device.type, enabled=False):
            lines, ctx.gentle = _lines(slope, offset, k, count)
            share, sums = torch.empty_like(lines.group), torch.zeros_like(lines.group)
            for lists, rows, block in _blocks(lines, gentle=ctx.gentle):
                group, part = lines.group[lists, :, rows], share[lists, :, rows]
                of_row = torch.bmm(lines.largest[lists], block.mT).mul_(group[:, :2])
                torch.div(group, of_row.sum(1, keepdim=True).clamp_(min=_FLOOR), out=part)
                sums[lists].baddbmm_(part, block)
            kept, dropped = sums[:, :2].clamp(min=_FLOOR).unbind(1)
            difference = (kept / dropped).log() + (lines.shift[:, 0] - lines.shift[:, 1])
        ctx.save_for_backward(*lines, share, sums)
        return F.logsigmoid(difference), F.logsigmoid(-difference)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_kept: Tensor, of_dropped: Tensor) -> tuple[Tensor | None, ...]:
        *saved, share, sums = ctx.saved_tensors
        lines = _Lines(*saved)
        with torch.autocast(share.device.type, enabled=False):
            mass, pulled = sums[:, :2], sums[:, 2:]
            gradient = torch.stack([of_kept, of_dropped], 1)
            ratio = gradient / mass.clamp(min=_FLOOR)
            back = torch.zeros_like(sums)
            for lists, rows, block in _blocks(lines, gentle=ctx.gentle):
                part = share[lists, :, rows]
                of_row = torch.bmm(ratio[lists], block.mT).mul_(part[:, :2])
                back[lists].baddbmm_(part * of_row.sum(1, keepdim=True), block)
            of_offset = lines.largest * back[:, :2] - gradient
            of_slope = ratio * pulled - lines.largest * back[:, 2:]
        return of_slope.sum(1), of_offset.sum(1), None, None


class _Lines(NamedTuple):
    """What the blocks are made of. The axis of two is: rows that are kept, and the others."""

    slope: Tensor
    """``[lists, list]``"""
    intercept: Tensor
    """``[lists, list]``; the offset with its sign turned."""
    pull: Tensor
    """``[lists, row]``"""
    group: Tensor
    """``[lists, 4, row]``; 1 in the group of the row, 0 else and in rows that are not there; then
    the same times the pull."""
    best: Tensor
    """``[lists, row]``; the largest logit of each row, or 0 if logits are small anyway."""
    shift: Tensor
    """``[lists, 2, list]``; the largest ``logit - best`` of a candidate in each group, or 0."""
    largest: Tensor
    """``[lists, 2, list]``; the exponential of the shift, 0 where there is no candidate."""


def _lines(slope: Tensor, offset: Tensor, k: Tensor, count: Tensor) -> tuple[_Lines, bool]:
    """Return what blocks are made of, and whether all logits are small: then some of it is 0."""
    rank = torch.arange(slope.shape[-1], device=slope.device)
    pull = (count - 1).to(slope) - (2 * rank).to(slope)
    real = (rank < count).to(slope)
    kept = real * (rank < k)
    dropped = real - kept
    group = torch.stack([kept, dropped, kept * pull, dropped * pull], 1)
    bound = count * slope.abs().amax(-1, keepdim=True) + offset
    # Elsewhere than on a CPU, to ask would be to wait.
    if slope.device.type == "cpu" and bool((bound <= _GENTLE).all()):
        best = slope.new_zeros(()).expand_as(pull)
        shift, largest = best[:, None].expand(-1, 2, -1), torch.stack([real, real], 1)
        return _Lines(slope, -offset, pull, group, best, shift, largest), True
    best = pull * slope - offset
    nearest = torch.stack([k - 1, k], 1).clamp(0, len(rank) - 1)  # row, [lists, 2, 1]
    pull_there, best_there = (
        x[:, None].expand(-1, 2, -1).gather(-1, nearest) for x in (pull, best)
    )
    # In the order of _blocks, so that the two cancel to the bit where they should.
    shift = (pull_there * slope[:, None] - offset[:, None] - best_there).clamp(max=0.0)
    own = torch.stack([rank < k, rank >= k], 1)
    shift = shift.masked_fill(own, 0.0)
    return _Lines(slope, -offset, pull, group, best, shift, shift.exp() * real[:, None]), False


def _blocks(lines: _Lines, *, gentle: bool) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield ``exp(logit - best - shift)``, positive and bounded, for some rows of some lists.

    Yields:
        Which lists, which rows, and a block ``[lists, rows, list]`` that the next one overwrites.
    """
    count, length = lines.slope.shape
    size = _BLOCK_BYTES.get(lines.slope.device.type, _LARGE_BLOCK) // lines.slope.itemsize
    rows_at_once = min(length, max(1, size // length))
    lists_at_once = max(1, min(count, size // (rows_at_once * length)))
    buffer = lines.slope.new_empty(lists_at_once * rows_at_once * length)
    for i in range(0, count, lists_at_once):
        some = _Lines(*(x[i : i + lists_at_once] for x in lines))
        slope, intercept = some.slope[:, None], some.intercept[:, None]
        for j in range(0, length, rows_at_once):
            rows = slice(j, min(j + rows_at_once, length))
            pull = some.pull[:, rows, None]
            block = buffer[: len(pull) * pull.shape[1] * length].view(*pull.shape[:2], length)
            if gentle:
                torch.addcmul(intercept, pull, slope, out=block)
            else:
                torch.mul(pull, slope, out=block)
                block.add_(intercept).sub_(some.best[:, rows, None])
                for g in (0, 1):
                    block.addcmul_(some.group[:, g, rows, None], some.shift[:, g, None], value=-1)
                block.clamp_(_NEGLIGIBLE, 0.0)
            yield slice(i, i + lists_at_once), rows, block.exp_()
