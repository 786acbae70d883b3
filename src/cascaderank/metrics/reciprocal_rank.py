"""Reciprocal rank of the first candidate of the ground truth. Its mean is the MRR."""

import torch
from torch import Tensor

from cascaderank.metrics import METRICS
from cascaderank.selection import (
    best_first,
    check_size,
    ranked_of,
    relevance_of,
    result_dtype,
    total,
)
from cascaderank.tensors import check_lists


@METRICS.register
def reciprocal_rank_metric(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int | None = None,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
    retrieved: Tensor | None = None,
) -> Tensor:
    """One over the rank of the first candidate of the ground truth, per list; the mean is the MRR.

    Ties of scores are broken by position in the list, earlier first. Candidates whose labels tie
    for the last places of the ground truth all belong to it.

    Args:
        scores: ``[..., list]``, higher is better. NaN ranks last.
        labels: ``[..., list]``, higher is better.
        m: cut-off: number of ranks that are evaluated; ``None`` for all.
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
        >>> reciprocal_rank_metric(scores, torch.tensor([[0.0, 0.0, 1.0, 1.0]]), threshold=1)
        tensor([0.3333])

    Source: Voorhees 1999.
    """
    mask = check_lists(scores, labels, mask)
    ranked = ranked_of(scores, mask, retrieved)
    relevant = relevance_of(labels, k=k, threshold=threshold, mask=mask)
    order = best_first(scores)
    rank = ranked.gather(-1, order).cumsum(-1)
    hits = (relevant * ranked).gather(-1, order) > 0
    counted = hits if m is None else hits & (rank <= check_size(m, "m"))
    first = counted & (counted.cumsum(-1) == 1)
    value = total(first / rank.clamp(min=1).double())
    # Also of a list with a NaN label: its relevance is NaN, which is not positive.
    return value.masked_fill(~(total(relevant) > 0), torch.nan).to(result_dtype(scores))
