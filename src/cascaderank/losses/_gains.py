"""Shared parts of the losses based on NDCG: normalised gains, discounts, and ``1 - NDCG``."""

import torch
from torch import Tensor

from cascaderank.relevance import Gain, relative_gains
from cascaderank.selection import check_size
from cascaderank.sorting.order import sort_best_first
from cascaderank.tensors import at_least_float32


def normalised_gains(
    labels: Tensor, *, gain: Gain, m: int | None, like: Tensor, mask: Tensor
) -> Tensor:
    """Return gains divided by the ideal DCG of the list, ``[..., list]``, without gradient.

    The DCG of the ideal order is then 1. Labels below 0 have gain 0. If no candidate of a list
    has a positive gain, all gains of the list are 0.

    Args:
        labels: ``[..., list]``, higher is better.
        gain: ``"exponential"`` or ``"linear"``, as for NDCG.
        m: cut-off of the ideal DCG: number of ranks, at least 1; ``None`` for all ranks.
        like: scores, ``[..., list]``; gains have their dtype, and at least float32.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Raises:
        ConfigError: if ``gain`` is unknown or ``m`` is not a positive integer.
    """
    labels = labels.detach().masked_fill(~mask, 0).clamp(min=0)
    gains = relative_gains(labels, gain, mask)
    weights = discounts(gains, m=m)
    best_first = gains.gather(-1, sort_best_first(labels)[1])
    ideal_dcg = (best_first[..., : len(weights)] * weights).sum(-1)
    normalised = gains / torch.where(ideal_dcg > 0, ideal_dcg, 1.0)[..., None]
    return normalised.to(at_least_float32(like).dtype)


def discount(rank: Tensor, *, m: int | None = None) -> Tensor:
    """Return ``1 / log2(1 + rank)``, in the dtype of the ranks; 0 beyond rank ``m``.

    Raises:
        ConfigError: if ``m`` is not a positive integer.
    """
    weight = (1 + rank).log2_().reciprocal_()
    return weight if m is None else weight * (rank <= check_size(m, "m"))


def discounts(lists: Tensor, *, m: int | None) -> Tensor:
    """Return the discounts of the first ``m`` ranks of lists ``[..., list]``, ``[rank]``.

    All ranks are included if ``m`` is ``None`` or exceeds the length of the list.

    Raises:
        ConfigError: if ``m`` is not a positive integer.
    """
    last = lists.shape[-1] if m is None else min(check_size(m, "m"), lists.shape[-1])
    return discount(torch.arange(1, last + 1, device=lists.device, dtype=lists.dtype))


def soft_ndcg_loss(
    rows: Tensor, labels: Tensor, *, m: int | None, gain: Gain, mask: Tensor
) -> Tensor:
    """Return ``1 - NDCG`` of gains sorted by a soft permutation, ``[...]``.

    The loss of a list without positive gain is 0.

    Args:
        rows: soft permutation, ``[..., rank, list]``.
        labels: ``[..., list]``, higher is better.
        m: cut-off: number of ranks that count, at least 1; ``None`` for all ranks.
        gain: ``"exponential"`` or ``"linear"``, as for NDCG.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
    """
    gains = normalised_gains(labels, gain=gain, m=m, like=rows, mask=mask)
    weights = discounts(gains, m=m)
    return one_minus_ndcg((weights @ rows[..., : len(weights), :] * gains).sum(-1), gains)


def one_minus_ndcg(ndcg: Tensor, gains: Tensor) -> Tensor:
    """Return ``max(0, 1 - NDCG)``, ``[...]``; 0 for a list without positive gain.

    Args:
        ndcg: ``[...]``; may exceed 1, as columns of a soft permutation need not add up to 1.
        gains: ``[..., list]``, at least 0.
    """
    return torch.where((gains > 0).any(-1), (1 - ndcg).clamp(min=0.0), 0 * ndcg)
