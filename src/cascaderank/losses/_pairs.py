"""Shared parts of the pairwise losses: preferences, ranks, and the loss of all pairs.

The loss is computed for a block of pairs at a time, together with its gradient with respect to
each score. Memory is therefore linear in the length of the list.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cascaderank.losses._gains import discount
from cascaderank.sorting.order import all_distinct, find_ties, sort_best_first
from cascaderank.tensors import at_least_float32, finite_scores, undefined_lists

Weigh = Callable[..., Tensor]
"""Takes the features of the preferred candidates, ``[lists, i, 1]`` each, then those of the other
candidates, ``[lists, 1, j]`` each. Returns the weight of each pair, ``[lists, i, j]``, finite and
at least 0."""

_PAIRS_PER_BLOCK = {"cpu": 2**18}
"""Maximum number of pairs of a block; on a CPU, as many as fit into its cache."""

_PAIRS_PER_BLOCK_ELSEWHERE = 2**24
"""On other devices, enough to use all of their processors."""

_ROWS_PER_BLOCK = 64
"""Maximum number of preferred candidates of a block. Candidates before a block have labels that are
no worse, so a block of a long list need not be compared with them."""


class Preferences:
    """All pairs of candidates of a list in which the first candidate has the better label.

    Candidates of equal label form no pair, and padding is in none. The preferences of a list with
    a NaN label are undefined, and its loss is NaN.

    Args:
        labels: ``[..., list]``, higher is better.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
    """

    def __init__(self, labels: Tensor, mask: Tensor) -> None:
        self._undefined = undefined_lists(labels, mask)
        if labels.is_floating_point():
            labels, padding = labels.detach(), -torch.inf
            lowest = torch.finfo(labels.dtype).min
        else:
            labels, padding = labels.long(), torch.iinfo(torch.int64).min
            lowest = padding + 1
        filled = labels.clamp(min=lowest).masked_fill(~mask, padding)
        best_first, self._order = sort_best_first(filled)
        self._count = mask.sum(-1, keepdim=True)
        self._ties = find_ties(best_first, self._count)

    def better(self) -> Tensor:
        """Return the number of better labels for each candidate, int64 ``[..., list]``."""
        return self._in_list_order(self._ties.first)

    def worse(self) -> Tensor:
        """Return the number of worse labels for each candidate, int64 ``[..., list]``.

        It is 0 for padding.
        """
        return self._in_list_order((self._count - self._ties.behind).clamp(min=0))

    def costs(self, scores: Tensor, *features: Tensor, weigh: Weigh | None = None) -> Tensor:
        """Return ``sum_ij w_ij softplus(s_j - s_i)`` over pairs with i preferred to j, ``[...]``.

        Args:
            scores: ``[..., list]`` floating point.
            features: values from which ``weigh`` computes the weights, ``[..., list]`` each.
            weigh: the function that returns the weights, which are all 1 by default. No gradient
                flows through them.

        Returns:
            The loss of each list, in the dtype of the scores and at least float32.
        """
        scores = finite_scores(scores)
        length = scores.shape[-1]
        if not length:
            return scores.sum(-1)
        padding = torch.arange(length, device=scores.device) >= self._count
        better = self._ties.first.to(scores.dtype)
        as_preferred, as_other = (better.masked_fill(padding, x) for x in (torch.inf, -1.0))
        sorted_scores = scores.gather(-1, self._order).masked_fill(padding, 0.0)
        sorted_features = (x.detach().gather(-1, self._order) for x in features)
        columns = (sorted_scores, as_preferred, as_other, *sorted_features)
        flat = (x.reshape(-1, length) for x in columns)
        loss = _PairLoss.apply(weigh, *flat)  # type: ignore[no-untyped-call]
        loss = cast("Tensor", loss).view(scores.shape[:-1])
        return loss if self._undefined is None else loss.masked_fill(self._undefined, torch.nan)

    def _in_list_order(self, best_first: Tensor) -> Tensor:
        return torch.empty_like(best_first).scatter_(-1, self._order, best_first)


class _PairLoss(torch.autograd.Function):
    """Sum the loss of the pairs of each list; candidates are sorted by label, best first.

    Candidate i is preferred to j if fewer labels are better than that of i:
    ``as_preferred_i < as_other_j``. Both are the number of better labels. For padding they are
    infinity and -1, so that it forms no pair.
    """

    @staticmethod
    def forward(
        ctx: Any,
        weigh: Weigh | None,
        scores: Tensor,
        as_preferred: Tensor,
        as_other: Tensor,
        *features: Tensor,
    ) -> Tensor:
        loss = scores.new_zeros(len(scores))
        gradient = torch.zeros_like(scores) if ctx.needs_input_grad[1] else None
        weights, margin = (scores.new_empty(0) for _ in range(2))  # reused by all blocks
        for lists, rows in blocks(scores):
            columns = slice(rows.start, None)
            sides = as_other[lists, None, columns], as_preferred[lists, rows, None]
            weights = torch.sub(*sides, out=weights.resize_(0)).clamp_(0.0, 1.0)
            if weigh is not None:
                preferred = (x[lists, rows, None] for x in features)
                weights.mul_(weigh(*preferred, *(x[lists, None, columns] for x in features)))
            sides = scores[lists, None, columns], scores[lists, rows, None]
            margin = torch.sub(*sides, out=margin.resize_(0))
            loss[lists] += F.softplus(margin).mul_(weights).sum((-1, -2))
            if gradient is not None:
                weights.mul_(margin.sigmoid_())
                gradient[lists, rows] -= weights.sum(-1)
                gradient[lists, columns] += weights.sum(-2)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return None, gradient * grad_output[:, None], *(None for _ in ctx.needs_input_grad[2:])


def blocks(scores: Tensor, rows: int | None = None) -> Iterator[tuple[slice, slice]]:
    """Yield blocks of pairs: some lists, and some candidates to compare with all others.

    Args:
        scores: ``[lists, list]``, with at least one candidate.
        rows: number of candidates, from the start of each list, that are compared with all
            others; by default, all.
    """
    count, length = scores.shape
    rows = length if rows is None else rows
    pairs = _PAIRS_PER_BLOCK.get(scores.device.type, _PAIRS_PER_BLOCK_ELSEWHERE)
    rows_per_block = max(1, min(rows, _ROWS_PER_BLOCK, pairs // length))
    lists_per_block = max(1, pairs // (rows_per_block * length))
    for first in range(0, count, lists_per_block):
        for start in range(0, rows, rows_per_block):
            last = min(start + rows_per_block, rows)
            yield slice(first, first + lists_per_block), slice(start, last)


def pessimistic_rank(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return the rank of each candidate by score, 1 for the best, ``[..., list]``.

    Among equal scores, the worse label has the better rank. Scores that do not distinguish
    candidates are thus evaluated at the worst order they allow, and receive gradient. Candidates
    equal in both score and label have the mean of their ranks. Ranks under the mask are undefined,
    but at least 1.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
    """
    scores = at_least_float32(scores.detach()).masked_fill(~mask, -torch.inf)
    count = mask.sum(-1, keepdim=True)
    best_first, order = sort_best_first(scores)
    if all_distinct(best_first[..., :-1] - best_first[..., 1:], count):
        place = torch.arange(scores.shape[-1], device=scores.device, dtype=scores.dtype)
        return torch.empty_like(scores).scatter_(-1, order, (place + 1).expand_as(scores))
    labels = labels.detach().masked_fill(~mask, 0)
    by_label = labels.sort(dim=-1, stable=True).indices
    best_first, by_score = scores.gather(-1, by_label).sort(dim=-1, descending=True, stable=True)
    order = by_label.gather(-1, by_score)
    labels = labels.gather(-1, order)
    new = (best_first[..., 1:] != best_first[..., :-1]) | (labels[..., 1:] != labels[..., :-1])
    ties = find_ties(F.pad(new.long().cumsum(-1), (1, 0)), count)
    rank = (ties.first + ties.behind + 1).to(scores.dtype) / 2
    return torch.empty_like(scores).scatter_(-1, order, rank)


def ndcg_lambdas(
    gain: Tensor, rank: Tensor, other_gain: Tensor, other_rank: Tensor, *, m: int | None
) -> Tensor:
    """Return the weight of each pair: how much NDCG depends on its order, ``[lists, i, j]``.

    ``|g_i - g_j| (0.2 u + 0.8 v)``, where v is the difference between the discounts of both ranks
    (LambdaRank), and u that between the discounts of the distance of both ranks and of the next
    larger distance (LambdaLoss).

    Args:
        gain: normalised gains of the preferred candidates, ``[lists, i, 1]``.
        rank: their ranks, 1 for the best, ``[lists, i, 1]``.
        other_gain: normalised gains of the other candidates, ``[lists, 1, j]``.
        other_rank: their ranks, ``[lists, 1, j]``.
        m: cut-off: v uses no discount of a rank beyond it, and u is 0 where both ranks are beyond
            it; ``None`` for no cut-off.
    """
    last = torch.inf if m is None else m
    distance = (rank - other_rank).abs_()
    counted = (distance > 0) & (torch.minimum(rank, other_rank) <= last)
    distance.clamp_(min=0.5)  # shared ranks are multiples of one half
    weights = discount(distance).sub_(discount(distance.add_(1.0))).mul_(counted).mul_(0.2)
    discounts, other_discounts = (discount(r) * (r <= last) for r in (rank, other_rank))
    weights.add_((discounts - other_discounts).abs_(), alpha=0.8)
    return weights.mul_((gain - other_gain).abs_())


def best_dcg(gain: Tensor) -> Tensor:
    """Return the ideal DCG of each list, over all ranks, ``[...]``.

    Args:
        gain: ``[..., list]``.
    """
    ranks = torch.arange(1, gain.shape[-1] + 1, device=gain.device, dtype=gain.dtype)
    return (gain.sort(dim=-1, descending=True).values * discount(ranks)).sum(-1)
