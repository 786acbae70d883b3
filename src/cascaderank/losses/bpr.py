"""BPR: the ground truth scores above what is none, pair by pair."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.losses._marks import mark
from cascaderank.losses._pairs import Preferences
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
    r"""Logistic loss of every pair of a candidate of the ground truth and one that is none.

    .. math::
        \ell = \frac{\sum_{ij} (z_i - z_j)_+ \log\left(1 + e^{-(s_i - s_j)}\right)}
                    {\sum_{ij} (z_i - z_j)_+}

    z marks the ground truth. Like RankNet, but labels inside the ground truth, and outside, are
    all the same.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        k: the ground truth is the top ``k`` by label; candidates that tie for the last places
            share them. Give either this or ``threshold``.
        threshold: the ground truth is every label of at least this.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, of the scores' dtype. Exactly 0 for a list where all are alike.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: unless exactly one of ``k`` and ``threshold`` is given, and if the reduction
            is unknown.

    Examples:
        >>> import torch
        >>> bpr_loss(torch.tensor([2.0, 0.0, 0.0]), torch.tensor([5.0, 3.0, 0.0]), k=1)
        tensor(0.1269)

    Source: Rendle et al. 2009 (arXiv 1205.2618), over all pairs of a list.
    """
    mask = check_lists(scores, labels, mask)
    marks, _ = mark(labels, like=scores, k=k, threshold=threshold, mask=mask)
    shares = marks.to(at_least_float32(scores).dtype)
    pairs = Preferences(marks, mask)
    total = (shares * (pairs.worse() - pairs.better())).masked_fill(~mask, 0.0).sum(-1)
    cost = pairs.costs(scores, shares, weigh=torch.sub) / total.masked_fill(total == 0, 1.0)
    return reduce_lists(cost, reduction).to(scores.dtype)
