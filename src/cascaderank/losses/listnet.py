"""ListNet: cross-entropy between the top-one probabilities of labels and of scores."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.tensors import (
    Reduction,
    at_least_float32,
    check_lists,
    exact_labels,
    is_whole,
    reduce_lists,
)


@LOSSES.register
def listnet_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy between the softmax of labels and the softmax of scores.

    .. math::
        \ell = -\sum_i \frac{e^{y_i}}{\sum_j e^{y_j}} \log \frac{e^{s_i}}{\sum_j e^{s_j}}

    It is minimal where scores equal labels up to a constant.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better; used as logits.
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
        >>> listnet_loss(torch.tensor([2.0, 0.0]), torch.tensor([1.0, 0.0]))
        tensor(0.6648)

    Source: Cao et al. 2007, the top-one form.
    """
    real = check_lists(scores, labels, mask)
    if scores.shape[-1] == 0:
        return reduce_lists(scores.sum(-1), reduction)
    filled = at_least_float32(scores)
    target_logits = exact_labels(labels.detach())
    target_logits = target_logits.to(torch.promote_types(target_logits.dtype, filled.dtype))
    if mask is None or is_whole(real):
        log_probabilities = filled.log_softmax(-1)
    else:
        lowest = torch.finfo(filled.dtype).min
        log_probabilities = filled.masked_fill(~real, lowest).log_softmax(-1)
        log_probabilities = log_probabilities.masked_fill(~real, 0.0)
        target_logits = target_logits.masked_fill(~real, lowest)
    loss = (target_logits.softmax(-1).neg_() * log_probabilities).sum(-1)
    return reduce_lists(loss, reduction).to(scores.dtype)
