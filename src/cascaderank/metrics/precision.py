"""Precision: fraction of the top of a ranking that belongs to the ground truth."""

import torch
from torch import Tensor

from cascaderank.metrics import METRICS
from cascaderank.selection import check_size, ranked_of, relevance_of, result_dtype, top, total
from cascaderank.tensors import check_lists


@METRICS.register
def precision_metric(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
    retrieved: Tensor | None = None,
) -> Tensor:
    r"""Fraction of the top ``m`` by score that belongs to the ground truth, per list: P@m.

    .. math::
        P = \frac{1}{m} \sum_j z_j \, [j \in \operatorname{top}_m(s)]

    The denominator is ``m`` for shorter lists, too. Ties of scores are broken by position in the
    list, earlier first; candidates whose labels tie for the last places of the ground truth share
    those places equally.

    Args:
        scores: ``[..., list]``, higher is better. NaN ranks last.
        labels: ``[..., list]``, higher is better.
        m: cut-off: number of top candidates by score that are evaluated.
        k: the ground truth is the top ``k`` by label.
        threshold: the ground truth is every label of at least this value; pass this or ``k``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        retrieved: ``[..., list]`` bool, ``True`` for a candidate of the evaluated ranking; default:
            all. The other real candidates have no rank, but may be the ground truth of the list.

    Returns:
        ``[...]`` in [0, 1], float32 (float64 for float64 scores); NaN for a list without ground
        truth.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if ``m`` is not a positive integer, or neither ``k`` nor
            ``threshold`` is given.

    Examples:
        >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
        >>> precision_metric(scores, torch.tensor([[1.0, 0.0, 0.0, 1.0]]), m=2, threshold=1)
        tensor([0.5000])

    Source: textbook.
    """
    mask = check_lists(scores, labels, mask)
    ranked = ranked_of(scores, mask, retrieved)
    relevant = relevance_of(labels, k=k, threshold=threshold, mask=mask)
    value = total(relevant * top(scores, m, ranked)) / check_size(m, "m")
    return value.masked_fill(total(relevant) == 0, torch.nan).to(result_dtype(scores))
