"""ApproxNDCG: NDCG of differentiable ranks."""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.losses import LOSSES
from cascaderank.losses._gains import discount, normalised_gains, one_minus_ndcg
from cascaderank.losses._pairs import blocks
from cascaderank.relevance import Gain
from cascaderank.sorting import check_temperature
from cascaderank.sorting.order import sort_best_first
from cascaderank.sorting.scaling import distance_from_middle
from cascaderank.tensors import Reduction, check_lists, finite_scores, reduce_lists


@LOSSES.register
def approx_ndcg_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.1,
    gain: Gain = "exponential",
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Compute ``1 - NDCG`` from differentiable ranks.

    .. math::
        \ell = 1 - \sum_i \frac{G_i}{\log_2(1 + r_i)}, \qquad
        r_i = 1 + \sum_{j \ne i} \sigma\left(\frac{s_j - s_i}{\tau}\right)

    where :math:`\tau` is the temperature and G the gain divided by the ideal DCG of the list.
    Time grows with the number of candidates of positive gain times the length of the list, memory
    linearly with that length.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, at least 0; higher is better.
        temperature: width of the sigmoid in units of scores, positive and finite.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss in [0, 1], of the scores' dtype; exactly 0 for a list without positive gain.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> approx_ndcg_loss(torch.tensor([0.3, 0.2, 0.1]), labels)
        tensor(0.1683)
        >>> approx_ndcg_loss(torch.tensor([0.1, 0.2, 0.3]), labels)
        tensor(0.3803)

    Source: Qin, Liu and Li 2010; a baseline of ARF (arXiv 2310.10462).
    """
    check_temperature(temperature)
    mask = check_lists(scores, labels, mask)
    gains = normalised_gains(labels, gain=gain, m=None, like=scores, mask=mask)
    if not scores.numel():
        return reduce_lists(scores.sum(-1), reduction)
    temperatures = gains.new_full(gains.shape[:-1], temperature)
    filled = finite_scores(scores.masked_fill(~mask, 0.0))
    distance = distance_from_middle(filled, temperatures, mask)
    flat = (x.reshape(-1, x.shape[-1]) for x in (distance, gains, mask))
    ndcg = _SoftNDCG.apply(*flat)  # type: ignore[no-untyped-call]
    ndcg = cast("Tensor", ndcg).view(scores.shape[:-1])
    return reduce_lists(one_minus_ndcg(ndcg, gains), reduction).to(scores.dtype)


class _SoftNDCG(torch.autograd.Function):
    """Sum the discounted gains of each list at its soft ranks, a block of pairs at a time.

    Scores are in units of the temperature.

    Soft ranks are computed for candidates of positive gain only. A block compares such a candidate
    with all others, so its rank and the gradient of its term are complete after one block.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, gains: Tensor, mask: Tensor) -> Tensor:
        gains, order = sort_best_first(gains)
        padding = ~mask.gather(-1, order)
        scores = scores.gather(-1, order).masked_fill_(padding, 0.0)
        others = scores.masked_fill(padding, -torch.inf)
        ranks, gradient = torch.ones_like(scores), torch.zeros_like(scores)
        pairs = scores.new_empty(0)
        for lists, rows in blocks(scores, _max_positive_gains(gains)):
            sides = others[lists, None], scores[lists, rows, None]
            pairs = torch.sub(*sides, out=pairs.resize_(0)).sigmoid_()
            # The comparison of a candidate with itself adds sigmoid(0), which is subtracted.
            rank = ranks[lists, rows].add_(pairs.sum(-1)).sub_(0.5)
            if ctx.needs_input_grad[0]:
                grad_rank = gains[lists, rows] / (1 + rank).log_().square_().mul_(1 + rank)
                pairs.addcmul_(pairs, pairs, value=-1.0).mul_(grad_rank[..., None])
                gradient[lists].sub_(pairs.sum(-2))
                gradient[lists, rows].add_(pairs.sum(-1))
        gradient.mul_(math.log(2))
        ctx.save_for_backward(torch.empty_like(gradient).scatter_(-1, order, gradient))
        return (gains * discount(ranks)).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output[:, None], None, None


def _max_positive_gains(gains: Tensor) -> int:
    """Return the largest number of positive gains in any list.

    Elsewhere than on a CPU this is the length of the lists, as reading values would synchronise
    with the device.
    """
    on_cpu = gains.device.type == "cpu"
    return int((gains > 0).sum(-1).amax()) if on_cpu else gains.shape[-1]
