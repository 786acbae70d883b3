"""The cross-entropy of SoftSort in linear memory, by sums from both ends.

With scores x in falling order, ``-log P_ij = |x_i - x_j| + log Z_i``. A distance is the sum of the
gaps between neighbours, so distances to the ranks that candidates should have come to a sum over
gaps, each times how much of the wanted permutation lies across it. No term of it is negative, and
what is in order costs exactly nothing. Z and the sums over its gradient decay from score to score
(:mod:`cascaderank.sorting._soft_sort.decaying_sums`). The gradient takes nothing but these, so it is worked out in the
forward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cascaderank.sorting._soft_sort.decaying_sums import sums_of_others
from cascaderank.sorting.order import Ties, all_distinct, find_ties, sort_best_first
from cascaderank.tensors import is_whole

_SUMS = {"mps": torch.float32}
"""Where there is no float64 to sum in: the products of many steps add up their rounding."""


class CrossEntropyOfDistances(torch.autograd.Function):
    """From scaled scores to the cross-entropy of each list, and how much each candidate gets.

    ``apply(unit, gain, first, behind, mask)`` takes ``[lists, list]`` in [-1, 1], ``[lists, 1]``,
    the ranks that candidates should have, ``[lists, list]`` int64, and ``[lists, list]`` bool. It
    returns the sum of ``-Y_ij log P_ij`` ``[lists, 1]``, and ``sum_i P_ij`` ``[lists, list]``,
    which is a constant to the gradient, and 1 under the mask.
    """

    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, gain: Tensor, first: Tensor, behind: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        whole = is_whole(mask)
        best_first, order = sort_best_first(unit if whole else unit.masked_fill(~mask, -2.0))
        first, behind = first.gather(-1, order), behind.gather(-1, order)
        wide = best_first.to(_SUMS.get(unit.device.type, torch.float64))
        gaps = F.pad(wide[:, :-1] - wide[:, 1:], (1, 0))  # to the score before
        decay = (gaps * gain).neg_().exp_()
        decay[:, 0] = 0.0
        count = mask.sum(-1, keepdim=True)
        if not whole:  # padding is apart from all, and where it should be
            place = torch.arange(unit.shape[-1], device=unit.device)
            padding = place >= count
            decay.masked_fill_(padding, 0.0)
            first = torch.where(padding, place, first)
            behind = torch.where(padding, place + 1, behind)

        above, below = sums_of_others(decay, torch.ones_like(decay))
        others = above + below
        share = (1 + others).reciprocal_()  # of a candidate in its own row
        rows_above, rows_below = sums_of_others(decay, share)
        wanted = _across(first, behind, wide.dtype)
        distance = (wanted * gaps).sum(-1, keepdim=True)
        cost = others.log1p_().sum(-1, keepdim=True) + gain * distance
        mass = (rows_above + rows_below).add_(share).to(unit)
        totals = torch.empty_like(mass).scatter_(-1, order, mass)
        ctx.mark_non_differentiable(totals)
        if not any(ctx.needs_input_grad):
            return cost.to(gain), totals

        # How much of the soft permutation lies across the gaps, as the wanted one does.
        given = rows_above.addcmul(rows_above, below).addcmul_(above, rows_below + share)
        of_gain = distance - given.mul_(gaps).sum(-1, keepdim=True)
        ties = None if all_distinct(gaps[:, 1:], count) else find_ties(best_first, count)
        of_x = _gradient_of_distance(wanted, first, behind, ties)
        # What is told by others, as a column and as the centre of a row: ties tell nothing.
        from_above = rows_above.addcmul_(share, above)
        from_below = rows_below.addcmul_(share, below)
        if ties is not None:
            from_above = from_above.gather(-1, ties.first)
            from_below = from_below.gather(-1, ties.behind - 1)
        of_x = of_x.add_(from_above).sub_(from_below).mul_(gain).to(unit)
        of_unit = torch.empty_like(of_x).scatter_(-1, order, of_x)
        ctx.save_for_backward(of_unit, of_gain.to(gain))
        return cost.to(gain), totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        of_unit, of_gain = ctx.saved_tensors
        return above * of_unit, above * of_gain, None, None, None


def _across(first: Tensor, behind: Tensor, kind: torch.dtype) -> Tensor:
    """Return how much of the wanted permutation lies across the gap before each place.

    That is, ranks from there on that should go to candidates before it, and as much the other way
    round. It is counted in whole candidates, and so exactly 0 where there is none.

    Args:
        first: ``[lists, list]``; the ranks that candidates should have, best score first.
        behind: ``[lists, list]``
        kind: of the numbers returned.
    """
    place = torch.arange(first.shape[-1], device=first.device)
    # How many candidates there are in runs that have begun, and have ended, by the rank of each
    # place: in all, and among those who are up to that place.
    when = first, behind, torch.maximum(first, place), torch.maximum(behind, place)
    counts = first.new_zeros(len(when), len(first), len(place) + 1)
    for count, since in zip(counts, when, strict=True):
        count.scatter_add_(-1, since, torch.ones_like(since))
    begun, ended, begun_here, ended_here = counts[..., :-1].cumsum_(-1)
    size = begun - ended  # of the run of that rank
    missing = size - (begun_here - ended_here)
    crossing = (missing * (place + 1 - ended)).to(kind).div_(size).add_(ended - ended_here)
    return F.pad(crossing[:, :-1].mul_(2), (1, 0))


def _gradient_of_distance(
    wanted: Tensor, first: Tensor, behind: Tensor, ties: Ties | None
) -> Tensor:
    """Return the gradient of the sum of distances by the scores in falling order.

    A candidate that ties with others learns of its own ranks by itself; what the ranks learn of
    their candidates is shared among those that tie for them.
    """
    after = F.pad(wanted[:, 1:], (0, 1))
    if ties is None:
        return after - wanted
    higher = (torch.minimum(behind, ties.first) - first).clamp_(min=0)
    lower = (behind - torch.maximum(first, ties.behind)).clamp_(min=0)
    of_column = (lower - higher).to(wanted) / (behind - first)
    sums = F.pad(of_column.cumsum(-1), (1, 0))
    of_columns = sums.gather(-1, ties.behind) - sums.gather(-1, ties.first)
    of_all = after.gather(-1, ties.behind - 1) - wanted.gather(-1, ties.first)
    return (of_all - of_columns) / (ties.behind - ties.first) + of_column
