"""Sampled softmax: estimate of the softmax cross-entropy over all items from sampled items."""

import torch
from torch import Tensor

from cascaderank.errors import ShapeError
from cascaderank.losses import LOSSES
from cascaderank.losses._targets import ground_truth_targets
from cascaderank.tensors import Reduction, check_lists, finite_scores, reduce_lists


@LOSSES.register
def sampled_softmax_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    k: int | None = None,
    threshold: float | None = None,
    log_q: Tensor | None = None,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Softmax cross-entropy of each candidate of the ground truth against all other candidates.

    .. math::
        \ell = -\frac{1}{\sum_i z_i} \sum_i z_i
               \log \frac{e^{f_i}}{e^{f_i} + \sum_j (1 - z_j)\, e^{f_j}}, \qquad
        f_j = s_j - \log q_j

    where z is 1 for the ground truth and 0 for other candidates, and q is the sampling probability
    of a candidate, up to a common factor. The log q correction is *subtracted* from every score,
    that of the ground truth included, because a frequently sampled item represents fewer unsampled
    ones. The optimum is then that of the softmax over all items. Without the correction, popular
    items receive lower scores because they are sampled more often.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        k: the ground truth is the top ``k`` by label, ``k`` at least 1; candidates that tie for
            the last places share them, and count as negatives with the remaining weight. Exactly
            one of ``k`` and ``threshold`` must be given.
        threshold: the ground truth is every label of at least this; finite.
        log_q: ``[..., list]``, logarithm of the sampling probability of each candidate; by
            default, all probabilities are equal.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, in nats, of the scores' dtype; exactly 0 for a list without ground
        truth, or without other candidates.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given, and if an option is
            unknown or out of range.

    Examples:
        >>> scores, labels = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
        >>> sampled_softmax_loss(scores, labels, k=1)
        tensor(0.5514)
        >>> often = torch.tensor([0.01, 0.2, 0.01]).log()  # the second is sampled often
        >>> sampled_softmax_loss(scores, labels, k=1, log_q=often)
        tensor(0.3266)

    Source: Bengio and Senecal 2008; Jean et al. 2015 (arXiv 1412.2007).
    """
    mask = check_lists(scores, labels, mask)
    if log_q is not None and log_q.shape != scores.shape:
        raise ShapeError(
            f"log_q must have the shape of scores {list(scores.shape)}; got {list(log_q.shape)}"
        )
    targets, _ = ground_truth_targets(labels, like=scores, k=k, threshold=threshold, mask=mask)
    if scores.shape[-1] == 0:
        return reduce_lists(scores.sum(-1), reduction)
    logits = finite_scores(scores.masked_fill(~mask, 0.0))
    if log_q is not None:
        logits = logits - log_q.detach().masked_fill(~mask, 0.0).to(logits.dtype)
    targets = targets.to(logits.dtype)
    negative = mask & (targets < 1)
    weight = torch.where(negative, (1 - targets).clamp(min=torch.finfo(logits.dtype).tiny), 1.0)
    # The fill value is finite: the gradient of a logsumexp of minus infinities alone is NaN.
    lowest = torch.finfo(logits.dtype).min
    # Relative to the best negative: an offset that all scores have in common costs no precision.
    logits = logits - logits.detach().masked_fill(~negative, lowest).amax(-1, keepdim=True)
    negatives = (logits + weight.log()).masked_fill(~negative, lowest).logsumexp(-1, keepdim=True)
    ignored = ~negative.any(-1, keepdim=True) | ~mask
    margin = (negatives - logits).clamp(max=-lowest).masked_fill(ignored, lowest)
    costs = torch.nn.functional.softplus(margin)
    size = targets.sum(-1)
    loss = (targets * costs).sum(-1) / size.masked_fill(size == 0, 1.0)
    return reduce_lists(loss, reduction).to(scores.dtype)
