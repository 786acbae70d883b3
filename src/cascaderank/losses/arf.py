"""ARF with a fixed weight: relaxed recall plus the cross-entropy of the whole order."""

from torch import Tensor

from cascaderank.limits import check_not_negative
from cascaderank.losses import LOSSES
from cascaderank.losses.permutation import permutation_costs
from cascaderank.losses.relaxed_recall import relaxed_recall_costs
from cascaderank.sorting import PermutationOperator
from cascaderank.tensors import Reduction, check_lists, reduce_lists


@LOSSES.register
def arf_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int,
    k: int | None = None,
    threshold: float | None = None,
    weight: float = 0.5,
    operator: str | PermutationOperator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Weighted sum of the relaxed recall loss and the permutation loss.

    :func:`~cascaderank.losses.relaxed_recall.relaxed_recall_loss` plus ``weight`` times
    :func:`~cascaderank.losses.permutation.permutation_loss`. The objective ``arf`` trains the
    weight, ``1 / (2 w^2)``, from w = 1, which is the default here.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        m: number of candidates kept, at least 1.
        k: the ground truth is the top ``k`` by label, ``k`` at least 1; candidates that tie for
            the last places share them. At least one of ``k`` and ``threshold`` must be given.
        threshold: the ground truth is every label of at least this; finite.
        weight: weight of the permutation loss, finite and at least 0.
        operator: operator with a permutation: a name in ``cascaderank.sorting.OPERATORS``, or an
            instance.
        temperature: temperature of the operator, positive: a number, or a tensor ``[...]`` with
            one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given, and if an option is
            unknown or out of range.

    Examples:
        >>> import torch
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> arf_loss(torch.tensor([1.0, 0.5, -1.0]), labels, m=2, k=1)
        tensor(0.3212)

    Source: ARF (arXiv 2310.10462), equations 11 to 13.
    """
    check_not_negative(weight, "weight")
    mask = check_lists(scores, labels, mask)
    global_loss, totals = permutation_costs(
        scores, labels, operator=operator, temperature=temperature, mask=mask
    )
    relaxed = relaxed_recall_costs(
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
    return reduce_lists(relaxed + weight * global_loss, reduction).to(scores.dtype)
