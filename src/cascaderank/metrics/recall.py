"""Recall: fraction of the ground truth in the top of one ranking."""

from torch import Tensor

from cascaderank.metrics import METRICS
from cascaderank.selection import ranked_of, relevance_of, result_dtype, share, top
from cascaderank.tensors import check_lists


@METRICS.register
def recall_metric(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
    retrieved: Tensor | None = None,
) -> Tensor:
    r"""Fraction of the ground truth in the top ``m`` by score, per list: Recall@m@k.

    .. math::
        R = \frac{\sum_j z_j \, [j \in \operatorname{top}_m(s)]}{\sum_j z_j}

    With ``k`` and at least ``k`` candidates the denominator is ``k``; in a shorter list all
    candidates are ground truth. Ties of scores are broken by position in the list, earlier first;
    candidates whose labels tie for the last places of the ground truth share those places equally.

    Args:
        scores: ``[..., list]``, higher is better. NaN ranks last.
        labels: ``[..., list]``, higher is better.
        m: cut-off: number of top candidates by score that are evaluated, such as the quota of a
            stage.
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
        >>> labels = torch.tensor([[9.0, 0.0, 5.0, 8.0]])
        >>> recall_metric(scores, labels, m=3, k=2)
        tensor([0.5000])

    Source: ARF, equation 4, with the ground truth sorted by label; sharing among tied labels,
    this project.
    """
    mask = check_lists(scores, labels, mask)
    ranked = ranked_of(scores, mask, retrieved)
    relevant = relevance_of(labels, k=k, threshold=threshold, mask=mask)
    return share(top(scores, m, ranked), relevant).to(result_dtype(scores))
