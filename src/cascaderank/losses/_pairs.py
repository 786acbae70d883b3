"""What the losses over pairs of candidates share: preferences, ranks, and the cost of a pair.

The cost of all pairs is worked out a block of pairs at a time, together with its gradient by each
score. So memory is linear in the length of the list.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cascaderank.losses._gains import discount
from cascaderank.sorting.order import all_distinct, find_ties, sort_best_first
from cascaderank.tensors import at_least_float32

Weigh = Callable[..., Tensor]
"""Takes what is known of each candidate: first of those that are preferred, ``[lists, i, 1]``
each, then of the others, ``[lists, 1, j]``. Returns the weight of each pair, ``[lists, i, j]``, at
least 0 and finite."""

_AT_ONCE = {"cpu": 2**18}
"""How many pairs are looked at together: on a CPU, as many as stay in the cache."""

_MANY = 2**24
"""On other devices, to keep all of them busy."""

_ROWS = 64
"""Blocks are of no more candidates that are preferred. Those before a block have labels that are no
worse, so a block of a long list need not look at them."""


class Preferences:
    """Every pair of candidates of a list of which the first has the better label.

    Equal labels carry no preference, nor does padding.

    Args:
        labels: ``[..., list]``, higher is better.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
    """

    def __init__(self, labels: Tensor, mask: Tensor) -> None:
        if labels.is_floating_point():
            labels, behind_all = labels.detach(), -torch.inf
            lowest = torch.finfo(labels.dtype).min
        else:
            labels, behind_all = labels.long(), torch.iinfo(torch.int64).min
            lowest = behind_all + 1
        filled = labels.clamp(min=lowest).masked_fill(~mask, behind_all)
        best_first, self._order = sort_best_first(filled)
        self._count = mask.sum(-1, keepdim=True)
        self._ties = find_ties(best_first, self._count)

    def better(self) -> Tensor:
        """Return how many have a better label than each candidate, int64 ``[..., list]``."""
        return self._as_given(self._ties.first)

    def worse(self) -> Tensor:
        """Return how many have a worse label, likewise; 0 for padding."""
        return self._as_given((self._count - self._ties.behind).clamp(min=0))

    def costs(self, scores: Tensor, *of_each: Tensor, weigh: Weigh | None = None) -> Tensor:
        """Return ``sum_ij w_ij softplus(s_j - s_i)`` where i is preferred to j, ``[...]``.

        Args:
            scores: ``[..., list]`` floating point.
            of_each: what the weights are made of, ``[..., list]`` each.
            weigh: the weights, all 1 if not given. Nothing is learned through them.

        Returns:
            In at least float32.
        """
        scores = at_least_float32(scores)
        length = scores.shape[-1]
        if not length:
            return scores.sum(-1)
        padding = torch.arange(length, device=scores.device) >= self._count
        ahead = self._ties.first.to(scores.dtype)
        sides = ahead.masked_fill(padding, torch.inf), ahead.masked_fill(padding, -1.0)
        sorted_ = (scores.gather(-1, self._order).masked_fill(padding, 0.0), *sides)
        known = (x.detach().gather(-1, self._order) for x in of_each)
        flat = (x.reshape(-1, length) for x in (*sorted_, *known))
        costs = _PairCosts.apply(weigh, *flat)  # type: ignore[no-untyped-call]
        return cast("Tensor", costs).view(scores.shape[:-1])

    def _as_given(self, best_first: Tensor) -> Tensor:
        return torch.empty_like(best_first).scatter_(-1, self._order, best_first)


class _PairCosts(torch.autograd.Function):
    """The cost of the pairs of each list, candidates in the order of their labels, best first.

    One is preferred to another if fewer are better: ``ahead_i < behind_j``, where the two are the
    same number, but infinite and -1 for padding.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weigh: Weigh | None,
        scores: Tensor,
        ahead: Tensor,
        behind: Tensor,
        *of_each: Tensor,
    ) -> Tensor:
        costs = scores.new_zeros(len(scores))
        slopes = torch.zeros_like(scores) if ctx.needs_input_grad[1] else None
        weights, lack = (scores.new_empty(0) for _ in range(2))  # every block in their memory
        for lists, ones in blocks(scores):
            others = slice(ones.start, None)
            sides = behind[lists, None, others], ahead[lists, ones, None]
            weights = torch.sub(*sides, out=weights.resize_(0)).clamp_(0.0, 1.0)
            if weigh is not None:
                known = (x[lists, ones, None] for x in of_each)
                weights.mul_(weigh(*known, *(x[lists, None, others] for x in of_each)))
            sides = scores[lists, None, others], scores[lists, ones, None]
            lack = torch.sub(*sides, out=lack.resize_(0))
            costs[lists] += F.softplus(lack).mul_(weights).sum((-1, -2))
            if slopes is not None:
                weights.mul_(lack.sigmoid_())
                slopes[lists, ones] -= weights.sum(-1)
                slopes[lists, others] += weights.sum(-2)
        ctx.save_for_backward(slopes)
        return costs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return None, slopes * above[:, None], *(None for _ in ctx.needs_input_grad[2:])


def blocks(scores: Tensor, ones: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Yield some lists, and some candidates of theirs that all others may be compared to.

    Args:
        scores: ``[lists, list]``, the list not empty.
        ones: how many candidates of each list, its first, all others are compared to; all if not
            given.
    """
    count, length = scores.shape
    ones = length if ones is None else ones
    most = _AT_ONCE.get(scores.device.type, _MANY)
    rows = max(1, min(ones, _ROWS, most // length))
    lists = max(1, most // (rows * length))
    for first in range(0, count, lists):
        for start in range(0, ones, rows):
            yield slice(first, first + lists), slice(start, min(start + rows, ones))


def pessimistic_rank(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return the rank by score of each candidate, 1 for the best, ``[..., list]``.

    Of equal scores the worse label comes first, so that scores that say nothing are judged by
    the worst order that they allow, and learned from. Equal in both share the mean of their
    ranks, as no order of theirs is more right. Anything from 1 may be said under the mask.
    """
    scores = at_least_float32(scores.detach()).masked_fill(~mask, -torch.inf)
    count = mask.sum(-1, keepdim=True)
    best_first, order = sort_best_first(scores)
    if all_distinct(best_first[..., :-1] - best_first[..., 1:], count):
        place = torch.arange(scores.shape[-1], device=scores.device, dtype=scores.dtype)
        return torch.empty_like(scores).scatter_(-1, order, (place + 1).expand_as(scores))
    labels = labels.detach().masked_fill(~mask, 0)
    by_label = labels.sort(dim=-1, stable=True).indices
    best_first, again = scores.gather(-1, by_label).sort(dim=-1, descending=True, stable=True)
    order = by_label.gather(-1, again)
    labels = labels.gather(-1, order)
    new = (best_first[..., 1:] != best_first[..., :-1]) | (labels[..., 1:] != labels[..., :-1])
    ties = find_ties(F.pad(new.long().cumsum(-1), (1, 0)), count)
    rank = (ties.first + ties.behind + 1).to(scores.dtype) / 2
    return torch.empty_like(scores).scatter_(-1, order, rank)


def ndcg_lambdas(
    gain: Tensor, rank: Tensor, other_gain: Tensor, other_rank: Tensor, *, m: int | None
) -> Tensor:
    """Return how much NDCG depends on the order of each pair.

    ``|g_i - g_j| (0.2 u + 0.8 v)``: v is the difference of the discounts of both ranks
    (LambdaRank), u that of the discounts of how far they are apart (LambdaLoss).

    Args:
        gain: normalised, ``[lists, i, 1]``.
        rank: 1 for the best, likewise.
        other_gain: ``[lists, 1, j]``.
        other_rank: likewise.
        m: ranks below this count for nothing; ``None`` to count all.
    """
    last = torch.inf if m is None else m
    apart = (rank - other_rank).abs_()
    seen = (apart > 0) & (torch.minimum(rank, other_rank) <= last)
    apart.clamp_(min=0.5)  # half a rank is the least that two can be apart
    weights = discount(apart).sub_(discount(apart.add_(1.0))).mul_(seen).mul_(0.2)
    counts, others = (discount(r) * (r <= last) for r in (rank, other_rank))
    weights.add_((counts - others).abs_(), alpha=0.8)
    return weights.mul_((gain - other_gain).abs_())


def best_dcg(gain: Tensor) -> Tensor:
    """Return the DCG of each list in its best order, over all ranks, ``[...]``."""
    ranks = torch.arange(1, gain.shape[-1] + 1, device=gain.device, dtype=gain.dtype)
    return (gain.sort(dim=-1, descending=True).values * discount(ranks)).sum(-1)
