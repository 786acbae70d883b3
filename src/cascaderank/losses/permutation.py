"""Permutation loss: every rank goes to who should have it."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.sorting import Operator, log_permutation
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists


@LOSSES.register
def permutation_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    operator: str | Operator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy between the permutation by label and the soft one by score.

    ``mean_ij -Y_ij log P_ij`` over all n ranks i and n candidates j of the list. Y is exact:
    1 where the label of candidate j has rank i. Candidates that tie share their ranks, so that
    each has the same chance of each of them. This is the global term of ARF.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better; only their order matters.
        operator: a name in ``cascaderank.sorting.OPERATORS``, or an operator, that has a
            permutation.
        temperature: of the operator: positive; a number, or a tensor ``[...]``, one per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, of the scores' dtype. Exactly 0 for a list whose labels are all equal.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([1.0, 0.0])
        >>> permutation_loss(torch.tensor([2.0, 0.0]), labels)
        tensor(0.0635)
        >>> permutation_loss(torch.tensor([0.0, 2.0]), labels)
        tensor(1.0635)

    Source: Grover et al. 2019 (arXiv 1903.08850); ARF (arXiv 2310.10462), equation 12.
    """
    mask = check_lists(scores, labels, mask)
    log_rows = log_permutation(
        at_least_float32(scores), operator=operator, temperature=temperature, mask=mask
    )
    wanted = _permutation_by_label(labels, like=log_rows, mask=mask)
    cost = -wanted * log_rows.masked_fill(wanted == 0, 0.0)
    count = mask.sum(-1).clamp(min=1)
    return reduce_lists(cost.sum((-1, -2)) / count**2, reduction).to(scores.dtype)


def _permutation_by_label(labels: Tensor, *, like: Tensor, mask: Tensor) -> Tensor:
    """Return ``[..., rank, list]``: rows add up to 1, or to 0 where there is nothing to decide."""
    labels = labels.detach().to(torch.promote_types(labels.dtype, like.dtype))
    best_first = labels.masked_fill(~mask, -torch.inf).sort(dim=-1, descending=True).values
    alike = (best_first[..., :, None] == labels[..., None, :]) & mask[..., None, :]
    sharers = alike.sum(-1, keepdim=True)
    decided = sharers < mask.sum(-1)[..., None, None]  # not all of the list is alike
    return (alike & decided) / sharers.clamp(min=1).to(like.dtype)
