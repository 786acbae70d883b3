"""Top-k probabilities of NeuralSort, block by block: no more than a few rows are ever there.

The logits of row i are straight lines in how hard the row pulls, ``pull_i * slope_j - offset_j``.
Pull may be any number, so between rows there are rows, and where the probabilities change slowly
from row to row a few of them stand for all rows of a group, those kept or those dropped
(:mod:`cascaderank.sorting._quadrature`). With candidates in order of score, two things are known
without looking at a row:

- the best candidate of a row is the one whose rank is nearest to it;
- over rows, the probability of a candidate rises up to its own rank and falls behind it. So among
  the rows of a group, it is largest in the row of its own rank, or in the row of the group that
  is nearest to it.

Both are subtracted before a logit is exponentiated, so that one exponential per entry serves the
sums over rows and the sums over columns, and neither overflows or vanishes. What remains are
products of a block with a few vectors. The backward pass computes the blocks again, and only
those of the group that is learned through.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from cascaderank.sorting._gentle import GentleGroup, add_gentle_gradient, sum_gently
from cascaderank.sorting._quadrature import (
    fewer_points,
    is_resolved,
    points_needed,
    points_of,
)

_BLOCK_BYTES = {"cpu": 2**22}
"""How large a block is: on a CPU, it should stay in the cache."""

_LARGE_BLOCK = 2**26
"""On other devices, it should keep all of it busy."""

_LONG = 512
"""Lists of this length are worth waiting for a device that is not the CPU."""

_USUAL_POINTS = 12
"""How many points a group is thought to have when lists are put into chunks."""

_GENTLE = 25.0
"""Logits between this and its negative can be exponentiated as they are."""

_FLOOR = 1e-30
"""Less than any sum over a row or a group of rows can be, for those where there is none."""

_NEGLIGIBLE = -80.0
"""The logarithm of what is nothing beside 1, in float64 too, and is still a normal float32."""


class Group(NamedTuple):
    """Rows that are kept, or rows that are not, and the sums over them."""

    pull: Tensor
    """``[lists or 1, point]``"""
    weight: Tensor
    """``[lists or 1, point]``; how many rows a point stands for."""
    best: Tensor
    """``[lists, point]``; the largest logit of each point."""
    shift: Tensor
    """``[lists, list]``; the largest ``logit - best`` of a candidate."""
    largest: Tensor
    """``[lists, list]``; the exponential of the shift, 0 where there is no candidate."""
    inverse: Tensor
    """``[lists, point]``; one over the sum of the row."""
    sums: Tensor
    """``[lists, list]``; of each candidate over the rows, over ``largest``."""


class Chunk(NamedTuple):
    """Some lists, and what their two groups of rows are."""

    slope: Tensor
    """``[lists, list]``"""
    intercept: Tensor
    """``[lists, list]``; the offset with its sign turned."""
    kept: Group | GentleGroup
    dropped: Group | GentleGroup
    """Of the same kind as what is kept."""


def log_top_k_of_lines(
    slope: Tensor, offset: Tensor, k: Tensor, count: Tensor, real: Tensor | None
) -> tuple[Tensor, Tensor, list[Chunk]]:
    """Sum the first k rows of a softmax over lines, and the others, in log space.

    Row i = 1..n is ``P_ij = softmax_j((n + 1 - 2i) slope_j - offset_j)``. The sums are those of
    :func:`cascaderank.sorting._rows.log_top_k_of_rows`, with the same gradients, which
    :func:`gradient_of_lines` gives. Takes O(n) memory; O(n) time for each of the points that
    stand for the rows, which are as many as the rows only where the softmax is sharp.

    Where there is nothing to say (behind the real candidates, and where k keeps all or none), the
    numbers mean nothing, and must get no gradient from above.

    Args:
        slope: ``[lists, list]``, never growing along the first ``count`` candidates of each list,
            and 0 behind them.
        offset: ``[lists, list]``, such that candidate i is the best of row i and of what is
            nearer to it than to other rows.
        k: ``[lists, 1]``; how many rows are kept.
        count: ``[lists, 1]``; how many candidates of each list are real.
        real: ``[lists, list]`` of the dtype of the slope, 1 for a real candidate; ``None`` if
            all are.

    Returns:
        ``(log kept, log dropped)``, each ``[lists, list]`` and at most 0, and what the gradient
        needs.

    Source: this project.
    """
    k = torch.minimum(k, count).clamp_(min=0)
    buffer = _buffer(slope)
    chunks = [
        _sum_chunk(
            slope[some],
            -offset[some],
            k[some],
            count[some],
            None if real is None else real[some],
            buffer,
        )
        for some in _chunks(slope)
    ]
    difference = torch.cat([_log_ratio(chunk) for chunk in chunks])
    return F.logsigmoid(difference), F.logsigmoid(-difference), chunks


def gradient_of_lines(
    chunks: Sequence[Chunk], of_kept: Tensor | None, of_dropped: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients by slope and offset, each ``[lists, list]``.

    Args:
        chunks: from :func:`log_top_k_of_lines`.
        of_kept: the gradient by ``log kept``, ``[lists, list]``; ``None`` for 0.
        of_dropped: the gradient by ``log dropped``.
    """
    found, start, buffer = [], 0, _buffer(chunks[0].slope)
    for chunk in chunks:
        of_slope, of_offset = torch.zeros_like(chunk.slope), torch.zeros_like(chunk.slope)
        some = slice(start, start + len(chunk.slope))
        for group, above in ((chunk.kept, of_kept), (chunk.dropped, of_dropped)):
            if above is None:
                continue
            what = (above[some], of_slope, of_offset, buffer)
            if isinstance(group, GentleGroup):
                add_gentle_gradient(chunk.slope, group, *what)
            else:
                _add_gradient(chunk, group, *what)
        found.append((of_slope, of_offset))
        start = some.stop
    if len(found) == 1:
        return found[0]
    of_slopes, of_offsets = zip(*found, strict=True)
    return torch.cat(of_slopes), torch.cat(of_offsets)


def _sum_chunk(
    slope: Tensor,
    intercept: Tensor,
    k: Tensor,
    count: Tensor,
    real: Tensor | None,
    buffer: Tensor,
) -> Chunk:
    length = slope.shape[-1]
    # To look at numbers is to wait for a device, which short lists are not worth.
    look = slope.device.type == "cpu" or length >= _LONG
    spread = float((slope.amax(-1) - slope.amin(-1)).max()) if look else 0.0
    gentle = look and _is_gentle(slope, intercept, count)
    rank = torch.arange(length, device=slope.device)
    groups = []
    for sizes, middle, border, own in (
        (k, count - k, k - 1, rank < k),
        (count - k, -k, k, rank >= k),
    ):
        rows = _Rows(slope, intercept, count, sizes[:, 0], middle.to(slope), real)
        shift = None
        if not gentle:
            shift = _largest_logit(rows, border.clamp(0, length - 1)).masked_fill_(own, 0.0)
        most = max(int(sizes.max()), 1) if look else length
        number = points_needed(most, spread, slope.dtype) if look else length
        found = None
        while found is None:
            found = _sum_group(rows, most, number, shift, buffer)
            number = fewer_points(number * 3 // 2, most)
        groups.append(found)
    return Chunk(slope, intercept, *groups)


class _Rows(NamedTuple):
    """The rows of a group, before it is known which points stand for them."""

    slope: Tensor
    intercept: Tensor
    candidates: Tensor
    """``[lists, 1]``; how many are real."""
    sizes: Tensor
    """``[lists]``; how many rows."""
    middle: Tensor
    """``[lists, 1]``; the pull in their middle."""
    real: Tensor | None
    """``[lists, list]``; 1 for a real candidate, ``None`` if all are."""


def _sum_group(
    rows: _Rows, most: int, number: int, shift: Tensor | None, buffer: Tensor
) -> Group | GentleGroup | None:
    """Return the sums by so many points, ``None`` if these are too few.

    The shift is that of :class:`Group`; there is none if logits are small.
    """
    slope, intercept, real = rows.slope, rows.intercept, rows.real
    points = points_of(rows.sizes, number, rows=most, like=slope)
    if shift is None:
        return sum_gently(slope, intercept, rows.middle, points, real, buffer)
    pull = rows.middle + points.place
    best = _best_logit(rows, pull)
    largest = shift.exp() if real is None else shift.exp() * real
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


def _add_gradient(
    chunk: Chunk,
    group: Group,
    above: Tensor,
    of_slope: Tensor,
    of_offset: Tensor,
    buffer: Tensor,
) -> None:
    ratio = above / group.sums
    back = ratio.new_zeros(len(ratio), 3, ratio.shape[-1])
    lines = (chunk.slope, chunk.intercept, group.pull, group.best, group.shift)
    for at, block in _blocks(*lines, buffer):
        pull, inverse = group.pull[:, at], group.inverse[:, at]
        share = group.weight[:, at] * inverse
        of_row = torch.bmm(ratio[:, None], block.mT)[:, 0].mul_(inverse).mul_(share)
        back.baddbmm_(torch.stack([share * pull, of_row, of_row * pull], 1), block)
    pulled, of_rows, of_pulled_rows = back.unbind(1)
    of_rows, of_pulled_rows = of_rows * group.largest, of_pulled_rows * group.largest
    of_slope.addcmul_(ratio, pulled).sub_(of_pulled_rows)
    of_offset.add_(of_rows).sub_(above)


def _is_gentle(slope: Tensor, intercept: Tensor, count: Tensor) -> bool:
    """Return whether all logits of a chunk are small."""
    steepest = slope.abs().amax(-1)
    return bool((count[:, 0] * steepest - intercept.amin(-1) <= _GENTLE).all())


def _best_logit(rows: _Rows, pull: Tensor) -> Tensor:
    """Return the largest logit at each pull ``[lists, point]``: that of the nearest rank."""
    rank = (rows.candidates - 1 - pull).div_(2).round_()
    rank = rank.long().clamp_(0, rows.slope.shape[-1] - 1)
    return pull * rows.slope.gather(-1, rank) + rows.intercept.gather(-1, rank)


def _largest_logit(rows: _Rows, border: Tensor) -> Tensor:
    """Return ``logit - best`` of all candidates in the row of a rank, ``[lists, list]``."""
    pull = (rows.candidates - 1 - 2 * border).to(rows.slope)
    # In the order of _blocks and _best_logit, so that the two cancel to the bit where they should.
    logits = pull * rows.slope + rows.intercept
    return logits.sub_(logits.gather(-1, border)).clamp_(max=0.0)


def _log_ratio(chunk: Chunk) -> Tensor:
    """Return the logarithm of what is kept over what is not, ``[lists, list]``."""
    kept, dropped = chunk.kept, chunk.dropped
    ratio = (kept.sums / dropped.sums).log_()
    if isinstance(kept, GentleGroup) and isinstance(dropped, GentleGroup):
        return ratio.addcmul_(kept.middle - dropped.middle, chunk.slope)
    sharp, other = cast("Group", kept), cast("Group", dropped)  # a chunk's groups are of one kind
    return ratio.add_(sharp.shift).sub_(other.shift)


def _chunks(slope: Tensor) -> Iterator[slice]:
    """Yield lists whose points fit into a block, if they have about as many as usual."""
    count, length = slope.shape
    some = max(1, _block_size(slope) // (length * min(length, _USUAL_POINTS)))
    return (slice(start, start + some) for start in range(0, count, some))


def _block_size(slope: Tensor) -> int:
    return _BLOCK_BYTES.get(slope.device.type, _LARGE_BLOCK) // slope.itemsize


def _buffer(slope: Tensor) -> Tensor:
    """Return the memory of a block, to be used by one after the other."""
    return slope.new_empty(max(_block_size(slope), slope.shape[-1]))


def _blocks(
    slope: Tensor,
    intercept: Tensor,
    pull: Tensor,
    best: Tensor,
    shift: Tensor,
    buffer: Tensor,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield ``exp(logit - best - shift)``, positive and bounded, for some points of all lists.

    Yields:
        Which points, and a block ``[lists, points, list]`` that the next one overwrites.
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
        yield at, block.clamp_(_NEGLIGIBLE, 0.0).exp_()
