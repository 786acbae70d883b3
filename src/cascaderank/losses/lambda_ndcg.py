"""Lambda loss for NDCG: logistic loss of pairs, weighted by their effect on NDCG."""

from functools import partial

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._pairs import Preferences, best_dcg, ndcg_lambdas, pessimistic_rank
from cascaderank.selection import check_size
from cascaderank.tensors import (
    Reduction,
    at_least_float32,
    check_lists,
    exact_labels,
    reduce_lists,
)


@LOSSES.register
def lambda_ndcg_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int | None = None,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Logistic loss of pairs, weighted by how much NDCG depends on their order.

    ``sum of |g_i - g_j| (0.2 u_ij + 0.8 v_ij) softplus(-(s_i - s_j))`` over the pairs with
    ``y_i > y_j``. The gain g is the label minus the lowest label of the list, divided by the ideal
    DCG of the list. v is the difference between the discounts of both ranks. u is the difference
    between the discounts of the distance of both ranks and of the next larger distance. No
    gradient flows through the weights. As gains are linear, the ratios of the differences between
    labels have an effect, but the unit and the origin of labels have none.

    Args:
        scores: ``[..., list]``, higher is better. Among equal scores, the worse label ranks first.
        labels: ``[..., list]``, higher is better.
        m: cut-off: number of ranks that count, at least 1; ``None`` for all ranks.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, in nats, of the scores' dtype; exactly 0 for a list whose labels are
        all equal.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if ``m`` is not a positive integer, or the reduction is unknown.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> lambda_ndcg_loss(torch.tensor([3.0, 2.0, 1.0]), labels)
        tensor(0.1063)
        >>> lambda_ndcg_loss(torch.tensor([1.0, 2.0, 3.0]), labels)
        tensor(0.9624)

    Source: Wang et al. 2018 (LambdaLoss), with the mixing weights of FS-LTR.
    """
    if m is not None:
        check_size(m, "m")
    mask = check_lists(scores, labels, mask)
    gain, rank = _gain(labels, scores, mask), pessimistic_rank(scores, labels, mask)
    weigh = partial(ndcg_lambdas, m=m)
    loss = Preferences(labels, mask).costs(scores, gain, rank, weigh=weigh)
    return reduce_lists(loss, reduction).to(scores.dtype)


def _gain(labels: Tensor, like: Tensor, mask: Tensor) -> Tensor:
    """Return labels minus the lowest label of the list, divided by the ideal DCG."""
    labels = exact_labels(labels.detach())
    labels = at_least_float32(labels.to(torch.promote_types(labels.dtype, like.dtype)))
    lowest = labels.masked_fill(~mask, torch.inf).sort(dim=-1).values[..., :1]
    gain = (labels - lowest).masked_fill(~mask, 0.0)
    ideal_dcg = best_dcg(gain)
    return gain / torch.where(ideal_dcg > 0, ideal_dcg, 1.0)[..., None]
