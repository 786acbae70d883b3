"""Lambda loss for recall: logistic loss of the pairs whose exchange changes recall."""

from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._pairs import Preferences, pessimistic_rank
from cascaderank.losses._targets import ground_truth_targets
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

    where z is 1 for the ground truth and 0 for other candidates, and r is the rank by score. No
    gradient flows through the weights. Pairs on the same side of the cut-off have weight 0. A list
    in which the cut-off separates no positive from a negative therefore has loss 0.

    Args:
        scores: ``[..., list]``, higher is better. Among equal scores, the worse label ranks first.
        labels: ``[..., list]``, higher is better.
        m: number of candidates kept, at least 1.
        k: the ground truth is the top ``k`` by label, ``k`` at least 1; candidates that tie for
            the last places share them. At least one of ``k`` and ``threshold`` must be given.
        threshold: the ground truth is every label of at least this; finite.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, in nats, of the scores' dtype; exactly 0 for a list without ground
        truth, or with no more than ``m`` candidates.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given, and if an option is
            unknown or out of range.

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
    targets, size = ground_truth_targets(labels, like=scores, k=k, threshold=threshold, mask=mask)
    gain = targets.to(at_least_float32(scores).dtype) / size.clamp(min=1)[..., None]
    kept = (pessimistic_rank(scores, labels, mask) <= m).to(gain.dtype)
    loss = Preferences(labels, mask).costs(scores, gain, kept, weigh=_recall_change)
    return reduce_lists(loss, reduction).to(scores.dtype)


def _recall_change(gain: Tensor, kept: Tensor, other_gain: Tensor, other_kept: Tensor) -> Tensor:
    return (gain - other_gain).mul_(kept - other_kept).abs_()
