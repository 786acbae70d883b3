"""What the losses that are made of NDCG share: gains over the best DCG, and discounts."""

import torch
from torch import Tensor

from cascaderank.relevance import Gain, relative_gains
from cascaderank.selection import check_size
from cascaderank.sorting.order import sort_best_first
from cascaderank.tensors import at_least_float32


def normalised_gains(
    labels: Tensor, *, gain: Gain, m: int | None, like: Tensor, mask: Tensor
) -> Tensor:
    """Return gains such that the DCG of the best order is 1, ``[..., list]`` without gradient.

    Labels below 0 gain nothing. A list where nothing gains has 0 everywhere.

    Args:
        labels: ``[..., list]``.
        gain: as for NDCG.
        m: ranks beyond this count for nothing; ``None`` to count all.
        like: of the precision that is wanted, and at least float32.
        mask: ``[..., list]`` bool.
    """
    labels = labels.detach().masked_fill(~mask, 0).clamp(min=0)
    gains = relative_gains(labels, gain, mask)
    weights = discounts(gains, m=m)
    best_first = gains.gather(-1, sort_best_first(labels)[1])
    best = (best_first[..., : len(weights)] * weights).sum(-1)
    shares = gains / torch.where(best > 0, best, 1.0)[..., None]
    return shares.to(at_least_float32(like).dtype)


def discount(rank: Tensor, *, m: int | None = None) -> Tensor:
    """Return ``1 / log2(1 + rank)``, in the precision of the ranks; 0 beyond rank ``m``.

    Raises:
        ConfigError: if ``m`` is not a positive integer.
    """
    weight = (1 + rank).log2_().reciprocal_()
    return weight if m is None else weight * (rank <= check_size(m, "m"))


def discounts(lists: Tensor, *, m: int | None) -> Tensor:
    """Return the discounts of the ranks of lists ``[..., list]``, of the first m if that is given.

    Raises:
        ConfigError: if ``m`` is not a positive integer.
    """
    last = lists.shape[-1] if m is None else min(check_size(m, "m"), lists.shape[-1])
    return discount(torch.arange(1, last + 1, device=lists.device, dtype=lists.dtype))


def soft_ndcg_cost(
    rows: Tensor, labels: Tensor, *, m: int | None, gain: Gain, mask: Tensor
) -> Tensor:
    """Return what the NDCG of softly sorted gains lacks to 1, ``[...]``; 0 where nothing gains.

    Args:
        rows: ``[..., rank, list]``, a soft permutation.
        labels: ``[..., list]``.
        m: ranks beyond this count for nothing; ``None`` to count all.
        gain: as for NDCG.
        mask: ``[..., list]`` bool.
    """
    gains = normalised_gains(labels, gain=gain, m=m, like=rows, mask=mask)
    weights = discounts(gains, m=m)
    return lack((weights @ rows[..., : len(weights), :] * gains).sum(-1), gains)


def lack(reached: Tensor, gains: Tensor) -> Tensor:
    """Return what the NDCG that is reached ``[...]`` lacks to 1; 0 where nothing gains.

    Args:
        reached: more than 1 counts as 1.
        gains: ``[..., list]``.
    """
    return torch.where((gains > 0).any(-1), (1 - reached).clamp(min=0.0), 0 * reached)
