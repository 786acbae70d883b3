"""Top-k probabilities of SoftSort in linear memory, by sums from both ends.

With scores x in descending order, row i is ``exp(-|x_i - x_j|) / Z_i``. The exponential of a
distance is the product of those of the gaps between, so Z and every sum over rows or columns is a
sum from the left and one from the right that decay from score to score. Both are cut at k. Within a
group of rows, the sum of a candidate is at least its own row. From outside, the whole group is at
least as far away as its border. Only that distance can become large, and it is kept as a logarithm.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cascaderank.sorting._soft_sort.decaying_sums import sums_from_ends
from cascaderank.sorting.order import Ties, find_ties, sort_best_first
from cascaderank.sorting.scaling import largest_distance


class LogTopKOfDistances(torch.autograd.Function):
    """Log-probabilities of being kept and of being dropped, as a function of the scores.

    ``apply(scores, temperature, k, mask)`` takes ``[lists, list]``, ``[lists, 1]``, ``[lists,
    1]`` and ``[lists, list]`` bool, and returns ``(log kept, log dropped)``. The sums and the
    gradients are those of :func:`cascaderank.sorting.rows.log_top_k_of_rows`. Where the result is
    undefined or trivial, the values are arbitrary and must receive no gradient.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, temperature: Tensor, k: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        lowest = torch.finfo(scores.dtype).min
        best_first, order = sort_best_first(scores.masked_fill(~mask, lowest))
        count = mask.sum(-1, keepdim=True)
        rank = torch.arange(scores.shape[-1], device=scores.device)
        real = rank < count
        best_first.masked_fill_(~real, 0.0)
        k = torch.minimum(k, count).clamp_(min=0)
        lists = _Lists(best_first, temperature, k, real)
        from_left, from_right = sums_from_ends(lists.decay(cut=False), real.to(scores))
        share = real / (from_left + from_right - 1).clamp_(min=1)  # P_ii
        rows_left, rows_right = sums_from_ends(lists.decay(cut=True), share)
        kept = rank < lists.k
        own = (rows_left + rows_right - share).clamp_(min=torch.finfo(share.dtype).tiny)
        other = lists.at_border(rows_left, rows_right, own=False)
        # Log of the ratio of the own group's sum to the other's.
        ratio = (own / other).log_() + lists.to_border(own=False)
        ratio = torch.where(kept, ratio, -ratio)
        ctx.save_for_backward(
            order, *lists, *find_ties(best_first, count), share, from_left, from_right,
            rows_left, rows_right, own,
        )  # fmt: skip
        logs = F.logsigmoid(ratio), F.logsigmoid(-ratio)
        log_kept, log_dropped = (torch.empty_like(log).scatter_(-1, order, log) for log in logs)
        return log_kept, log_dropped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_kept: Tensor, of_dropped: Tensor) -> tuple[Tensor | None, ...]:
        order, best_first, temperature, k, real, first, behind, *sums = ctx.saved_tensors
        lists = _Lists(best_first, temperature, k, real)
        above = (x.gather(-1, order) * real for x in (of_kept, of_dropped))
        of_x = _gradient(lists, Ties(first, behind), *above, *sums)
        of_x.div_(temperature)
        of_temperature = None
        if ctx.needs_input_grad[1]:  # distances do not depend on where they are measured from
            at_cut = best_first.gather(-1, (k - 1).clamp(min=0))
            from_cut = (best_first - at_cut).mul_(of_x).sum(-1, keepdim=True)
            of_temperature = from_cut.div_(temperature).neg_()
        return torch.empty_like(of_x).scatter_(-1, order, of_x), of_temperature, None, None


class _Lists(NamedTuple):
    """Scores in descending order, and their cut. The *borders* are the two scores at the cut."""

    best_first: Tensor
    """``[lists, list]``; 0 behind the real candidates."""
    temperature: Tensor
    """``[lists, 1]``"""
    k: Tensor
    """``[lists, 1]``"""
    real: Tensor
    """``[lists, list]`` bool"""

    def kept(self) -> Tensor:
        return torch.arange(self.best_first.shape[-1], device=self.k.device) < self.k

    def decay(self, *, cut: bool) -> Tensor:
        """Return the exponential of minus the distance to the previous score, 0 for the first."""
        step = self.best_first.roll(1, -1).sub_(self.best_first).abs_().div_(self.temperature)
        decay = step.neg_().exp_().masked_fill_(~self.real, 0.0)
        rank = torch.arange(decay.shape[-1], device=decay.device)
        return decay.masked_fill_(rank == self.k, 0.0) if cut else decay

    def border(self, *, own: bool) -> Tensor:
        """Return the index of the border of the own group, or of the other, ``[lists, list]``."""
        end = self.best_first.shape[-1] - 1
        last, first = (self.k - 1).clamp(min=0), self.k.clamp(max=end)
        return torch.where(self.kept() == own, last, first)

    def to_border(self, *, own: bool) -> Tensor:
        """Return the distance of each score to a border, ``[lists, list]``."""
        return self.distance(self.border(own=own), self.best_first)

    def distance(self, place: Tensor, score: Tensor) -> Tensor:
        """Return the distances between the scores at some places and other scores."""
        distance = (self.best_first.gather(-1, place) - score).abs_().div_(self.temperature)
        return distance.clamp_(max=largest_distance(score.dtype))

    def at_border(self, from_left: Tensor, from_right: Tensor, *, own: bool) -> Tensor:
        """Return the decaying sum over a group, evaluated at its border, ``[lists, list]``."""
        place = self.border(own=own)
        of_kept = self.kept() == own
        sums = torch.where(of_kept, from_left.gather(-1, place), from_right.gather(-1, place))
        return sums.clamp_(min=torch.finfo(sums.dtype).tiny)


def _gradient(
    lists: _Lists,
    ties: Ties,
    of_kept: Tensor,
    of_dropped: Tensor,
    share: Tensor,
    from_left: Tensor,
    from_right: Tensor,
    rows_left: Tensor,
    rows_right: Tensor,
    own: Tensor,
) -> Tensor:
    """Return the gradient with respect to the scores in descending order.

    Each score enters as a column and as the centre of a row. An entry of a row contributes
    positively if the row's centre is above the candidate, negatively if below, and 0 if they tie:
    "strictly" excludes ties.
    """
    kept, k = lists.kept(), lists.k
    side = torch.where(kept, 1.0, -1.0).to(share)
    of_own, of_other = (
        torch.where(kept, of_kept, of_dropped),
        torch.where(kept, of_dropped, of_kept),
    )
    ratio = of_own / own
    decay = lists.decay(cut=True)
    # First and last place of the ties within the own group; ``strictly`` removes their own terms.
    top = torch.where(kept, ties.first, ties.first.maximum(k))
    bottom = torch.where(kept, ties.behind.minimum(k), ties.behind) - 1

    def strictly(left: Tensor, right: Tensor, terms: Tensor) -> Tensor:
        """Return the sum over candidates strictly above less that over those strictly below."""
        above = left.gather(-1, top) - terms.gather(-1, top)
        return above - (right.gather(-1, bottom) - terms.gather(-1, bottom))

    # Gradient of a row from the candidates of the other group, relative to the own border.
    sums = F.pad(of_other.cumsum(-1), (1, 0))
    nearest = torch.where(kept, ties.behind.maximum(k), ties.first.minimum(k))

    def across(place: Tensor) -> Tensor:
        before = sums.gather(-1, place)
        return torch.where(kept, sums[..., -1:] - before, before)

    at_own = lists.at_border(rows_left, rows_right, own=True)
    scale = lists.to_border(own=True).neg_().exp_().div_(at_own)
    ratio_left, ratio_right = sums_from_ends(decay, ratio)
    whole = ratio_left + ratio_right - ratio + scale * across(k.expand_as(nearest))
    of_row = share * whole
    correction = share * of_row
    correction_left, correction_right = sums_from_ends(decay, correction)
    of_column = ratio * strictly(rows_left, rows_right, share)
    of_column -= strictly(correction_left, correction_right, correction)

    # Sums over the rows of the other group, evaluated at its nearest row that does not tie.
    place = nearest - (~kept).long()
    exists = (place >= 0) & (place < lists.real.sum(-1, keepdim=True))
    place = place.clamp(0, share.shape[-1] - 1)
    rows, correction = (
        torch.where(kept, right.gather(-1, place), left.gather(-1, place))
        for left, right in ((rows_left, rows_right), (correction_left, correction_right))
    )
    border = lists.best_first.gather(-1, lists.border(own=False))
    part = lists.distance(place, border).neg_().exp_() * rows
    part /= lists.at_border(rows_left, rows_right, own=False)
    part = of_other * part - correction * lists.distance(place, lists.best_first).neg_().exp_()
    of_column -= side * part * exists

    difference = -_strictly_in_row(from_left, from_right, ties)
    from_columns = side * scale * across(nearest) - strictly(ratio_left, ratio_right, ratio)
    of_centre = -share * (from_columns - of_row * difference)
    before = F.pad(of_centre.cumsum(-1), (1, 0))
    of_ties = before.gather(-1, ties.behind) - before.gather(-1, ties.first)
    return (of_column + of_ties / (ties.behind - ties.first)).masked_fill_(~lists.real, 0.0)


def _strictly_in_row(from_left: Tensor, from_right: Tensor, ties: Ties) -> Tensor:
    """Return the sum of a row's entries above its centre less those below, before normalisation."""
    above = from_left.gather(-1, ties.first)
    return above - from_right.gather(-1, ties.behind - 1)
