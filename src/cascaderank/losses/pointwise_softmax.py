"""Pointwise softmax: each candidate is classified by its grade."""

import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.selection import check_size
from cascaderank.tensors import Reduction, at_least_float32, check_lists, masked_mean, reduce_lists


@LOSSES.register
def pointwise_softmax_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    classes: int = 5,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy of each candidate's grade, a mean over candidates.

    .. math::
        p(c \mid s) = \frac{e^{-(s - c)^2 / 2}}{\sum_{c'} e^{-(s - c')^2 / 2}}, \qquad
        \ell = -\frac1n \sum_j \log p(y_j \mid s_j), \qquad c = 0, \dots, C - 1

    The classes share one score, so that it orders candidates: the more, the better the likely
    grade. (A network with one output per class has to be told which of them to rank by.)

    Args:
        scores: ``[..., list]``, higher is better; in units of grades.
        labels: ``[..., list]``, grades from 0 to ``classes - 1``.
        classes: how many grades there are.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0 for whole grades in range, in nats, of the scores' dtype.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if ``classes`` is not a positive integer, or the reduction is unknown.

    Examples:
        >>> pointwise_softmax_loss(torch.tensor([4.0, 0.0]), torch.tensor([4.0, 0.0]))
        tensor(0.5615)
        >>> pointwise_softmax_loss(torch.tensor([0.0, 4.0]), torch.tensor([4.0, 0.0]))
        tensor(8.5615)

    Source: the baseline of ARF (arXiv 2310.10462) and PiRank; one score for all classes is the
    adjacent-categories model, this project's choice.
    """
    mask = check_lists(scores, labels, mask)
    filled = at_least_float32(scores.masked_fill(~mask, 0.0))
    grades = labels.detach().masked_fill(~mask, 0).to(filled.dtype)
    every = torch.arange(check_size(classes, "classes"), device=scores.device, dtype=filled.dtype)
    # The square of the score is the same for all classes.
    logits = every * filled[..., None] - every.square() / 2
    cost = logits.logsumexp(-1) - (grades * filled - grades.square() / 2)
    return reduce_lists(masked_mean(cost, mask), reduction).to(scores.dtype)
