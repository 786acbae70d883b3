"""ARF as a loss: keep the ground truth, and know the whole order."""

from torch import Tensor

from cascaderank.errors import ConfigError
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
    """The relaxed loss of recall and the global loss of the order, with a fixed weight.

    :func:`~cascaderank.losses.relaxed_recall.relaxed_recall_loss` plus ``weight`` times
    :func:`~cascaderank.losses.permutation.permutation_loss`. The objective ``arf`` learns the
    weight, ``1 / (2 w^2)``, and this is where it starts.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        m: how many are kept.
        k: the ground truth is the top ``k`` by label; candidates that tie for the last places
            share them. Give either this or ``threshold``.
        threshold: the ground truth is every label of at least this.
        weight: of the global loss; at least 0.
        operator: a name in ``cascaderank.sorting.OPERATORS``, or an operator, that has a
            permutation.
        temperature: of the operator: positive; a number, or a tensor ``[...]``, one per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, of the scores' dtype.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: unless exactly one of ``k`` and ``threshold`` is given, and if an option is
            unknown or out of range.

    Examples:
        >>> import torch
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> arf_loss(torch.tensor([1.0, 0.5, -1.0]), labels, m=2, k=1)
        tensor(0.3212)

    Source: ARF (arXiv 2310.10462), equations 11 to 13.
    """
    if not 0 <= weight < float("inf"):
        raise ConfigError(f"weight must be a number of at least 0; got {weight}")
    mask = check_lists(scores, labels, mask)
    whole, totals = permutation_costs(
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
    return reduce_lists(relaxed + weight * whole, reduction).to(scores.dtype)
