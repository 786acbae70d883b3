"""Average precision: mean precision at the ranks of the ground truth. Its mean is the MAP."""

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
def average_precision_metric(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int | None = None,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
    retrieved: Tensor | None = None,
) -> Tensor:
    r"""Mean precision at the ranks of the ground truth, per list; the mean over lists is the MAP.

    .. math::
        \text{AP} = \frac{1}{\sum_j z_j} \sum_{r=1}^{m} \frac{z_{(r)}}{r} \sum_{i \le r} z_{(i)}

    Ties of scores are broken by position in the list, earlier first; candidates whose labels tie
    for the last places of the ground truth share those places equally.

    Args:
        scores: ``[..., list]``, higher is better. NaN ranks last.
        labels: ``[..., list]``, higher is better.
        m: cut-off: number of ranks that are evaluated; ``None`` for all.
        k: the ground truth is the top ``k`` by label.
        threshold: the ground truth is every label of at least this value; pass this or ``k``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        retrieved: ``[..., list]`` bool, ``True`` for a candidate of the evaluated ranking; default:
            all. The other real candidates have no rank and count only in the denominator.

    Returns:
        ``[...]`` in [0, 1], float32 (float64 for float64 scores); NaN for a list without ground
        truth.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if ``m`` is not a positive integer, or neither ``k`` nor
            ``threshold`` is given.

    Examples:
        >>> import torch
        >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
        >>> average_precision_metric(scores, torch.tensor([[1.0, 0.0, 1.0, 0.0]]), threshold=1)
        tensor([0.8333])

    Source: Buckley and Voorhees 2000; sharing among tied labels, this project.
    """
    mask = check_lists(scores, labels, mask)
    ranked = ranked_of(scores, mask, retrieved)
    relevant = relevance_of(labels, k=k, threshold=threshold, mask=mask)
    order = best_first(scores)
    rank = ranked.gather(-1, order).cumsum(-1)
    hits = (relevant * ranked).gather(-1, order)
    precision = hits.cumsum(-1) / rank.clamp(min=1)
    counted = hits if m is None else hits * (rank <= check_size(m, "m"))
    return (total(counted * precision) / total(relevant)).to(result_dtype(scores))
