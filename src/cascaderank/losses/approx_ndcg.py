"""ApproxNDCG: NDCG with ranks that are counted softly."""

import math
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.losses import LOSSES
from cascaderank.losses._gains import discount, lack, normalised_gains
from cascaderank.losses._pairs import blocks
from cascaderank.relevance import Gain
from cascaderank.sorting import check_temperature
from cascaderank.sorting.order import sort_best_first
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists


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
    r"""What the NDCG of soft ranks lacks to 1.

    .. math::
        \ell = 1 - \sum_i \frac{G_i}{\log_2(1 + r_i)}, \qquad
        r_i = 1 + \sum_{j \ne i} \sigma\left(\frac{s_j - s_i}{\tau}\right)

    G is the gain over the best DCG of the list.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, at least 0; higher is better.
        temperature: score units over which a rank is blurred; positive.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        In [0, 1], of the scores' dtype. Exactly 0 for a list where nothing gains.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> approx_ndcg_loss(torch.tensor([0.3, 0.2, 0.1]), labels)
        tensor(0.1683)
        >>> approx_ndcg_loss(torch.tensor([0.1, 0.2, 0.3]), labels)
        tensor(0.3803)

    Source: Qin, Liu and Li 2010; as compared by ARF (arXiv 2310.10462).
    """
    check_temperature(temperature)
    mask = check_lists(scores, labels, mask)
    gains = normalised_gains(labels, gain=gain, m=None, like=scores, mask=mask)
    if not scores.numel():
        return reduce_lists(scores.sum(-1), reduction)
    flat = (x.reshape(-1, x.shape[-1]) for x in (at_least_float32(scores), gains, mask))
    reached = _Reached.apply(*flat, temperature)  # type: ignore[no-untyped-call]
    reached = cast("Tensor", reached).view(scores.shape[:-1])
    return reduce_lists(lack(reached, gains), reduction).to(scores.dtype)


class _Reached(torch.autograd.Function):
    """Sum the gains of each list over their soft ranks, a block of pairs at a time.

    Those who gain nothing are only compared to. As each of the others meets all candidates in one
    block, the gradient is worked out with its rank.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, gains: Tensor, mask: Tensor, temperature: float
    ) -> Tensor:
        gains, order = sort_best_first(gains)
        padding = ~mask.gather(-1, order)
        scores = scores.gather(-1, order).masked_fill_(padding, 0.0).div_(temperature)
        others = scores.masked_fill(padding, -torch.inf)
        ranks, slopes = torch.ones_like(scores), torch.zeros_like(scores)
        pairs = scores.new_empty(0)
        for lists, ones in blocks(scores, _how_many_gain(gains)):
            sides = others[lists, None], scores[lists, ones, None]
            pairs = torch.sub(*sides, out=pairs.resize_(0)).sigmoid_()
            # A candidate is half ahead of itself, which does not count.
            rank = ranks[lists, ones].add_(pairs.sum(-1)).sub_(0.5)
            if ctx.needs_input_grad[0]:
                lost = gains[lists, ones] / (1 + rank).log_().square_().mul_(1 + rank)
                pairs.addcmul_(pairs, pairs, value=-1.0).mul_(lost[..., None])
                slopes[lists].sub_(pairs.sum(-2))
                slopes[lists, ones].add_(pairs.sum(-1))
        of_scores = slopes.mul_(math.log(2) / temperature)
        ctx.save_for_backward(torch.empty_like(slopes).scatter_(-1, order, of_scores))
        return (gains * discount(ranks)).sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        (of_scores,) = ctx.saved_tensors
        return of_scores * above[:, None], None, None, None


def _how_many_gain(gains: Tensor) -> int:
    """Return how many of a list gain at the most, as far as that is known without waiting."""
    on_cpu = gains.device.type == "cpu"
    return int((gains > 0).sum(-1).amax()) if on_cpu else gains.shape[-1]
