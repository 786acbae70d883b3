"""Relaxed recall: the ground truth is somewhere among the top m."""

import math

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._marks import mark
from cascaderank.selection import check_size
from cascaderank.sorting import Operator, PermutationOperator, log_top_k_probability
from cascaderank.sorting.functions import column_sums
from cascaderank.tensors import (
    Reduction,
    at_least_float32,
    check_lists,
    masked_mean,
    reduce_lists,
)


@LOSSES.register
def relaxed_recall_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int,
    k: int | None = None,
    threshold: float | None = None,
    operator: str | PermutationOperator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Cross-entropy between the ground truth and the first m rows of a soft permutation.

    ``mean_j -z_j log(1/m sum_{i <= m} P_ij)``, where z marks the ground truth of the list and P
    is the permutation by score. In which of the first m ranks the ground truth is does not
    matter. This is the relaxed term of ARF, a surrogate of recall@m@k.

    Only ground truth is named, so the rest is learned through the rows adding up to 1. As
    ``1/m`` is within the logarithm the cost cannot reach 0: a candidate that has a row to itself
    still costs ``log m``.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        m: how many are kept.
        k: the ground truth is the top ``k`` by label; candidates that tie for the last places
            share them. Give either this or ``threshold``.
        threshold: the ground truth is every label of at least this.
        operator: a name in ``cascaderank.sorting.OPERATORS``, or an operator, that has a
            permutation.
        temperature: of the operator: positive; a number, or a tensor ``[...]``, one per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, of the scores' dtype. Exactly 0 for a list where there is nothing to decide:
        no ground truth, or no more than ``m`` candidates.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: unless exactly one of ``k`` and ``threshold`` is given, and if an option is
            unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> relaxed_recall_loss(torch.tensor([1.0, 0.5, -1.0]), labels, m=2, k=1)
        tensor(0.2477)
        >>> relaxed_recall_loss(torch.tensor([-1.0, 0.5, 1.0]), labels, m=2, k=1)
        tensor(0.9212)

    Source: ARF (arXiv 2310.10462), equation 11, with ``1/m`` inside the logarithm.
    """
    mask = check_lists(scores, labels, mask)
    with torch.no_grad():
        totals = column_sums(
            at_least_float32(scores), operator=operator, temperature=temperature, mask=mask
        )
    costs = relaxed_recall_costs(
        scores,
        labels,
        m=m,
        k=k,
        threshold=threshold,
        operator=operator,
        temperature=temperature,
        mask=mask,
        totals=totals,
    )
    return reduce_lists(costs, reduction).to(scores.dtype)


def relaxed_recall_costs(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int,
    k: int | None,
    threshold: float | None,
    operator: str | Operator,
    temperature: float | Tensor,
    mask: Tensor,
    totals: Tensor,
) -> Tensor:
    """Return the loss of each list ``[...]``, given ``totals``: ``sum_i P_ij``, ``[..., list]``.

    The probability to be kept is the first m rows over the totals, and these are constants to its
    gradient. So the first m rows are the product, in value and in gradient.
    """
    marks, size = mark(labels, like=scores, k=k, threshold=threshold, mask=mask)
    decided = (size > 0) & (check_size(m, "m") < mask.sum(-1))
    log_kept, _ = log_top_k_probability(
        at_least_float32(scores), m, operator=operator, temperature=temperature, mask=mask
    )
    silent = ~(mask & decided[..., None])
    log_upper = log_kept + totals.masked_fill(silent, 1.0).log()
    cost = marks.to(log_upper.dtype) * (math.log(m) - log_upper).masked_fill(silent, 0.0)
    return masked_mean(cost, mask)
