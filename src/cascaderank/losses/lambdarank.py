"""LambdaRank: logistic loss of pairs, weighted by the change of NDCG on their exchange."""

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
    r"""Logistic loss of pairs, weighted by how much their exchange changes NDCG, or NDCG@m.

    .. math::
        \ell = \sum_{y_i > y_j} |G_i - G_j| \left|\frac{1}{D(r_i)} - \frac{1}{D(r_j)}\right|
               \log\left(1 + e^{-(s_i - s_j)}\right), \qquad D(r) = \log_2(1 + r)

    where G is the gain divided by the ideal DCG of the list, and r the rank by score. No gradient
    flows through the weights.

    Args:
        scores: ``[..., list]``, higher is better. Among equal scores, the worse label ranks first.
        labels: ``[..., list]``, at least 0; higher is better.
        m: cut-off: number of ranks that count, at least 1; ``None`` for all ranks.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, in nats, of the scores' dtype; exactly 0 for a list whose labels are
        all equal.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> import torch
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> lambdarank_loss(torch.tensor([3.0, 2.0, 1.0]), labels)
        tensor(0.1274)
        >>> lambdarank_loss(torch.tensor([1.0, 2.0, 3.0]), labels)
        tensor(1.1069)

    Source: Burges 2010; a baseline of ARF (arXiv 2310.10462), equation 6.
    """
    mask = check_lists(scores, labels, mask)
    gains = normalised_gains(labels, gain=gain, m=m, like=scores, mask=mask)
    rank_discounts = discount(pessimistic_rank(scores, labels, mask), m=m)
    loss = Preferences(labels, mask).costs(scores, gains, rank_discounts, weigh=_ndcg_change)
    return reduce_lists(loss, reduction).to(scores.dtype)


def _ndcg_change(
    gain: Tensor, rank_discount: Tensor, other_gain: Tensor, other_discount: Tensor
) -> Tensor:
    return (gain - other_gain).mul_(rank_discount - other_discount).abs_()
