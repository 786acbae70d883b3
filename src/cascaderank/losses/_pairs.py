"""What the losses over pairs of candidates share: margins, preferences, and their cost."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cascaderank.tensors import at_least_float32


class Pairs(NamedTuple):
    """Every ordered pair of candidates of each list."""

    margin: Tensor
    """``[..., i, j]``: by how much i scores more than j."""
    preferred: Tensor
    """``[..., i, j]`` bool: both are real, and i has the better label."""

    def cost(self) -> Tensor:
        """Return ``softplus(-margin)`` where i is preferred to j, else 0, ``[..., i, j]``."""
        return softplus(-self.margin) * self.preferred


def make_pairs(scores: Tensor, labels: Tensor, mask: Tensor) -> Pairs:
    """Return all pairs, in at least float32. Equal labels carry no preference, nor does padding."""
    filled = at_least_float32(scores.masked_fill(~mask, 0.0))
    real = mask[..., :, None] & mask[..., None, :]
    return Pairs(
        margin=filled[..., :, None] - filled[..., None, :],
        preferred=(labels[..., :, None] > labels[..., None, :]) & real,
    )


class AgainstWorse(NamedTuple):
    """Each candidate against those of worse labels, ``[..., list]``."""

    cost: Tensor
    """Mean of softplus(-margin) over the candidates of worse label; 0 where there are none."""
    worse: Tensor
    """How many have a worse label, int64."""
    better: Tensor
    """How many have a better label, int64."""


def against_worse(pairs: Pairs) -> AgainstWorse:
    """Reduce pairs to one cost for each candidate that is preferred to any other."""
    worse, better = pairs.preferred.sum(-1), pairs.preferred.sum(-2)
    return AgainstWorse(pairs.cost().sum(-1) / worse.clamp(min=1), worse, better)


def pessimistic_rank(pairs: Pairs, mask: Tensor) -> Tensor:
    """Return the rank by score of each candidate, 1 for the best, ``[..., list]``.

    Of equal scores the worse label comes first, so that scores that say nothing are judged by
    the worst order that they allow, and learned from. Equal in both share the mean of their
    ranks, as no order of theirs is more right. Anything may be said under the mask.
    """
    with torch.no_grad():
        others = mask[..., None, :]
        ahead = ((pairs.margin < 0) & others).sum(-1)
        tied = (pairs.margin == 0) & others
        worse, better = ((tied & pairs.preferred).sum(axis) for axis in (-1, -2))
        alike = tied.sum(-1) - 1 - worse - better
        return (1 + ahead + worse).to(pairs.margin.dtype) + alike / 2


def ndcg_lambdas(gain: Tensor, rank: Tensor, *, m: int | None) -> Tensor:
    """Return how much NDCG depends on the order of each pair, ``[..., i, j]``, without gradient.

    ``|g_i - g_j| (0.2 u + 0.8 v)``: v is the difference of the discounts of both ranks
    (LambdaRank), u that of the discounts of how far they are apart (LambdaLoss).

    Args:
        gain: ``[..., list]``, normalised.
        rank: ``[..., list]``, 1 for the best.
        m: ranks below this count for nothing; ``None`` to count all.
    """
    with torch.no_grad():
        last = torch.inf if m is None else m
        one, other = rank[..., :, None], rank[..., None, :]
        apart = (one - other).abs()
        seen = (apart > 0) & (torch.minimum(one, other) <= last)
        apart = apart.clamp(min=0.5)  # half a rank is the least that two can be apart
        by_distance = (discount(apart) - discount(apart + 1)) * seen
        counts = discount(rank.clamp(min=1)) * (rank <= last)
        by_rank = (counts[..., :, None] - counts[..., None, :]).abs()
        of_gain = (gain[..., :, None] - gain[..., None, :]).abs()
        return of_gain * (0.2 * by_distance + 0.8 * by_rank)


def best_dcg(gain: Tensor) -> Tensor:
    """Return the DCG of each list in its best order, over all ranks, ``[...]``."""
    ranks = torch.arange(1, gain.shape[-1] + 1, device=gain.device, dtype=gain.dtype)
    return (gain.sort(dim=-1, descending=True).values * discount(ranks)).sum(-1)


def discount(rank: Tensor) -> Tensor:
    """Return ``1 / ln(1 + rank)``, in the precision of the ranks."""
    return 1 / rank.log1p()
