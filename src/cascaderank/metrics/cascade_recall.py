"""Cascade recall: fraction of the ground truth that passes the last stage."""

from collections.abc import Sequence

from torch import Tensor

from cascaderank.metrics import METRICS
from cascaderank.selection import relevance_of, result_dtype, select, share
from cascaderank.tensors import check_cascade


@METRICS.register
def cascade_recall_metric(
    scores: Tensor,
    labels: Tensor,
    *,
    quotas: Sequence[int],
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    r"""Fraction of the ground truth that every stage keeps, per list: the joint recall.

    .. math::
        R = \frac{\sum_j z_j \, [j \in A_S]}{\sum_j z_j}, \qquad
        A_0 = \text{all}, \quad A_t = \operatorname{top}_{q_t}(A_{t-1}; s^t)

    Each stage ranks only the candidates that the stage before it kept. Ties of scores are broken by
    position in the list, earlier first, so shuffle lists that are sorted by label. Candidates whose
    labels tie for the last places of the ground truth share those places equally, in any order.

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better. NaN ranks last.
        labels: ``[batch, list]``, higher is better.
        quotas: number of candidates that each stage passes on, one per stage; non-increasing.
        k: the ground truth is the top ``k`` by label.
        threshold: the ground truth is every label of at least this value; pass this or ``k``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[batch]`` in [0, 1], float32 (float64 for float64 scores); NaN for a list without ground
        truth, which ``torch.nanmean`` excludes from an average instead of counting as 0.

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if quotas increase, or neither ``k`` nor ``threshold`` is given.

    Examples:
        >>> import torch
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
        >>> labels = torch.tensor([[1.0, 2.0, 0.0]])
        >>> cascade_recall_metric(scores, labels, quotas=(2, 1), k=2)
        tensor([0.5000])

    Source: "Joint R@10@20" of LCRON (arXiv 2503.09492); sharing among tied labels, this project.
    """
    mask = check_cascade(scores, labels, quotas, mask)
    relevant = relevance_of(labels, k=k, threshold=threshold, mask=mask)
    return share(select(scores, quotas, mask)[-1], relevant).to(result_dtype(scores))
