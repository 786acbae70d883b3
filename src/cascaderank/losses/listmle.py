"""ListMLE: the order of the labels is the likeliest order of a Plackett-Luce model."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists

_FAR_BELOW = -1e30
"""A score that adds nothing to any sum, and whose own sums stay finite."""


@LOSSES.register
def listmle_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Negative log-likelihood of the order by label, drawn by score without replacement.

    .. math::
        \ell = \sum_i \left( \log \sum_{j: y_j \le y_i} e^{s_j} - s_i \right)

    Candidates of equal label are drawn against all that are not better (Breslow's rule for ties),
    so that their order never matters. Takes O(L log L) time.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better; only their order matters.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, in nats, of the scores' dtype. Exactly 0 for a list of one candidate or none.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if the reduction is unknown.

    Examples:
        >>> listmle_loss(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor(0.1269)
        >>> listmle_loss(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]))
        tensor(2.1269)

    Source: Xia et al. 2008; ties after Breslow 1974.
    """
    mask = check_lists(scores, labels, mask)
    if scores.shape[-1] == 0:
        return reduce_lists(scores.sum(-1), reduction)
    ranked = labels.detach().to(torch.promote_types(labels.dtype, torch.float32))
    ranked, order = ranked.masked_fill(~mask, -torch.inf).sort(dim=-1, descending=True, stable=True)
    filled = at_least_float32(scores.masked_fill(~mask, _FAR_BELOW)).clamp(min=_FAR_BELOW)
    drawn, real = filled.gather(-1, order), mask.gather(-1, order)
    left = drawn.flip(-1).logcumsumexp(-1).flip(-1)  # of each and all behind it
    starts = torch.ones_like(real)
    starts[..., 1:] = ranked[..., 1:] != ranked[..., :-1]
    place = torch.arange(ranked.shape[-1], device=ranked.device).expand_as(ranked)
    first = place.masked_fill(~starts, 0).cummax(-1).values  # of those that tie
    cost = (left.gather(-1, first) - drawn).masked_fill(~real, 0.0)
    return reduce_lists(cost.sum(-1), reduction).to(scores.dtype)
