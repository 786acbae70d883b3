"""RankNet: of two candidates, the one of better label wins."""

from typing import Literal, get_args

from torch import Tensor

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.losses import LOSSES
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
    """Logistic loss of every pair of candidates whose labels differ.

    ``mean of softplus(-(s_i - s_j))`` over the pairs with ``y_i > y_j``. Only the order of the
    labels matters.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        balance: what weighs the same: ``"pairs"``, or ``"labels"``, for the mean over the
            labels above the lowest, of the mean over candidates of that label, of the mean over
            candidates of lower labels. Then a label counts however few candidates have it.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, of the scores' dtype. Exactly 0 for a list whose labels are all equal.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if balance or reduction is unknown.

    Examples:
        >>> import torch
        >>> ranknet_loss(torch.tensor([2.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0]))
        tensor(0.1269)
        >>> ranknet_loss(torch.tensor([0.0, 1.0, 3.0]), torch.tensor([2.0, 1.0, 0.0]))
        tensor(2.1629)

    Source: Burges et al. 2005; balanced labels are the form of FS-LTR.
    """
    known = get_args(Balance)
    if balance not in known:
        raise ConfigError(
            f"no balance called '{balance}'{did_you_mean(str(balance), known)}; "
            f"there are {', '.join(known)}"
        )
    mask = check_lists(scores, labels, mask)
    pairs = Preferences(labels, mask)
    worse = pairs.worse()
    if balance == "pairs":
        cost = pairs.costs(scores) / worse.sum(-1).clamp(min=1)
    else:
        alike = mask.sum(-1, keepdim=True) - worse - pairs.better()  # candidates of the same label
        weight = (worse > 0).to(at_least_float32(scores).dtype) / alike.clamp(min=1)
        above = weight.sum(-1).clamp(min=1)  # labels above the lowest
        of_each = weight / worse.clamp(min=1)
        cost = pairs.costs(scores, of_each, weigh=lambda one, _: one) / above
    return reduce_lists(cost, reduction).to(scores.dtype)
