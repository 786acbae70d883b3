"""Binary cross-entropy: pointwise loss of scores as logits."""

from torch import Tensor
from torch.nn import functional as F

from cascaderank.losses import LOSSES
from cascaderank.tensors import (
    Reduction,
    check_lists,
    finite_scores,
    masked_mean,
    reduce_lists,
)


@LOSSES.register
def bce_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Binary cross-entropy of the scores as logits, averaged over the candidates of each list.

    ``mean_j [softplus(s_j) - z_j s_j]``. The labels are the targets z. Relevance that is not in
    [0, 1] must first be converted by :func:`cascaderank.ground_truth`.

    Args:
        scores: ``[..., list]`` logits.
        labels: ``[..., list]`` in [0, 1].
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0 (for labels in [0, 1]), of the scores' dtype; 0 for a list without
        candidates.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if the reduction is unknown.

    Examples:
        >>> import torch
        >>> bce_loss(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 1.0]))
        tensor(0.4100)

    Source: maximum likelihood of independent Bernoulli labels.
    """
    mask = check_lists(scores, labels, mask)
    logits = finite_scores(scores.masked_fill(~mask, 0.0))
    targets = labels.masked_fill(~mask, 0).to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return reduce_lists(masked_mean(loss, mask), reduction).to(scores.dtype)
