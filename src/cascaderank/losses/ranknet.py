"""RankNet: logistic loss of the pairs of candidates with different labels."""

from typing import Literal, get_args

from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._options import check_choice
from cascaderank.losses._pairs import Preferences
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists

Balance = Literal["pairs", "labels"]


@LOSSES.register
def ranknet_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    balance: Balance = "pairs",
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Logistic loss of every pair of candidates with different labels.

    ``mean of softplus(-(s_i - s_j))`` over the pairs with ``y_i > y_j``. Only the order of the
    labels has an effect.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        balance: ``"pairs"`` for the same weight of every pair, or ``"labels"`` for the same weight
            of every label above the lowest, regardless of the number of its candidates. The latter
            is the mean over these labels of the mean over candidates of that label of the mean
            over candidates of lower labels.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype; exactly 0 for a list whose labels are all equal.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if ``balance`` or the reduction is unknown.

    Examples:
        >>> import torch
        >>> ranknet_loss(torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))
        tensor(0.1269)
        >>> ranknet_loss(torch.tensor([0.0, 1.0, 3.0]), torch.tensor([2.0, 1.0, 0.0]))
        tensor(2.1629)

    Source: Burges et al. 2005; ``balance="labels"`` is the form of FS-LTR.
    """
    check_choice(balance, "balance", choices=get_args(Balance))
    mask = check_lists(scores, labels, mask)
    pairs = Preferences(labels, mask)
    worse = pairs.worse()
    if balance == "pairs":
        loss = pairs.costs(scores) / worse.sum(-1).clamp(min=1)
    else:
        same_label = mask.sum(-1, keepdim=True) - worse - pairs.better()  # number of candidates
        weight = (worse > 0).to(at_least_float32(scores).dtype) / same_label.clamp(min=1)
        labels_above_lowest = weight.sum(-1).clamp(min=1)
        pair_weight = weight / worse.clamp(min=1)
        loss = pairs.costs(scores, pair_weight, weigh=lambda one, _: one) / labels_above_lowest
    return reduce_lists(loss, reduction).to(scores.dtype)
