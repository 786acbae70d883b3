"""LambdaLoss: pairwise logistic losses that bound ``1 - NDCG``."""

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from cascaderank.limits import check_not_negative
from cascaderank.losses import LOSSES
from cascaderank.losses._gains import discount, normalised_gains
from cascaderank.losses._options import check_choice
from cascaderank.losses._pairs import Preferences, pessimistic_rank
from cascaderank.relevance import Gain
from cascaderank.tensors import Reduction, check_lists, reduce_lists

Bound = Literal["loss1", "loss2", "loss2++"]


@LOSSES.register
def lambdaloss_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    bound: Bound = "loss2++",
    m: int | None = None,
    mu: float = 10.0,
    gain: Gain = "exponential",
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Logistic loss of pairs, weighted so that it bounds ``1 - NDCG``, or ``1 - NDCG@m``.

    .. math::
        \ell = \sum_{y_i > y_j} w_{ij} \log\left(1 + e^{-(s_i - s_j)}\right), \qquad
        \delta_{ij} = \left|\frac{1}{D(|r_i - r_j|)} - \frac{1}{D(|r_i - r_j| + 1)}\right|

    with :math:`D(r) = \log_2(1 + r)`, G the gain divided by the ideal DCG, r the rank by score,
    and the weights of the chosen bound:

    * ``"loss1"``: :math:`w_{ij} = G_i / D(r_i)`, over all ordered pairs of different candidates;
    * ``"loss2"``: :math:`w_{ij} = \delta_{ij} |G_i - G_j|`;
    * ``"loss2++"``: :math:`w_{ij} = (\rho_{ij} + \mu\, \delta_{ij}) |G_i - G_j|`, where
      :math:`\rho_{ij} = |1/D(r_i) - 1/D(r_j)|` is the weight of LambdaRank.

    With ``m``, :math:`\delta_{ij}` is divided by :math:`1 - 1/D(\max(r_i, r_j))` where that rank
    exceeds ``m`` (LambdaLoss@k), and :math:`1/D(r)` is replaced by 0 for ranks that exceed ``m``.
    No gradient flows through the weights.

    Args:
        scores: ``[..., list]``, higher is better. Among equal scores, the worse label ranks first.
        labels: ``[..., list]``, at least 0; higher is better.
        bound: the weights of pairs: ``"loss1"``, ``"loss2"`` or ``"loss2++"``.
        m: cut-off of NDCG@m, at least 1; ``None`` for NDCG of the whole list.
        mu: weight of :math:`\delta` in ``"loss2++"``, finite and at least 0.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, in nats, of the scores' dtype; exactly 0 for a list without positive
        gain.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> lambdaloss_loss(torch.tensor([3.0, 2.0, 1.0]), labels, bound="loss2")
        tensor(0.1093)
        >>> lambdaloss_loss(torch.tensor([1.0, 2.0, 3.0]), labels, bound="loss2")
        tensor(0.6306)

    Source: Wang et al. 2018 (CIKM); with ``m``, Jagerman et al. 2022 (SIGIR).
    """
    check_choice(bound, "bound", choices=get_args(Bound))
    check_not_negative(mu, "mu")
    mask = check_lists(scores, labels, mask)
    gains = normalised_gains(labels, gain=gain, m=m, like=scores, mask=mask)
    rank = pessimistic_rank(scores, labels, mask)
    if bound == "loss1":  # all ordered pairs: those in the order of the list, and the reverse
        discounted, position = gains * discount(rank, m=m), _positions(mask)
        forward, reverse = (
            Preferences(order, mask).costs(scores, discounted, weigh=lambda one, _: one)
            for order in (position, -position)
        )
        loss = forward + reverse
    else:
        weigh = partial(_pair_weights, m=m, mu=mu if bound == "loss2++" else None)
        loss = Preferences(labels, mask).costs(scores, gains, rank, weigh=weigh)
    return reduce_lists(loss, reduction).to(scores.dtype)


def _pair_weights(
    gain: Tensor,
    rank: Tensor,
    other_gain: Tensor,
    other_rank: Tensor,
    *,
    m: int | None,
    mu: float | None,
) -> Tensor:
    """Return the weights of pairs of loss2, or of loss2++ if ``mu`` is given."""
    weights = _delta(rank, other_rank, m)
    if mu is not None:
        rho = (discount(rank, m=m) - discount(other_rank, m=m)).abs_()
        weights = rho.add_(weights, alpha=mu)
    return weights.mul_((gain - other_gain).abs_())


def _delta(one: Tensor, other: Tensor, m: int | None) -> Tensor:
    """Return the decrease of the discount from the distance of two ranks to the next larger."""
    distance = (one - other).abs_().clamp_(min=0.5)  # shared ranks are multiples of one half
    delta = discount(distance).sub_(discount(distance.add_(1.0)))
    if m is None:
        return delta
    worse_rank = torch.maximum(one, other)
    beyond = worse_rank > m
    divisor = 1 - discount(worse_rank.masked_fill(~beyond, 2.0))
    return torch.where(beyond, delta / divisor, delta)


def _positions(mask: Tensor) -> Tensor:
    return torch.arange(mask.shape[-1], device=mask.device).expand_as(mask)
