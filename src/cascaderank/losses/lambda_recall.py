"""Lambda loss for recall: a pair counts if its order decides what is kept."""

from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._marks import mark
from cascaderank.losses._pairs import Preferences, pessimistic_rank
from cascaderank.selection import check_size
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists


@LOSSES.register
def lambda_recall_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Logistic loss of the pairs whose exchange would change Recall@m@k.

    .. math::
        \ell = \frac{1}{k} \sum_{y_i > y_j} |z_i - z_j| \,
               \left([r_i \le m] \oplus [r_j \le m]\right) \log\left(1 + e^{-(s_i - s_j)}\right)

    z marks the ground truth, r is the rank by score. The weights take no gradient, and pairs on
    the same side of the cut have none: once all is well (or all is lost on one side) the loss
    says nothing.

    Args:
        scores: ``[..., list]``, higher is better. Those that tie are ranked worst label first.
        labels: ``[..., list]``, higher is better.
        m: how many are kept.
        k: the ground truth is the top ``k`` by label; candidates that tie for the last places
            share them. Give either this or ``threshold``.
        threshold: the ground truth is every label of at least this.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, in nats, of the scores' dtype. Exactly 0 for a list without ground truth, or
        with no more than ``m`` candidates.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if ``m`` is not a positive integer, or not exactly one of ``k`` and
            ``threshold`` is given.

    Examples:
        >>> import torch
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> lambda_recall_loss(torch.tensor([3.0, 2.0, 1.0]), labels, m=2, k=1)
        tensor(0.1269)
        >>> lambda_recall_loss(torch.tensor([1.0, 2.0, 3.0]), labels, m=2, k=1)
        tensor(3.4402)

    Source: ARF (arXiv 2310.10462), equation 6 with the gains of Recall@m@k.
    """
    mask = check_lists(scores, labels, mask)
    check_size(m, "m")
    marks, size = mark(labels, like=scores, k=k, threshold=threshold, mask=mask)
    share = marks.to(at_least_float32(scores).dtype) / size.clamp(min=1)[..., None]
    kept = (pessimistic_rank(scores, labels, mask) <= m).to(share.dtype)
    cost = Preferences(labels, mask).costs(scores, share, kept, weigh=_weigh)
    return reduce_lists(cost, reduction).to(scores.dtype)


def _weigh(share: Tensor, kept: Tensor, other_share: Tensor, other_kept: Tensor) -> Tensor:
    return (share - other_share).mul_(kept - other_kept).abs_()
