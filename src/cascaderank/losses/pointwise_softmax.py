"""Pointwise softmax: classification of each candidate into its grade."""

import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES
from cascaderank.selection import check_size
from cascaderank.tensors import Reduction, check_lists, finite_scores, masked_mean, reduce_lists

_MOST_CLASSES = 10_000


@LOSSES.register
def pointwise_softmax_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    classes: int = 5,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy of the grade of each candidate, averaged over the list.

    .. math::
        p(c \mid s) = \frac{e^{-(s - c)^2 / 2}}{\sum_{c'} e^{-(s - c')^2 / 2}}, \qquad
        \ell = -\frac1n \sum_j \log p(y_j \mid s_j), \qquad c = 0, \dots, C - 1

    All classes share one score, which therefore orders the candidates: the higher the score, the
    better the most likely grade. (A network with one output per class needs a separate rule that
    derives a ranking score from them.) Time and memory grow with ``classes`` times the length of
    the list.

    Args:
        scores: ``[..., list]``, higher is better, in units of grades.
        labels: ``[..., list]``, grades from 0 to ``classes - 1``.
        classes: number C of grades, 1 to 10,000.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss in nats, of the scores' dtype; at least 0 if labels are integers in the range of
        grades.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if ``classes`` is out of range, or the reduction is unknown.

    Examples:
        >>> pointwise_softmax_loss(torch.tensor([4.0, 0.0]), torch.tensor([4.0, 0.0]))
        tensor(0.5615)
        >>> pointwise_softmax_loss(torch.tensor([0.0, 4.0]), torch.tensor([4.0, 0.0]))
        tensor(8.5615)

    Source: a baseline of ARF (arXiv 2310.10462) and PiRank. One score for all classes is the
    adjacent-categories model and a choice of this project.
    """
    if check_size(classes, "classes") > _MOST_CLASSES:
        raise ConfigError(f"classes must be at most {_MOST_CLASSES:,}; got {classes:,}")
    mask = check_lists(scores, labels, mask)
    filled = finite_scores(scores.masked_fill(~mask, 0.0))
    grades = labels.detach().masked_fill(~mask, 0).to(filled.dtype)
    every_grade = torch.arange(classes, device=scores.device, dtype=filled.dtype)
    # The square of the score is the same for all classes and cancels.
    logits = every_grade * filled[..., None] - every_grade.square() / 2
    loss = logits.logsumexp(-1) - (grades * filled - grades.square() / 2)
    return reduce_lists(masked_mean(loss, mask), reduction).to(scores.dtype)
