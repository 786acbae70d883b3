"""Functions of the rows of a soft permutation: normalisation, top-k sums and cross-entropy."""

import math

import torch
from torch import Tensor

from cascaderank.tensors import is_whole


def log_softmax_of_real(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the log-softmax of ``[..., rank, list]`` over the real candidates of each list.

    Logits under the mask are replaced by a very negative number rather than by -inf, so that the
    rows of an empty list have a gradient of 0 instead of NaN.
    """
    if not is_whole(mask):
        logits = logits.masked_fill(~mask[..., None, :], _nothing(logits))
    return logits.log_softmax(-1)


def cross_entropy_of_rows(log_rows: Tensor, first: Tensor, behind: Tensor, mask: Tensor) -> Tensor:
    """Return ``sum_ij -Y_ij log P_ij``, ``[...]``, where Y distributes runs of ranks evenly.

    Args:
        log_rows: ``[..., rank, list]``.
        first: ``[..., list]``; first target rank of a candidate.
        behind: ``[..., list]``; last target rank plus 1.
        mask: ``[..., list]`` bool.
    """
    rank = torch.arange(log_rows.shape[-2], device=log_rows.device)[:, None]
    is_target = (first[..., None, :] <= rank) & (rank < behind[..., None, :]) & mask[..., None, :]
    share = is_target / (behind - first).clamp(min=1)[..., None, :].to(log_rows)
    return -(share * log_rows.masked_fill(~is_target, 0.0)).sum((-1, -2))


def totals_of_rows(log_rows: Tensor, mask: Tensor) -> Tensor:
    """Return the column sums ``sum_i P_ij``, ``[..., list]``, over real rows, without gradient."""
    rank = torch.arange(log_rows.shape[-2], device=log_rows.device)
    real = rank < mask.sum(-1, keepdim=True)
    return _sum_of(log_rows.detach().exp(), real)


def sum_sorted_of_rows(log_rows: Tensor, values: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Return ``sum_ij w_i P_ij v_j``, ``[...]``, over the real rows.

    Args:
        log_rows: ``[..., rank, list]``.
        values: ``[..., list]``; 0 under the mask.
        weights: ``[rank]``, of the first ranks; the weight of later ranks is 0.
        mask: ``[..., list]`` bool.
    """
    rank = torch.arange(len(weights), device=log_rows.device)
    real = weights * (rank < mask.sum(-1, keepdim=True))
    of_columns = real[..., None, :] @ log_rows[..., : len(weights), :].exp()
    return (of_columns.squeeze(-2) * values).sum(-1)


def log_top_k_of_rows(log_rows: Tensor, k: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the first k rows of a soft permutation, and the remaining rows, in log space.

    ``kept_j = sum_{i <= k} P_ij / sg(sum_{i <= n} P_ij)``, and ``dropped_j`` is the same over the
    rows below k, where sg is the stop-gradient. The denominator is needed because the operators are
    only row-stochastic, and it is a constant to the gradient. The two values therefore add up to 1,
    but the gradient of each flows through its own rows: the gradient of ``log dropped`` raises the
    lower rows.

    Args:
        log_rows: ``[..., rank, list]``.
        k: ``[...]``; number of rows that are kept.
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
    # One exponential serves both sums. The clamp prevents subnormal numbers: they are negligible
    # in a sum that contains a 1, and CPUs are about fifty times slower on them.
    lowest = math.log(torch.finfo(log_rows.dtype).tiny)
    shares = (log_rows - top).clamp(min=lowest, max=0.0).exp()
    kept = _sum_of(shares, upper).log() + top_upper
    dropped = _sum_of(shares, lower).log() + top_lower
    total = torch.logaddexp(kept, dropped).detach()
    return kept - total, dropped - total


def _largest(log_rows: Tensor, rows: Tensor) -> Tensor:
    return log_rows.masked_fill(~rows[..., None], _nothing(log_rows)).amax(-2)


def _sum_of(shares: Tensor, rows: Tensor) -> Tensor:
    """Sum the selected rows, ``[..., list]``; 1 if none is selected, so that the logarithm is 0."""
    return (shares * rows[..., None]).sum(-2) + ~rows.any(-1, keepdim=True)


def _nothing(logits: Tensor) -> float:
    return torch.finfo(logits.dtype).min / 4
