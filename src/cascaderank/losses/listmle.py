"""ListMLE: likelihood of the order by label under a Plackett-Luce model of the scores."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.tensors import (
    Reduction,
    check_lists,
    exact_labels,
    reduce_lists,
    undefined_to_nan,
)

_FAR_BELOW = -1e30
"""Score of padding: it adds nothing to a sum of exponentials, and the sums stay finite."""


@LOSSES.register
def listmle_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Negative log-likelihood of the order by label in a Plackett-Luce model of the scores.

    .. math::
        \ell = \sum_i \left( \log \sum_{j: y_j \le y_i} e^{s_j} - s_i \right)

    Candidates of equal label share the sum over all candidates that are not better (Breslow's rule
    for ties), so their order in the list has no effect. Time is O(L log L) for L candidates.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better; only their order has an effect.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, in nats, of the scores' dtype; exactly 0 for a list of at most one
        candidate.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the reduction is unknown.

    Examples:
        >>> listmle_loss(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor(0.1269)
        >>> listmle_loss(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 0.0]))
        tensor(2.1269)

    Source: Xia et al. 2008; ties as in Breslow 1974.
    """
    mask = check_lists(scores, labels, mask)
    if scores.shape[-1] == 0:
        return reduce_lists(scores.sum(-1), reduction)
    ranked = exact_labels(labels.detach()).masked_fill(~mask, -torch.inf)
    ranked, order = ranked.sort(dim=-1, descending=True, stable=True)
    # In double precision, because the sums are subtracted from the scores: the difference would
    # have the rounding error of the scores, which for scores near 1e6 is 0.03.
    filled = scores.double().masked_fill(~mask, _FAR_BELOW).clamp(min=_FAR_BELOW)
    logits, real = filled.gather(-1, order), mask.gather(-1, order)
    log_sums = logits.flip(-1).logcumsumexp(-1).flip(-1)  # over this candidate and all after it
    starts = torch.ones_like(real)
    starts[..., 1:] = ranked[..., 1:] != ranked[..., :-1]
    position = torch.arange(ranked.shape[-1], device=ranked.device).expand_as(ranked)
    first_tied = position.masked_fill(~starts, 0).cummax(-1).values
    loss = (log_sums.gather(-1, first_tied) - logits).masked_fill(~real, 0.0)
    loss = undefined_to_nan(loss.sum(-1), labels, mask)
    return reduce_lists(loss, reduction).to(scores.dtype)
