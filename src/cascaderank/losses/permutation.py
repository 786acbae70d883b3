"""Permutation loss: cross-entropy between the order by label and a soft permutation."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.sorting import Operator, PermutationOperator
from cascaderank.sorting.functions import cross_entropy_of_ranks
from cascaderank.sorting.operator import Ranks
from cascaderank.sorting.order import find_ties, sort_best_first
from cascaderank.tensors import (
    Reduction,
    at_least_float32,
    check_lists,
    exact_labels,
    reduce_lists,
    undefined_to_nan,
)


@LOSSES.register
def permutation_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    operator: str | PermutationOperator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy between the permutation by label and the soft permutation by score.

    ``mean_ij -Y_ij log P_ij`` over all n ranks i and all n candidates j of the list. Y is exact,
    not a soft permutation of the labels: it is 1 where the label of candidate j has rank i.
    Candidates of equal label share their ranks, each with the same probability of each rank. This
    is the global term of ARF.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better; only their order has an effect.
        operator: operator with a permutation: a name in ``cascaderank.sorting.OPERATORS``, or an
            instance.
        temperature: temperature of the operator, positive: a number, or a tensor ``[...]`` with
            one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype; exactly 0 for a list whose labels are all equal.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
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
    losses, _ = permutation_costs(
        scores, labels, operator=operator, temperature=temperature, mask=mask
    )
    return reduce_lists(losses, reduction).to(scores.dtype)


def permutation_costs(
    scores: Tensor,
    labels: Tensor,
    *,
    operator: str | Operator,
    temperature: float | Tensor,
    mask: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the loss of each list ``[...]``, and the column sums of the soft permutation.

    The column sums, ``sum_i P_ij`` ``[..., list]``, carry no gradient.
    """
    ranks, decided = _ranks_by_label(labels, like=at_least_float32(scores), mask=mask)
    cross_entropy, totals = cross_entropy_of_ranks(
        at_least_float32(scores), ranks, operator=operator, temperature=temperature, mask=mask
    )
    count = mask.sum(-1).clamp(min=1)
    losses = undefined_to_nan(cross_entropy.masked_fill(~decided, 0.0) / count**2, labels, mask)
    return losses, totals


def _ranks_by_label(labels: Tensor, *, like: Tensor, mask: Tensor) -> tuple[Ranks, Tensor]:
    """Return the ranks of each candidate by label, and which lists ``[...]`` have two labels."""
    labels = exact_labels(labels.detach())
    labels = labels.to(torch.promote_types(labels.dtype, like.dtype))
    lowest = torch.finfo(labels.dtype).min
    best_first, order = sort_best_first(labels.clamp(min=lowest).masked_fill(~mask, -torch.inf))
    count = mask.sum(-1, keepdim=True)
    ties = find_ties(best_first, count)
    first, behind = (torch.empty_like(x).scatter_(-1, order, x) for x in ties)
    decided = (ties.behind[..., :1] < count).any(-1)
    return Ranks(first, behind), decided
