"""Survival loss: binary cross-entropy of the probability to be kept by every stage."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.losses import LOSSES
from cascaderank.losses._targets import ground_truth_targets, log_space_bce
from cascaderank.sorting import Operator, log_top_k_probability
from cascaderank.tensors import (
    Reduction,
    at_least_float32,
    check_cascade,
    count_real,
    is_whole,
    reduce_lists,
)


@LOSSES.register
def survival_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    quotas: Sequence[int] | None = None,
    k: int | None = None,
    threshold: float | None = None,
    operator: str | Operator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Binary cross-entropy between the ground truth and survival of all stages.

    ``mean_j BCE(prod_t p^t_j(q_t), z_j)``, where z is 1 for the ground truth of the list and 0 for
    other candidates, and ``p^t(q)`` is the probability of being among the top q by the scores of
    stage t, over the whole list. The product is a lower bound of the probability to survive. This
    is the end-to-end term of LCRON.

    The loss is computed in log space: ``log prod_t p^t`` is a sum over stages, and
    ``1 - prod_t p^t`` is the sum of the probabilities that stage t is the first to drop the
    candidate. Note that the gradient of ``log(1 - prod_t p^t)`` flows through the probabilities of
    being dropped, which for operators with a permutation are the rows below the cut-off. Its value
    is exact (``docs/decisions/0001-log-space-top-k.md``).

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better.
        labels: ``[batch, list]``, higher is better.
        quotas: ``q_t``, number of candidates each stage keeps, at least 1 and never increasing.
            With ``None``, every stage keeps as many as the ground truth of the list has, as in
            LCRON.
        k: the ground truth is the top ``k`` by label, ``k`` at least 1; candidates that tie for
            the last places share them. At least one of ``k`` and ``threshold`` must be given.
        threshold: the ground truth is every label of at least this; finite.
        operator: smooth top-k operator: a name in ``cascaderank.sorting.OPERATORS``, or an
            instance.
        temperature: temperature of the operator, positive: a number, or a tensor that broadcasts
            to ``[stages, batch]``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype; ``[batch]`` without reduction. It is exactly 0
        for a list without ground truth, and for a list from which no stage drops a candidate.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given, and if an option is
            unknown or out of range.

    Examples:
        >>> labels = torch.tensor([[2.0, 1.0, 0.0]])
        >>> agree = torch.tensor([[[1.0, 0.5, -1.0]], [[1.0, 0.0, -1.0]]])
        >>> survival_loss(agree, labels, k=1)
        tensor(0.2754)
        >>> survival_loss(agree * torch.tensor([1.0, -1.0])[:, None, None], labels, k=1)
        tensor(1.6098)

    Source: LCRON (arXiv 2503.09492), the end-to-end term; the log-space form is this project's.
    """
    mask = check_cascade(scores, labels, quotas, mask)
    targets, size = ground_truth_targets(labels, like=scores, k=k, threshold=threshold, mask=mask)
    cuts = size if quotas is None else size.new_tensor(quotas)[:, None]
    cuts = cuts.expand(scores.shape[:-1])  # [stages, batch]
    log_kept, log_dropped = log_top_k_probability(
        at_least_float32(scores),
        cuts,
        operator=operator,
        temperature=temperature,
        mask=mask.expand_as(scores),
    )
    losses = survival_costs(log_kept, log_dropped, targets, cuts=cuts, size=size, mask=mask)
    return reduce_lists(losses, reduction).to(scores.dtype)


def survival_costs(
    log_kept: Tensor,
    log_dropped: Tensor,
    targets: Tensor,
    *,
    cuts: Tensor,
    size: Tensor,
    mask: Tensor,
) -> Tensor:
    """Return the survival loss of each list ``[batch]`` from the top-k logarithms of all stages.

    Args:
        log_kept: log-probability of being kept, ``[stages, batch, list]``.
        log_dropped: log-probability of being dropped, ``[stages, batch, list]``.
        targets: targets of the ground truth, in [0, 1], ``[batch, list]``.
        cuts: number of candidates each stage keeps, ``[stages, batch]``.
        size: size of the ground truth, ``[batch]``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.
    """
    drops = (cuts < count_real(mask)) & (size > 0)
    if not (is_whole(mask) and is_whole(drops)):
        ignored = ~(mask & drops[..., None])
        log_kept = log_kept.masked_fill(ignored, 0.0)
        log_dropped = log_dropped.masked_fill(ignored, torch.finfo(log_dropped.dtype).min / 4)
    logs = _LogSurvival.apply(log_kept, log_dropped)  # type: ignore[no-untyped-call]
    log_survived, log_lost = cast("tuple[Tensor, Tensor]", logs)
    return log_space_bce(log_survived, log_lost, targets, decided=drops.any(0), mask=mask)


class _LogSurvival(torch.autograd.Function):
    """Return ``log prod_t p_t``, and ``log(1 - prod_t (1 - d_t))`` with gradient through d only.

    Products are over the first axis, the stages; d is the probability of being dropped. The value
    of the second result is the logarithm of the sum of the probabilities that stage t is the first
    to drop the candidate. No gradient may flow through what earlier stages keep, as it would raise
    the scores that these stages give to candidates which should be dropped. The derivative with
    respect to ``log d_t`` is d_t times the probability that all other stages keep the candidate,
    divided by the value. It is in [0, 1]. Autograd would compute it from ``d_t / (1 - d_t)``, which
    overflows, so it is implemented here.
    """

    @staticmethod
    def forward(ctx: Any, log_kept: Tensor, log_dropped: Tensor) -> tuple[Tensor, Tensor]:
        survived, lost = log_kept[0], log_dropped[0]
        for kept, dropped in zip(log_kept[1:], log_dropped[1:], strict=True):
            lost = torch.logaddexp(lost, survived + dropped)
            survived = survived + kept
        ctx.save_for_backward(log_kept, log_dropped, lost)
        return (survived.clone(), lost.clone()) if len(log_kept) == 1 else (survived, lost)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_survived: Tensor, grad_lost: Tensor) -> tuple[Tensor, Tensor]:
        log_kept, log_dropped, lost = ctx.saved_tensors
        log_slope = log_dropped - lost
        stages = len(log_slope)
        for order in (range(stages), range(stages - 1, -1, -1)):  # earlier, then later stages
            kept_by_others = None
            for stage, previous in zip(order[1:], order, strict=False):
                kept = log_kept[previous]
                kept_by_others = kept if kept_by_others is None else kept_by_others + kept
                log_slope[stage] += kept_by_others
        grad_dropped = log_slope.clamp_(max=0.0).exp_().mul_(grad_lost)
        return grad_survived.expand_as(log_kept), grad_dropped
