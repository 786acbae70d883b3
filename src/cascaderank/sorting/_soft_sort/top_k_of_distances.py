"""Top-k probabilities of SoftSort in linear memory, by sums from both ends.

With scores x in falling order, row i is ``exp(-|x_i - x_j|) / Z_i``. The exponential of a distance
is the product of those of the steps between, so Z and every sum over rows or columns is a sum
from the left and one from the right that decay from score to score. Both are cut at k: within a
group of rows a candidate has at least its own row, and outside of it the whole group is as far
away as its border. That distance is the only thing that gets large, and it is kept as a logarithm.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cascaderank.sorting._soft_sort.decaying_sums import sums_from_ends
from cascaderank.sorting.order import Ties, find_ties, sort_best_first


class LogTopKOfDistances(torch.autograd.Function):
    """From scaled scores to both logarithms, in the order of the scores.

    ``apply(unit, gain, k, mask)`` takes ``[lists, list]`` in [-1, 1], ``[lists, 1]``,
    ``[lists, 1]`` and ``[lists, list]`` bool, and returns ``(log kept, log dropped)``. The sums and
    the gradients are those of :func:`cascaderank.sorting.rows.log_top_k_of_rows`. Where exists is
    nothing to say, the numbers mean nothing, and must get no gradient from above.
    """

    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, gain: Tensor, k: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        best_first, order = sort_best_first(unit.masked_fill(~mask, -2.0))
        count = mask.sum(-1, keepdim=True)
        rank = torch.arange(unit.shape[-1], device=unit.device)
        real = rank < count
        best_first.masked_fill_(~real, 0.0)
        lists = _Lists(best_first, gain, torch.minimum(k, count).clamp_(min=0), real)
        from_left, from_right = sums_from_ends(lists.decay(cut=False), real.to(unit))
        share = real / (from_left + from_right - 1).clamp_(min=1)  # of a candidate in its own row
        rows_left, rows_right = sums_from_ends(lists.decay(cut=True), share)
        kept = rank < lists.k
        own = (rows_left + rows_right - share).clamp_(min=torch.finfo(share.dtype).tiny)
        other = lists.at_border(rows_left, rows_right, own=False)
        ratio = (own / other).log_() + lists.to_border(own=False)  # of the own group to the other
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
        order, best_first, gain, k, real, first, behind, *sums = ctx.saved_tensors
        lists = _Lists(best_first, gain, k, real)
        above = (x.gather(-1, order) * real for x in (of_kept, of_dropped))
        of_x = _gradient(lists, Ties(first, behind), *above, *sums)
        of_unit = torch.empty_like(of_x).scatter_(-1, order, of_x * gain)
        return of_unit, (of_x * best_first).sum(-1, keepdim=True), None, None


class _Lists(NamedTuple):
    """Scores in falling order, and where they are cut. Borders are the two scores at the cut."""

    best_first: Tensor
    """``[lists, list]``; 0 behind the real ones."""
    gain: Tensor
    """``[lists, 1]``"""
    k: Tensor
    """``[lists, 1]``"""
    real: Tensor
    """``[lists, list]`` bool"""

    def kept(self) -> Tensor:
        return torch.arange(self.best_first.shape[-1], device=self.k.device) < self.k

    def decay(self, *, cut: bool) -> Tensor:
        """Return the exponential of the distance to the score before, 0 where exists is none."""
        step = self.best_first.roll(1, -1).sub_(self.best_first).abs_().mul_(self.gain)
        decay = step.neg_().exp_().masked_fill_(~self.real, 0.0)
        rank = torch.arange(decay.shape[-1], device=decay.device)
        return decay.masked_fill_(rank == self.k, 0.0) if cut else decay

    def border(self, *, own: bool) -> Tensor:
        """Return the place of the border of the own group, or of the other, ``[lists, list]``."""
        end = self.best_first.shape[-1] - 1
        last, first = (self.k - 1).clamp(min=0), self.k.clamp(max=end)
        return torch.where(self.kept() == own, last, first)

    def to_border(self, *, own: bool) -> Tensor:
        """Return how far each score is from a border, ``[lists, list]``."""
        return self.distance(self.border(own=own), self.best_first)

    def distance(self, place: Tensor, score: Tensor) -> Tensor:
        """Return how far the scores at some places are from others."""
        return (self.best_first.gather(-1, place) - score).abs_().mul_(self.gain)

    def at_border(self, from_left: Tensor, from_right: Tensor, *, own: bool) -> Tensor:
        """Return the sum over a group as its border sees it, ``[lists, list]``."""
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
    """Return the gradient by the scores in falling order, as columns and as centres of rows.

    An entry of a row counts up if the row's centre is above the candidate and down if below, and
    not at all if they tie: "strictly" leaves these out.
    """
    kept, k = lists.kept(), lists.k
    side = torch.where(kept, 1.0, -1.0).to(share)
    of_own, of_other = (
        torch.where(kept, of_kept, of_dropped),
        torch.where(kept, of_dropped, of_kept),
    )
    ratio = of_own / own
    decay = lists.decay(cut=True)
    # The nearest in the own group that are strictly above and below, with what ties removed.
    top = torch.where(kept, ties.first, ties.first.maximum(k))
    bottom = torch.where(kept, ties.behind.minimum(k), ties.behind) - 1

    def strictly(left: Tensor, right: Tensor, terms: Tensor) -> Tensor:
        """Return the sum from above less that from below."""
        above = left.gather(-1, top) - terms.gather(-1, top)
        return above - (right.gather(-1, bottom) - terms.gather(-1, bottom))

    # What a row is told by the candidates of the other group, which see it from their border.
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

    # The rows of the other group, as its nearest row that does not tie sees them.
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
    seen = side * scale * across(nearest) - strictly(ratio_left, ratio_right, ratio)
    of_centre = -share * (seen - of_row * difference)
    before = F.pad(of_centre.cumsum(-1), (1, 0))
    of_ties = before.gather(-1, ties.behind) - before.gather(-1, ties.first)
    return (of_column + of_ties / (ties.behind - ties.first)).masked_fill_(~lists.real, 0.0)


def _strictly_in_row(from_left: Tensor, from_right: Tensor, ties: Ties) -> Tensor:
    """Return how much of a row, not yet divided by its sum, is above its centre less below."""
    above = from_left.gather(-1, ties.first)
    return above - from_right.gather(-1, ties.behind - 1)
