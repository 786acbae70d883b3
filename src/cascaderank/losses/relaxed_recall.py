"""Relaxed recall: a differentiable surrogate of recall among the top m."""

import math

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._targets import ground_truth_targets
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

    ``mean_j -z_j log(1/m sum_{i <= m} P_ij)``, where z is 1 for the ground truth of the list and 0
    for other candidates, and P is the soft permutation by score. The order within the first m
    ranks has no effect. This is the relaxed term of ARF, a surrogate of recall@m@k.

    The loss has terms for the ground truth only. Other candidates receive gradient because each
    row adds up to 1. As ``1/m`` is inside the logarithm, the loss does not reach 0: a candidate
    with a row of its own still costs ``log m``.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        m: number of candidates kept, at least 1.
        k: the ground truth is the top ``k`` by label, ``k`` at least 1; candidates that tie for
            the last places share them. At least one of ``k`` and ``threshold`` must be given.
        threshold: the ground truth is every label of at least this; finite.
        operator: operator with a permutation: a name in ``cascaderank.sorting.OPERATORS``, or an
            instance.
        temperature: temperature of the operator, positive: a number, or a tensor ``[...]`` with
            one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype; exactly 0 for a list without ground truth, or
        with no more than ``m`` candidates.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given, and if an option is
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
    losses = relaxed_recall_costs(
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
    return reduce_lists(losses, reduction).to(scores.dtype)


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

    The top-m probability is the sum of the first m rows divided by ``totals``, which carry no
    gradient. The product of both is therefore the sum of the first m rows, in value and in
    gradient.
    """
    targets, size = ground_truth_targets(labels, like=scores, k=k, threshold=threshold, mask=mask)
    decided = (size > 0) & (check_size(m, "m") < mask.sum(-1))
    log_kept, _ = log_top_k_probability(
        at_least_float32(scores), m, operator=operator, temperature=temperature, mask=mask
    )
    ignored = ~(mask & decided[..., None])
    log_first_rows = log_kept + totals.masked_fill(ignored, 1.0).log()
    costs = (math.log(m) - log_first_rows).masked_fill(ignored, 0.0)
    return masked_mean(targets.to(costs.dtype) * costs, mask)
