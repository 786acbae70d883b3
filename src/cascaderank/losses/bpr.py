"""BPR: logistic loss of pairs of a positive and a negative."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._pairs import Preferences
from cascaderank.losses._targets import ground_truth_targets
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists


@LOSSES.register
def bpr_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Logistic loss of every pair of a candidate of the ground truth and another candidate.

    .. math::
        \ell = \frac{\sum_{ij} (z_i - z_j)_+ \log\left(1 + e^{-(s_i - s_j)}\right)}
                    {\sum_{ij} (z_i - z_j)_+}

    where z is 1 for the ground truth and 0 for other candidates. It is RankNet on z: the order of
    labels inside the ground truth, and outside of it, has no effect.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        k: the ground truth is the top ``k`` by label, ``k`` at least 1; candidates that tie for
            the last places share them. At least one of ``k`` and ``threshold`` must be given.
        threshold: the ground truth is every label of at least this; finite.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype; exactly 0 for a list whose z are all equal.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given, and if an option is
            unknown or out of range.

    Examples:
        >>> import torch
        >>> bpr_loss(torch.tensor([2.0, 0.0, 0.0]), torch.tensor([5.0, 3.0, 0.0]), k=1)
        tensor(0.1269)

    Source: Rendle et al. 2009 (arXiv 1205.2618), over all pairs of a list.
    """
    mask = check_lists(scores, labels, mask)
    targets, _ = ground_truth_targets(labels, like=scores, k=k, threshold=threshold, mask=mask)
    pairs = Preferences(targets, mask)
    targets = targets.to(at_least_float32(scores).dtype)
    total = (targets * (pairs.worse() - pairs.better())).masked_fill(~mask, 0.0).sum(-1)
    loss = pairs.costs(scores, targets, weigh=torch.sub) / total.masked_fill(total == 0, 1.0)
    return reduce_lists(loss, reduction).to(scores.dtype)
