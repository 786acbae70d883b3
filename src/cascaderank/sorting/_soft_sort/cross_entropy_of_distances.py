"""Cross-entropy between target ranks and SoftSort in linear memory, by sums from both ends.

With scores x in descending order, ``-log P_ij = |x_i - x_j| + log Z_i``. A distance is the sum of
the gaps between neighbours. The distances between the candidates and the scores at their target
ranks therefore add up to a sum over gaps, each times the mass of the target permutation that
crosses it. No term is negative, and candidates already in order cost exactly nothing. Z and the
sums of its gradient decay from score to score
(:mod:`cascaderank.sorting._soft_sort.decaying_sums`). The gradient needs only these sums, so it is
computed in the forward pass.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cascaderank.sorting._soft_sort.decaying_sums import sums_of_others
from cascaderank.sorting.order import Ties, all_distinct, find_ties, sort_best_first
from cascaderank.sorting.scaling import largest_distance
from cascaderank.tensors import is_whole

_SUMS = {"mps": torch.float32}
"""Dtype of the sums on devices without float64; products of many steps accumulate rounding."""


class CrossEntropyOfDistances(torch.autograd.Function):
    """Cross-entropy of each list as a function of the scores, and column sums.

    ``apply(scores, temperature, first, behind, mask)`` takes ``[lists, list]``, ``[lists, 1]``,
    the target ranks, ``[lists, list]`` int64 each, and ``[lists, list]`` bool. It returns the sum
    of ``-Y_ij log P_ij`` ``[lists, 1]``, and ``sum_i P_ij`` ``[lists, list]``, through which no
    gradient flows and which is 1 under the mask.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, temperature: Tensor, first: Tensor, behind: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        whole = is_whole(mask)
        lowest = torch.finfo(scores.dtype).min
        best_first, order = sort_best_first(scores if whole else scores.masked_fill(~mask, lowest))
        first, behind = first.gather(-1, order), behind.gather(-1, order)
        wide = best_first.to(_SUMS.get(scores.device.type, torch.float64))
        gaps = F.pad(wide[:, :-1] - wide[:, 1:], (1, 0))  # to the previous score
        gaps.div_(temperature).clamp_(max=largest_distance(wide.dtype))
        decay = (-gaps).exp_()
        decay[:, 0] = 0.0
        count = mask.sum(-1, keepdim=True)
        if not whole:  # padding is infinitely far from all scores and already at its target rank
            place = torch.arange(scores.shape[-1], device=scores.device)
            padding = place >= count
            decay.masked_fill_(padding, 0.0)
            first = torch.where(padding, place, first)
            behind = torch.where(padding, place + 1, behind)

        above, below = sums_of_others(decay, torch.ones_like(decay))
        others = above + below
        share = (1 + others).reciprocal_()  # P_ii
        rows_above, rows_below = sums_of_others(decay, share)
        crossing_mass = _across(first, behind, wide.dtype)
        distance = (crossing_mass * gaps).sum(-1, keepdim=True)
        cost = (others.log1p_().sum(-1, keepdim=True) + distance).to(scores)
        mass = (rows_above + rows_below).add_(share).to(scores)
        totals = torch.empty_like(mass).scatter_(-1, order, mass)
        ctx.mark_non_differentiable(totals)
        if not any(ctx.needs_input_grad):
            return cost, totals

        # Mass of the soft permutation across each gap, like ``crossing_mass`` of the target.
        given = rows_above.addcmul(rows_above, below).addcmul_(above, rows_below + share)
        of_temperature = given.mul_(gaps).sum(-1, keepdim=True).sub_(distance).div_(temperature)
        ties = None if all_distinct(gaps[:, 1:], count) else find_ties(best_first, count)
        of_x = _gradient_of_distance(crossing_mass, first, behind, ties)
        # Gradient from other candidates, as a column and as the centre of a row; ties contribute 0.
        from_above = rows_above.addcmul_(share, above)
        from_below = rows_below.addcmul_(share, below)
        if ties is not None:
            from_above = from_above.gather(-1, ties.first)
            from_below = from_below.gather(-1, ties.behind - 1)
        of_x = of_x.add_(from_above).sub_(from_below).div_(temperature).to(scores)
        of_scores = torch.empty_like(of_x).scatter_(-1, order, of_x)
        ctx.save_for_backward(of_scores, of_temperature.to(scores))
        return cost, totals

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        of_scores, of_temperature = ctx.saved_tensors
        return above * of_scores, above * of_temperature, None, None, None


def _across(first: Tensor, behind: Tensor, kind: torch.dtype) -> Tensor:
    """Return the mass of the target permutation that crosses the gap before each place.

    It is the mass of ranks at or behind the place whose target candidates lie before it, plus the
    equal mass in the other direction. It is counted in whole candidates, and so exactly 0 where
    none crosses.

    Args:
        first: ``[lists, list]``; first target rank of each candidate, in descending order of score.
        behind: ``[lists, list]``; last target rank plus 1.
        kind: dtype of the result.
    """
    place = torch.arange(first.shape[-1], device=first.device)
    # Number of candidates whose runs of ranks have begun, and have ended, by the rank of each
    # place: among all candidates, and among those up to that place.
    when = first, behind, torch.maximum(first, place), torch.maximum(behind, place)
    counts = first.new_zeros(len(when), len(first), len(place) + 1)
    for count, since in zip(counts, when, strict=True):
        count.scatter_add_(-1, since, torch.ones_like(since))
    begun, ended, begun_here, ended_here = counts[..., :-1].cumsum_(-1)
    size = begun - ended  # of the run that contains the rank
    missing = size - (begun_here - ended_here)
    crossing = (missing * (place + 1 - ended)).to(kind).div_(size).add_(ended - ended_here)
    return F.pad(crossing[:, :-1].mul_(2), (1, 0))


def _gradient_of_distance(
    crossing_mass: Tensor, first: Tensor, behind: Tensor, ties: Ties | None
) -> Tensor:
    """Return the gradient of the sum of distances with respect to the scores in descending order.

    A candidate's own gradient as a column is its own even if it ties with others. The gradient of
    the sorted scores, which depends on the target candidates of their ranks, is shared among tied
    candidates.
    """
    after = F.pad(crossing_mass[:, 1:], (0, 1))
    if ties is None:
        return after - crossing_mass
    higher = (torch.minimum(behind, ties.first) - first).clamp_(min=0)
    lower = (behind - torch.maximum(first, ties.behind)).clamp_(min=0)
    of_column = (lower - higher).to(crossing_mass) / (behind - first)
    sums = F.pad(of_column.cumsum(-1), (1, 0))
    of_columns = sums.gather(-1, ties.behind) - sums.gather(-1, ties.first)
    of_all = after.gather(-1, ties.behind - 1) - crossing_mass.gather(-1, ties.first)
    return (of_all - of_columns) / (ties.behind - ties.first) + of_column
