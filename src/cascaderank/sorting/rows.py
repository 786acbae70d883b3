"""Top-k probabilities from the rows of a soft permutation."""

import math

import torch
from torch import Tensor

from cascaderank.tensors import is_whole


def log_softmax_of_real(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the log-softmax of ``[..., rank, list]`` over the real candidates of each list.

    What lies under the mask gets a very negative number rather than -inf, so that the rows of an
    empty list have a gradient (of 0) instead of NaN.
    """
    if not is_whole(mask):
        logits = logits.masked_fill(~mask[..., None, :], _nothing(logits))
    return logits.log_softmax(-1)


def cross_entropy_of_rows(log_rows: Tensor, first: Tensor, behind: Tensor, mask: Tensor) -> Tensor:
    """Return ``sum_ij -Y_ij log P_ij``, ``[...]``, where Y shares runs of ranks evenly.

    Args:
        log_rows: ``[..., rank, list]``.
        first: ``[..., list]``; the first of the ranks that a candidate should have.
        behind: ``[..., list]``; the first behind them.
        mask: ``[..., list]`` bool.
    """
    rank = torch.arange(log_rows.shape[-2], device=log_rows.device)[:, None]
    wanted = (first[..., None, :] <= rank) & (rank < behind[..., None, :]) & mask[..., None, :]
    share = wanted / (behind - first).clamp(min=1)[..., None, :].to(log_rows)
    return -(share * log_rows.masked_fill(~wanted, 0.0)).sum((-1, -2))


def totals_of_rows(log_rows: Tensor, mask: Tensor) -> Tensor:
    """Return ``sum_i P_ij``, ``[..., list]``, over the rows there are; a constant."""
    rank = torch.arange(log_rows.shape[-2], device=log_rows.device)
    real = rank < mask.sum(-1, keepdim=True)
    return _sum_of(log_rows.detach().exp(), real)


def sum_sorted_of_rows(log_rows: Tensor, values: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Return ``sum_ij w_i P_ij v_j``, ``[...]``, over the rows there are.

    Args:
        log_rows: ``[..., rank, list]``.
        values: ``[..., list]``; 0 under the mask.
        weights: ``[rank]``, of the first ranks; the others count for nothing.
        mask: ``[..., list]`` bool.
    """
    rank = torch.arange(len(weights), device=log_rows.device)
    real = weights * (rank < mask.sum(-1, keepdim=True))
    of_columns = real[..., None, :] @ log_rows[..., : len(weights), :].exp()
    return (of_columns.squeeze(-2) * values).sum(-1)


def log_top_k_of_rows(log_rows: Tensor, k: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the first k rows of a soft permutation, and the others, in log space.

    ``kept_j = sum_{i <= k} P_ij / sg(sum_{i <= n} P_ij)``, and ``dropped_j`` the same over the
    rows below k. The denominator is there because the operators are row-stochastic only, and is
    a constant to the gradient. So the two add up to 1 in value, but each is learned through its
    own rows: the gradient of ``log dropped`` raises the lower rows.

    Args:
        log_rows: ``[..., rank, list]``.
        k: ``[...]``; how many rows are kept.
        mask: ``[..., list]`` bool.

    Returns:
        ``(log kept, log dropped)``, each ``[..., list]`` and at most 0.

    Source: LCRON (arXiv 2503.09492), in log space by this project.
    """
    rank = torch.arange(log_rows.shape[-2], device=log_rows.device)
    real = rank < mask.sum(-1, keepdim=True)  # [..., rank]
    upper = real & (rank < k[..., None])
    lower = real & ~upper
    with torch.no_grad():
        top_upper, top_lower = _largest(log_rows, upper), _largest(log_rows, lower)
        top = torch.where(upper[..., None], top_upper[..., None, :], top_lower[..., None, :])
    # One exponential serves both sums. It is kept from underflow, which is of no consequence to
    # a sum that contains a 1, and which CPUs take fifty times as long for.
    coldest = math.log(torch.finfo(log_rows.dtype).tiny)
    shares = (log_rows - top).clamp(min=coldest, max=0.0).exp()
    kept = _sum_of(shares, upper).log() + top_upper
    dropped = _sum_of(shares, lower).log() + top_lower
    total = torch.logaddexp(kept, dropped).detach()
    return kept - total, dropped - total


def _largest(log_rows: Tensor, rows: Tensor) -> Tensor:
    return log_rows.masked_fill(~rows[..., None], _nothing(log_rows)).amax(-2)


def _sum_of(shares: Tensor, rows: Tensor) -> Tensor:
    """Sum some rows, ``[..., list]``; 1 where there are none, for its logarithm."""
    return (shares * rows[..., None]).sum(-2) + ~rows.any(-1, keepdim=True)


def _nothing(logits: Tensor) -> float:
    return torch.finfo(logits.dtype).min / 4
