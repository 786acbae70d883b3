"""Lambda loss for NDCG: a pair counts as much as its order matters to NDCG."""

from functools import partial

import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES
from cascaderank.losses._pairs import Preferences, best_dcg, ndcg_lambdas, pessimistic_rank
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists


@LOSSES.register
def lambda_ndcg_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int | None = None,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Logistic loss of pairs, weighted by what their order means to NDCG.

    ``sum of |g_i - g_j| (0.2 u_ij + 0.8 v_ij) softplus(-(s_i - s_j))`` over the pairs with
    ``y_i > y_j``. g is the label above the lowest of the list, over the best DCG of the list; v
    the difference of both ranks' discounts, u that of the discounts of their distance. The
    weights take no gradient. Gains are linear, so the distances between labels matter, but
    neither their unit nor their origin.

    Args:
        scores: ``[..., list]``, higher is better. Those that tie are ranked worst label first.
        labels: ``[..., list]``, higher is better.
        m: ranks beyond this count for nothing; ``None`` to count all.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, of the scores' dtype. Exactly 0 for a list whose labels are all equal.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if ``m`` is not a positive integer, or the reduction is unknown.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> lambda_ndcg_loss(torch.tensor([3.0, 2.0, 1.0]), labels)
        tensor(0.1063)
        >>> lambda_ndcg_loss(torch.tensor([1.0, 2.0, 3.0]), labels)
        tensor(0.9624)

    Source: Wang et al. 2018 (LambdaLoss), in the mixture that FS-LTR uses.
    """
    if m is not None and (not isinstance(m, int) or isinstance(m, bool) or m < 1):
        raise ConfigError(f"m must be a positive integer, or None to count all; got {m!r}")
    mask = check_lists(scores, labels, mask)
    gain, rank = _gain(labels, scores, mask), pessimistic_rank(scores, labels, mask)
    weigh = partial(ndcg_lambdas, m=m)
    cost = Preferences(labels, mask).costs(scores, gain, rank, weigh=weigh)
    return reduce_lists(cost, reduction).to(scores.dtype)


def _gain(labels: Tensor, like: Tensor, mask: Tensor) -> Tensor:
    """Return the labels above the lowest of the list, divided by the best DCG there can be."""
    labels = at_least_float32(labels.detach().to(torch.promote_types(labels.dtype, like.dtype)))
    lowest = labels.masked_fill(~mask, torch.inf).sort(dim=-1).values[..., :1]
    gain = (labels - lowest).masked_fill(~mask, 0.0)
    best = best_dcg(gain)
    return gain / torch.where(best > 0, best, 1.0)[..., None]
