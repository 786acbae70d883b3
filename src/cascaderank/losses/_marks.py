"""What the losses of a smooth top-k share: marks, their number, and BCE in log space."""

from typing import Any, cast

import torch
from torch import Tensor

from cascaderank.relevance import ground_truth
from cascaderank.tensors import at_least_float32, count_real, is_whole, masked_mean


def mark(
    labels: Tensor, *, like: Tensor, k: int | None, threshold: float | None, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the marks of the ground truth ``[..., list]`` and how many there are ``[...]``.

    Ties share marks but the number is whole: it is the k asked for, the length of a shorter
    list, or the count of labels that reach the threshold. They are told apart with the precision
    of the wider of labels and scores (``like``).
    """
    labels = at_least_float32(labels.to(torch.promote_types(labels.dtype, like.dtype)))
    marks = ground_truth(labels, k=k, threshold=threshold, mask=mask)
    return marks, marks.sum(-1).long() if k is None else count_real(mask).clamp(max=k)


def log_space_bce(
    log_kept: Tensor, log_dropped: Tensor, marks: Tensor, *, decided: Tensor, mask: Tensor
) -> Tensor:
    """Return ``mean_j [-z_j log p_j - (1 - z_j) log(1 - p_j)]`` for each list, ``[...]``.

    Args:
        log_kept: ``log p``, ``[..., list]``; -inf only where nothing is decided.
        log_dropped: ``log(1 - p)``, likewise.
        marks: ``z``, in [0, 1]; spreads to ``[..., list]``.
        decided: spreads to ``[...]``, bool; a list where nothing is decided costs 0.
        mask: spreads to ``[..., list]``, bool.
    """
    marks = marks.to(log_kept.dtype)
    if mask.numel() and is_whole(mask) and is_whole(decided):  # nothing to fill
        costs = _MeanOfBCE.apply(log_kept, log_dropped, marks)  # type: ignore[no-untyped-call]
        return cast("Tensor", costs)
    silent = ~(mask & decided[..., None])
    kept, dropped = log_kept.masked_fill(silent, 0.0), log_dropped.masked_fill(silent, 0.0)
    return masked_mean(-torch.lerp(dropped, kept, marks), mask)


class _MeanOfBCE(torch.autograd.Function):
    """Return ``mean_j [-z_j log p_j - (1 - z_j) log(1 - p_j)]``, ``[...]``.

    Its gradient is the marks times one number for each list, which autograd takes longer to find.
    """

    @staticmethod
    def forward(ctx: Any, log_kept: Tensor, log_dropped: Tensor, marks: Tensor) -> Tensor:
        ctx.save_for_backward(marks)
        return torch.lerp(log_dropped, log_kept, marks).mean(-1).neg_()

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None]:
        (marks,) = ctx.saved_tensors
        of_each = (above / -marks.shape[-1])[..., None]
        of_kept = of_each * marks
        return of_kept, of_each - of_kept, None
