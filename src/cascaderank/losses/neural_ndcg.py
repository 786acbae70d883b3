"""NeuralNDCG: NDCG of a soft permutation whose rows and columns add up to 1."""

import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES
from cascaderank.losses._gains import soft_ndcg_cost
from cascaderank.relevance import Gain
from cascaderank.sorting import permutation
from cascaderank.sorting._interface import Operator
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists

_LEAST = 1e-6
"""A column that adds up to less is left as it is: there may be nothing in it."""


@LOSSES.register
def neural_ndcg_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int | None = None,
    gain: Gain = "exponential",
    scalings: int = 20,
    operator: str | Operator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""What the NDCG of softly sorted gains lacks to 1.

    .. math::
        \ell = 1 - \sum_{r \le m} \frac{(P G)_r}{\log_2(1 + r)}

    P is the soft permutation, its columns and rows scaled in turn so that both add up to 1 (else
    a gain could be counted twice); G the gain over the best DCG of the list. Takes memory of the
    square of the list's length, times ``scalings``.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, at least 0; higher is better.
        m: the metric is NDCG@m; ``None`` for NDCG of the whole list.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        scalings: how often columns and rows are scaled; at least 0.
        operator: a name in ``cascaderank.sorting.OPERATORS``, or an operator, that has a
            permutation.
        temperature: of the operator: positive; a number, or a tensor ``[...]``, one per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        In [0, 1], of the scores' dtype. Exactly 0 for a list where nothing gains.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> neural_ndcg_loss(torch.tensor([3.0, 2.0, 1.0]), labels)
        tensor(0.0615)
        >>> neural_ndcg_loss(torch.tensor([1.0, 2.0, 3.0]), labels)
        tensor(0.3669)

    Source: Pobrotyn and Bialobrzeski 2021 (arXiv 2102.07831).
    """
    if not isinstance(scalings, int) or isinstance(scalings, bool) or scalings < 0:
        raise ConfigError(f"scalings must be a whole number of at least 0; got {scalings!r}")
    mask = check_lists(scores, labels, mask)
    rows = permutation(
        at_least_float32(scores), operator=operator, temperature=temperature, mask=mask
    )
    for _ in range(scalings):
        for axis in (-2, -1):
            added = rows.sum(axis, keepdim=True)
            rows = rows / torch.where(added > _LEAST, added, 1.0)
    return reduce_lists(soft_ndcg_cost(rows, labels, m=m, gain=gain, mask=mask), reduction).to(
        scores.dtype
    )
