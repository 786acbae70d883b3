"""ApproxNDCG: NDCG with ranks that are counted softly."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.losses import LOSSES
from cascaderank.losses._gains import discount, normalised_gains
from cascaderank.losses._pairs import blocks
from cascaderank.relevance import Gain
from cascaderank.sorting import check_temperature
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
    rank = _soft_ranks(at_least_float32(scores).masked_fill(~mask, 0.0) / temperature, mask)
    reached = (gains * discount(rank)).sum(-1)
    cost = torch.where((gains > 0).any(-1), (1 - reached).clamp(min=0.0), 0 * reached)
    return reduce_lists(cost, reduction).to(scores.dtype)


def _soft_ranks(scores: Tensor, mask: Tensor) -> Tensor:
    """Return ``1 + sum_{j != i} sigmoid(s_j - s_i)``, ``[..., list]``."""
    if not scores.numel():
        return scores
    flat = (x.reshape(-1, x.shape[-1]) for x in (scores, mask.to(scores)))
    ahead = cast("Tensor", _Ahead.apply(*flat))  # type: ignore[no-untyped-call]
    return 0.5 + ahead.view(scores.shape)  # a candidate is half ahead of itself: not counted


class _Ahead(torch.autograd.Function):
    """Sum ``sigmoid(s_j - s_i)`` over the real j of each list, a block of pairs at a time."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, real: Tensor) -> Tensor:
        ctx.save_for_backward(scores, real)
        ahead = torch.empty_like(scores)
        for lists, ones in blocks(scores):
            one = (scores[lists, None] - scores[lists, ones, None]).sigmoid_()
            torch.sum(one.mul_(real[lists, None]), -1, out=ahead[lists, ones])
        return ahead

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        scores, real = ctx.saved_tensors
        of_scores = torch.zeros_like(scores)
        for lists, ones in blocks(scores):
            slope = (scores[lists, None] - scores[lists, ones, None]).sigmoid_()
            slope.addcmul_(slope, slope, value=-1.0).mul_(real[lists, None])
            slope.mul_(above[lists, ones, None])
            of_scores[lists] += slope.sum(-2)
            of_scores[lists, ones] -= slope.sum(-1)
        return of_scores, None
