"""Top-k probabilities of NeuralSort where no logit is large.

The logits of a row are ``pull * slope + intercept``. If all of them can be exponentiated as they
are, a row around the middle of its group is ``exp(middle * slope + intercept)``, which is the same
for all rows, times ``exp(place * slope)``. Places come in pairs of either sign, so half of these
powers are one over the others. What remains are products of the powers with a few vectors.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from cascaderank.sorting._quadrature import Points, is_resolved

_KEPT_POINTS = 16
"""The powers of so many points are kept for the backward pass; more are worked out again, so that
memory is linear in what is sorted."""

_LOOKED_AT = 8
"""How many candidates of a list are asked whether the points were enough: the ends and some
between. Neighbours in order of score have lines that are nearly the same."""

_FLOOR = 1e-30
"""Less than any sum over a row or a group of rows can be, for those where there is none."""


class GentleGroup(NamedTuple):
    """Rows that are kept, or rows that are not, and the sums over them."""

    middle: Tensor
    """``[lists, 1]``; the pull in the middle of the rows."""
    place: Tensor
    """``[lists or 1, point]``; the pull of a point, less that of the middle."""
    weight: Tensor
    """``[lists or 1, point]``; how many rows a point stands for."""
    at_middle: Tensor
    """``[lists, list]``; the exponential of the logit in the middle, 0 where no candidate is."""
    powers: Tensor | None
    """``[point, lists, list]``; ``exp(place * slope)``, ``None`` if not kept."""
    inverse: Tensor
    """``[lists, point]``; one over the sum of the row."""
    sums: Tensor
    """``[lists, list]``; of each candidate over the rows, over ``at_middle``."""
    pulled: Tensor
    """``[lists, list]``; likewise, each row times its place."""


def sum_gently(
    slope: Tensor,
    intercept: Tensor,
    middle: Tensor,
    points: Points,
    real: Tensor | None,
    buffer: Tensor,
) -> GentleGroup | None:
    """Sum the rows of a group, by points that stand for them.

    Args:
        slope: ``[lists, list]``, 0 where there is no candidate.
        intercept: ``[lists, list]``.
        middle: ``[lists, 1]``; the pull in the middle of the rows.
        points: of the rows, around their middle.
        real: ``[lists, list]`` of the dtype of the slope, 1 for a real candidate; ``None`` if all
            are.
        buffer: memory to work in.

    Returns:
        The group; ``None`` if the points were not enough.
    """
    at_middle = torch.addcmul(intercept, middle, slope).exp_()
    if real is not None:
        at_middle.mul_(real)
    lists, length = slope.shape
    number = points.place.shape[-1]
    kept = number <= _KEPT_POINTS and lists * number * length <= len(buffer)
    if kept:
        buffer = slope.new_empty(lists * number * length)
    inverse = slope.new_empty(lists, number)
    sums = slope.new_zeros(lists, 2, length)
    every = max(1, (length - 1) // (_LOOKED_AT - 1)) if real is None else 1
    parts = slope.new_zeros(lists, points.polynomial.shape[1], len(range(0, length, every)))
    powers = None
    for at, powers in _powers(slope, points.place, buffer):
        of_row = torch.bmm(at_middle[:, None], powers.permute(1, 2, 0))[:, 0]
        torch.reciprocal(of_row.clamp_(min=_FLOOR), out=inverse[:, at])
        share = points.weight[:, at] * inverse[:, at]
        _add(sums, torch.stack([share, share * points.place[:, at]], 1), powers)
        if parts.shape[1] > 1:
            _add(parts, points.polynomial[:, :, at], powers[..., ::every] * share.T[..., None])
    if parts.shape[1] > 1 and not is_resolved(parts, real):
        return None
    mass, pulled = sums.unbind(1)
    held = powers if kept else None
    return GentleGroup(
        middle=middle,
        place=points.place,
        weight=points.weight,
        at_middle=at_middle,
        powers=held,
        inverse=inverse,
        sums=mass.clamp_(min=_FLOOR),
        pulled=pulled,
    )


def add_gentle_gradient(
    slope: Tensor,
    group: GentleGroup,
    above: Tensor,
    of_slope: Tensor,
    of_offset: Tensor,
    buffer: Tensor,
) -> None:
    """Add the gradients by slope and offset, given that by the logarithm of the sums."""
    ratio = above / group.sums
    back = ratio.new_zeros(len(ratio), 2, ratio.shape[-1])
    blocks = _powers(slope, group.place, buffer)
    for at, powers in blocks if group.powers is None else [(slice(None), group.powers)]:
        inverse = group.inverse[:, at]
        of_row = torch.bmm(ratio[:, None], powers.permute(1, 2, 0))[:, 0]
        of_row.mul_(inverse).mul_(inverse).mul_(group.weight[:, at])
        _add(back, torch.stack([of_row, of_row * group.place[:, at]], 1), powers)
    of_rows, of_pulled_rows = back.unbind(1)
    of_line = torch.addcmul(above, group.at_middle, of_rows, value=-1.0)
    of_offset.sub_(of_line)
    of_slope.addcmul_(ratio, group.pulled).addcmul_(group.middle, of_line)
    of_slope.addcmul_(group.at_middle, of_pulled_rows, value=-1.0)


def _add(sums: Tensor, factors: Tensor, powers: Tensor) -> None:
    """Add up powers over points, in place: ``[lists, sum, list]``.

    Args:
        sums: what is added to.
        factors: ``[lists or 1, sum, point]``
        powers: ``[point, lists, list]``
    """
    if len(factors) == 1:
        whole = factors[0] @ powers.flatten(1)
        sums.add_(whole.view(-1, *powers.shape[1:]).transpose(0, 1))
    else:
        sums.baddbmm_(factors, powers.transpose(0, 1))


def _powers(slope: Tensor, place: Tensor, buffer: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield ``exp(place * slope)`` for some points of all lists.

    Yields:
        Which points, and a block ``[points, lists, list]`` that the next one overwrites.
    """
    size, number = slope.numel(), place.shape[-1]
    at_once = max(1, min(number, len(buffer) // size))
    half = number // 2
    paired = at_once == number > 1 and bool((place == -place.flip(-1)).all())
    for start in range(0, number, at_once):
        at = slice(start, min(start + at_once, number))
        block = buffer[: (at.stop - start) * size].view(-1, *slope.shape)
        if paired:  # a point, and the one as far away on the other side
            torch.mul(place.T[:half, :, None], slope, out=block[:half]).exp_()
            block[half : number - half].fill_(1.0)
            for point in range(half):
                torch.reciprocal(block[point], out=block[number - 1 - point])
        else:
            torch.mul(place.T[at, :, None], slope, out=block).exp_()
        yield at, block
