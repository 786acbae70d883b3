"""PiRank: NDCG of the first rows of a soft permutation."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._gains import discounts, lack, normalised_gains, soft_ndcg_cost
from cascaderank.relevance import Gain
from cascaderank.sorting import PermutationOperator, permutation
from cascaderank.sorting.functions import sum_sorted
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists


@LOSSES.register
def pirank_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int | None = None,
    gain: Gain = "exponential",
    straight_through: bool = False,
    operator: str | PermutationOperator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""What the NDCG of softly sorted gains lacks to 1, rows as the operator gives them.

    .. math::
        \ell = 1 - \sum_{r \le m} \frac{(P G)_r}{\log_2(1 + r)}

    P is the soft permutation, G the gain over the best DCG of the list. Columns of P need not add
    up to 1, so a gain may count more than once (see ``neural_ndcg``); the cost is then cut off at
    0. With NeuralSort only rows up to m are looked at, some at a time, in memory of the list's
    length; with other operators, and straight-through, in memory of its square.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, at least 0; higher is better.
        m: the metric is NDCG@m; ``None`` for NDCG of the whole list.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        straight_through: take the value from the hard permutation, in which the best column of
            each row has it all, and only the gradient from the soft one.
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
        >>> pirank_loss(torch.tensor([3.0, 2.0, 1.0]), labels)
        tensor(0.0783)
        >>> pirank_loss(torch.tensor([1.0, 2.0, 3.0]), labels, straight_through=True)
        tensor(0.4131)

    Source: Swezey et al. 2021 (NeurIPS), with one sort of the whole list.
    """
    mask = check_lists(scores, labels, mask)
    filled = at_least_float32(scores)
    if not straight_through:
        gains = normalised_gains(labels, gain=gain, m=m, like=filled, mask=mask)
        weights = discounts(gains, m=m)
        reached = sum_sorted(
            gains, weights, filled, operator=operator, temperature=temperature, mask=mask
        )
        return reduce_lists(lack(reached, gains), reduction).to(scores.dtype)
    rows = permutation(filled, operator=operator, temperature=temperature, mask=mask)
    if rows.shape[-1]:
        best = rows.argmax(-1, keepdim=True)
        there = (rows.sum(-1, keepdim=True) > 0).to(rows.dtype)  # not every list has every rank
        rows = rows + (torch.zeros_like(rows).scatter(-1, best, there) - rows).detach()
    cost = soft_ndcg_cost(rows, labels, m=m, gain=gain, mask=mask)
    return reduce_lists(cost, reduction).to(scores.dtype)
