"""Hit rate: whether the top of a ranking contains a candidate of the ground truth."""

import torch
from torch import Tensor

from cascaderank.metrics import METRICS
from cascaderank.selection import ranked_of, relevance_of, result_dtype, top
from cascaderank.tensors import check_lists


@METRICS.register
def hit_rate_metric(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
    retrieved: Tensor | None = None,
) -> Tensor:
    """1 if the top ``m`` by score contain a candidate of the ground truth, else 0, per list: HR@m.

    Ties of scores are broken by position in the list, earlier first. Candidates whose labels tie
    for the last places of the ground truth all belong to it.

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
        ``[...]``, 0 or 1, float32 (float64 for float64 scores); NaN for a list without ground
        truth.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if ``m`` is not a positive integer, or neither ``k`` nor
            ``threshold`` is given.

    Examples:
        >>> scores = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
        >>> labels = torch.tensor([[0.0, 1.0, 0.0, 1.0]])
        >>> hit_rate_metric(scores, labels, m=1, threshold=1)
        tensor([0.])
        >>> hit_rate_metric(scores, labels, m=2, threshold=1)
        tensor([1.])

    Source: textbook.
    """
    mask = check_lists(scores, labels, mask)
    ranked = ranked_of(scores, mask, retrieved)
    relevant = relevance_of(labels, k=k, threshold=threshold, mask=mask) > 0
    hit = (relevant & top(scores, m, ranked)).any(-1).to(result_dtype(scores))
    # Also of a list with a NaN label: its relevance is NaN, which is not positive.
    return hit.masked_fill(~relevant.any(-1), torch.nan)
