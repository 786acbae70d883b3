"""Sampled softmax: the ground truth is told from sampled candidates as from all items."""

import torch
from torch import Tensor

from cascaderank.errors import ShapeError
from cascaderank.losses import LOSSES
from cascaderank.losses._marks import mark
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists


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
    r"""Cross-entropy of each candidate of the ground truth against all that are none.

    .. math::
        \ell = -\frac{1}{\sum_i z_i} \sum_i z_i
               \log \frac{e^{f_i}}{e^{f_i} + \sum_j (1 - z_j)\, e^{f_j}}, \qquad
        f_j = s_j - \log q_j

    z marks the ground truth, q is the chance by which a candidate was sampled, up to a factor.
    An item that is sampled often stands for few of its kind, so its score is *lowered* by log q,
    that of the ground truth too: in expectation, the softmax over all items is learnt. Without
    the correction popular items are pushed down for being popular.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        k: the ground truth is the top ``k`` by label; candidates that tie for the last places
            share them, and are for the rest of it not ground truth. Give either this or
            ``threshold``.
        threshold: the ground truth is every label of at least this.
        log_q: ``[..., list]``, logarithm of the chance of each candidate; not given, all are
            alike.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, in nats, of the scores' dtype. Exactly 0 for a list without ground truth, or
        of nothing else.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: unless exactly one of ``k`` and ``threshold`` is given, and if the reduction
            is unknown.

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
    if scores.shape[-1] == 0:
        return reduce_lists(scores.sum(-1), reduction)
    marks, _ = mark(labels, like=scores, k=k, threshold=threshold, mask=mask)
    logits = at_least_float32(scores.masked_fill(~mask, 0.0))
    if log_q is not None:
        logits = logits - log_q.detach().masked_fill(~mask, 0.0).to(logits.dtype)
    marks = marks.to(logits.dtype)
    # Finite, since the gradient of a logsumexp over nothing but minus infinity is NaN.
    rest = (mask & (marks < 1)).to(logits.dtype)
    weight = torch.where(rest > 0, (1 - marks).clamp(min=torch.finfo(logits.dtype).tiny), 1.0)
    lowest = torch.finfo(logits.dtype).min
    others = (logits + weight.log()).masked_fill(rest == 0, lowest).logsumexp(-1, keepdim=True)
    there = rest.sum(-1, keepdim=True) > 0
    margin = (others - logits).masked_fill(~there | ~mask, lowest)
    cost = torch.nn.functional.softplus(margin)
    size = marks.sum(-1)
    total = (marks * cost).sum(-1) / size.masked_fill(size == 0, 1.0)
    return reduce_lists(total, reduction).to(scores.dtype)
