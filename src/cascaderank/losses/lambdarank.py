"""LambdaRank: a pair counts as much as NDCG would change if the two changed places."""

from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._gains import discount, normalised_gains
from cascaderank.losses._pairs import Preferences, pessimistic_rank
from cascaderank.relevance import Gain
from cascaderank.tensors import Reduction, check_lists, reduce_lists


@LOSSES.register
def lambdarank_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int | None = None,
    gain: Gain = "exponential",
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Logistic loss of pairs, weighted by what their exchange does to NDCG, or to NDCG@m.

    .. math::
        \ell = \sum_{y_i > y_j} |G_i - G_j| \left|\frac{1}{D(r_i)} - \frac{1}{D(r_j)}\right|
               \log\left(1 + e^{-(s_i - s_j)}\right), \qquad D(r) = \log_2(1 + r)

    G is the gain over the best DCG of the list, r the rank by score. The weights take no
    gradient.

    Args:
        scores: ``[..., list]``, higher is better. Those that tie are ranked worst label first.
        labels: ``[..., list]``, at least 0; higher is better.
        m: ranks beyond this count for nothing; ``None`` to count all.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, in nats, of the scores' dtype. Exactly 0 for a list whose labels are all equal.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> import torch
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> lambdarank_loss(torch.tensor([3.0, 2.0, 1.0]), labels)
        tensor(0.1274)
        >>> lambdarank_loss(torch.tensor([1.0, 2.0, 3.0]), labels)
        tensor(1.1069)

    Source: Burges 2010; as compared by ARF (arXiv 2310.10462), equation 6.
    """
    mask = check_lists(scores, labels, mask)
    gains = normalised_gains(labels, gain=gain, m=m, like=scores, mask=mask)
    of_rank = discount(pessimistic_rank(scores, labels, mask), m=m)
    cost = Preferences(labels, mask).costs(scores, gains, of_rank, weigh=_weigh)
    return reduce_lists(cost, reduction).to(scores.dtype)


def _weigh(gain: Tensor, of_rank: Tensor, other_gain: Tensor, of_other: Tensor) -> Tensor:
    return (gain - other_gain).mul_(of_rank - of_other).abs_()
