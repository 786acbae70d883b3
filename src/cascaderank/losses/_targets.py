"""Shared parts of the losses of a smooth top-k: targets, their number, and BCE in log space."""

from typing import Any, cast

import torch
from torch import Tensor

from cascaderank.losses._options import check_threshold
from cascaderank.relevance import ground_truth
from cascaderank.selection import check_size
from cascaderank.tensors import at_least_float32, count_real, exact_labels, is_whole, masked_mean


def ground_truth_targets(
    labels: Tensor, *, like: Tensor, k: int | None, threshold: float | None, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the targets ``z`` ``[..., list]`` of the ground truth, and its size K ``[...]``.

    A target is 1 for a candidate of the ground truth and 0 for any other. Candidates that tie for
    the last places share the remaining targets, but K is an integer: the number of candidates that
    reach the threshold, if there is one, and at most ``k``. Targets of a list with a NaN label are
    NaN.

    Args:
        labels: ``[..., list]``, higher is better.
        like: scores, ``[..., list]``. Labels are compared in the wider of both dtypes, in at
            least float32, and integers exactly.
        k: the ground truth is the top ``k`` by label. At least one of ``k`` and ``threshold`` must
            be given.
        threshold: the ground truth is every label of at least this; finite.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Raises:
        ConfigError: if neither ``k`` nor ``threshold`` is given, and if ``k`` is not a
            positive integer or ``threshold`` is not finite.

    Examples:
        >>> labels, mask = torch.tensor([3.0, 1.0, 1.0]), torch.tensor([True, True, True])
        >>> ground_truth_targets(labels, like=labels, k=2, threshold=None, mask=mask)
        (tensor([1.0000, 0.5000, 0.5000]), tensor(2))
    """
    if k is not None:
        check_size(k, "k")
    check_threshold(threshold)
    labels = exact_labels(labels)
    labels = at_least_float32(labels.to(torch.promote_types(labels.dtype, like.dtype)))
    targets = ground_truth(labels, k=k, threshold=threshold, mask=mask)
    if threshold is not None:
        mask = mask & (labels >= threshold)
    size = count_real(mask)
    return targets, size if k is None else size.clamp(max=k)


def log_space_bce(
    log_kept: Tensor, log_dropped: Tensor, targets: Tensor, *, decided: Tensor, mask: Tensor
) -> Tensor:
    """Return ``mean_j [-z_j log p_j - (1 - z_j) log(1 - p_j)]`` for each list, ``[...]``.

    Args:
        log_kept: ``log p``, ``[..., list]``; -inf is allowed only where ``decided`` is ``False``
            or the mask is.
        log_dropped: ``log(1 - p)``, likewise.
        targets: ``z``, in [0, 1]; broadcast to ``[..., list]``.
        decided: bool, broadcast to ``[...]``; the loss of a list is 0 where it is ``False``.
        mask: bool, broadcast to ``[..., list]``.
    """
    targets = targets.to(log_kept.dtype)
    if mask.numel() and is_whole(mask) and is_whole(decided):  # nothing to fill
        loss = _MeanBCE.apply(log_kept, log_dropped, targets)  # type: ignore[no-untyped-call]
        return cast("Tensor", loss)
    ignored = ~(mask & decided[..., None])
    kept, dropped = log_kept.masked_fill(ignored, 0.0), log_dropped.masked_fill(ignored, 0.0)
    return masked_mean(-torch.lerp(dropped, kept, targets), mask)


class _MeanBCE(torch.autograd.Function):
    """Return ``mean_j [-z_j log p_j - (1 - z_j) log(1 - p_j)]``, ``[...]``.

    The gradient is the targets times one number for each list. Computing it directly is faster
    than autograd.
    """

    @staticmethod
    def forward(ctx: Any, log_kept: Tensor, log_dropped: Tensor, targets: Tensor) -> Tensor:
        ctx.save_for_backward(targets)
        return torch.lerp(log_dropped, log_kept, targets).mean(-1).neg_()

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, Tensor, None]:
        (targets,) = ctx.saved_tensors
        grad_candidate = (grad_output / -targets.shape[-1])[..., None]
        grad_kept = grad_candidate * targets
        return grad_kept, grad_candidate - grad_kept, None
