"""LambdaLoss: logistic losses of pairs that bound NDCG."""

from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.losses import LOSSES
from cascaderank.losses._gains import discount, normalised_gains
from cascaderank.losses._pairs import Preferences, pessimistic_rank
from cascaderank.relevance import Gain
from cascaderank.selection import check_size
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
    r"""Logistic loss of pairs, weighted so that it bounds the loss of NDCG, or of NDCG@m.

    .. math::
        \ell = \sum_{y_i > y_j} w_{ij} \log\left(1 + e^{-(s_i - s_j)}\right), \qquad
        \delta_{ij} = \left|\frac{1}{D(|r_i - r_j|)} - \frac{1}{D(|r_i - r_j| + 1)}\right|

    with :math:`D(r) = \log_2(1 + r)`, G the gain over the best DCG, r the rank by score, and

    * ``"loss1"``: :math:`w_{ij} = G_i / D(r_i)`, over all pairs of different candidates;
    * ``"loss2"``: :math:`w_{ij} = \delta_{ij} |G_i - G_j|`;
    * ``"loss2++"``: :math:`w_{ij} = (\rho_{ij} + \mu\, \delta_{ij}) |G_i - G_j|`, where
      :math:`\rho_{ij} = |1/D(r_i) - 1/D(r_j)|` is the weight of LambdaRank.

    With ``m``, :math:`\delta_{ij}` is divided by :math:`1 - 1/D(\max(r_i, r_j))` where that rank
    is beyond ``m`` (LambdaLoss@k), and ranks beyond ``m`` have no discount of their own. The
    weights take no gradient.

    Args:
        scores: ``[..., list]``, higher is better. Those that tie are ranked worst label first.
        labels: ``[..., list]``, at least 0; higher is better.
        bound: which one.
        m: the metric is NDCG@m; ``None`` for NDCG of the whole list.
        mu: the weight of :math:`\delta` in ``"loss2++"``; at least 0.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, in nats, of the scores' dtype. Exactly 0 for a list where nothing gains.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> lambdaloss_loss(torch.tensor([3.0, 2.0, 1.0]), labels, bound="loss2")
        tensor(0.1093)
        >>> lambdaloss_loss(torch.tensor([1.0, 2.0, 3.0]), labels, bound="loss2")
        tensor(0.6306)

    Source: Wang et al. 2018 (CIKM); with ``m``, Jagerman et al. 2022 (SIGIR).
    """
    known = get_args(Bound)
    if bound not in known:
        raise ConfigError(
            f"no bound called '{bound}'{did_you_mean(str(bound), known)}; "
            f"there are {', '.join(known)}"
        )
    if not 0 <= mu < float("inf"):
        raise ConfigError(f"mu must be a number of at least 0; got {mu}")
    if m is not None:
        check_size(m, "m")
    mask = check_lists(scores, labels, mask)
    gains = normalised_gains(labels, gain=gain, m=m, like=scores, mask=mask)
    rank = pessimistic_rank(scores, labels, mask)
    if bound == "loss1":  # of all pairs, whoever is first in the list
        reached, place = gains * discount(rank, m=m), _places(mask)
        one_way, other_way = (
            Preferences(order, mask).costs(scores, reached, weigh=lambda one, _: one)
            for order in (place, -place)
        )
        cost = one_way + other_way
    else:
        weigh = partial(_weigh, m=m, mu=mu if bound == "loss2++" else None)
        cost = Preferences(labels, mask).costs(scores, gains, rank, weigh=weigh)
    return reduce_lists(cost, reduction).to(scores.dtype)


def _weigh(
    gain: Tensor,
    rank: Tensor,
    other_gain: Tensor,
    other_rank: Tensor,
    *,
    m: int | None,
    mu: float | None,
) -> Tensor:
    """Return what loss2 weighs pairs by; with ``mu`` what loss2++ does."""
    weights = _delta(rank, other_rank, m)
    if mu is not None:
        by_rank = (discount(rank, m=m) - discount(other_rank, m=m)).abs_()
        weights = by_rank.add_(weights, alpha=mu)
    return weights.mul_((gain - other_gain).abs_())


def _delta(one: Tensor, other: Tensor, m: int | None) -> Tensor:
    """Return how much the discount falls from one distance of ranks to the next."""
    apart = (one - other).abs_().clamp_(min=0.5)  # half a rank is the least two can be apart
    delta = discount(apart).sub_(discount(apart.add_(1.0)))
    if m is None:
        return delta
    lower = torch.maximum(one, other)
    beyond = lower > m
    share = 1 - discount(lower.masked_fill(~beyond, 2.0))
    return torch.where(beyond, delta / share, delta)


def _places(mask: Tensor) -> Tensor:
    return torch.arange(mask.shape[-1], device=mask.device).expand_as(mask)
