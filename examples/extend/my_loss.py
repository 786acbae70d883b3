"""A loss: hinge loss of the pairs of candidates with different labels."""

import math

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES
from cascaderank.tensors import (
    Reduction,
    at_least_float32,
    check_lists,
    masked_mean,
    reduce_lists,
)


@LOSSES.register
def hinge_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    margin: float = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Hinge loss of every pair of candidates with different labels.

    ``mean of max(0, margin - (s_i - s_j))`` over the pairs with ``y_i > y_j``.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        margin: difference of scores from which a pair has no loss, at least 0.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype; exactly 0 for a list whose labels are all equal.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if ``margin`` is negative or not finite, or the reduction is unknown.

    Examples:
        >>> import torch
        >>> hinge_loss(torch.tensor([0.5, 0.0, 3.0]), torch.tensor([1.0, 0.0, 1.0]))
        tensor(0.2500)

    Source: Herbrich et al. 2000.
    """
    if not 0 <= margin < math.inf:
        raise ConfigError(f"margin must be a finite number of at least 0; got {margin}")
    mask = check_lists(scores, labels, mask)
    # Inputs are filled under the mask: a NaN that is masked only later reaches the gradient.
    filled = at_least_float32(scores).masked_fill(~mask, 0.0)
    better = (labels[..., :, None] > labels[..., None, :]) & mask[..., :, None] & mask[..., None, :]
    costs = (margin - (filled[..., :, None] - filled[..., None, :])).clamp(min=0)
    loss = masked_mean(costs.flatten(-2), better.flatten(-2))
    return reduce_lists(loss, reduction).to(scores.dtype)
