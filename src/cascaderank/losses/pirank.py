"""PiRank: NDCG of the first rows of a soft permutation."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._gains import (
    discounts,
    normalised_gains,
    one_minus_ndcg,
    soft_ndcg_loss,
)
from cascaderank.losses._options import check_flag
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
    r"""Compute ``1 - NDCG`` of gains sorted by a soft permutation.

    .. math::
        \ell = 1 - \sum_{r \le m} \frac{(P G)_r}{\log_2(1 + r)}

    where P is the soft permutation, exactly as the operator returns it, and G the gain divided by
    the ideal DCG of the list. Columns of P need not add up to 1, so a gain may count more than
    once (``neural_ndcg`` normalises them). The loss is then clamped to 0. With NeuralSort only the
    rows up to m are computed, some at a time, and memory is linear in the length of the list. With
    other operators, and with ``straight_through``, memory is quadratic.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, at least 0; higher is better.
        m: cut-off of NDCG@m, at least 1; ``None`` for NDCG of the whole list.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        straight_through: compute the value with the hard permutation, whose entries are 1 at the
            largest entry of each row of P, and only the gradient with P.
        operator: operator with a permutation: a name in ``cascaderank.sorting.OPERATORS``, or an
            instance.
        temperature: temperature of the operator, positive: a number, or a tensor ``[...]`` with
            one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss in [0, 1], of the scores' dtype; exactly 0 for a list without positive gain.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> pirank_loss(torch.tensor([3.0, 2.0, 1.0]), labels)
        tensor(0.0783)
        >>> pirank_loss(torch.tensor([1.0, 2.0, 3.0]), labels, straight_through=True)
        tensor(0.4131)

    Source: Swezey et al. 2021 (NeurIPS), with a single sort of the whole list.
    """
    check_flag(straight_through, "straight_through")
    mask = check_lists(scores, labels, mask)
    filled = at_least_float32(scores)
    if not straight_through:
        gains = normalised_gains(labels, gain=gain, m=m, like=filled, mask=mask)
        weights = discounts(gains, m=m)
        ndcg = sum_sorted(
            gains, weights, filled, operator=operator, temperature=temperature, mask=mask
        )
        return reduce_lists(one_minus_ndcg(ndcg, gains), reduction).to(scores.dtype)
    rows = permutation(filled, operator=operator, temperature=temperature, mask=mask)
    if rows.shape[-1]:
        best = rows.argmax(-1, keepdim=True)
        real = (rows.sum(-1, keepdim=True) > 0).to(rows.dtype)  # rows beyond a list are 0
        rows = rows + (torch.zeros_like(rows).scatter(-1, best, real) - rows).detach()
    loss = soft_ndcg_loss(rows, labels, m=m, gain=gain, mask=mask)
    return reduce_lists(loss, reduction).to(scores.dtype)
