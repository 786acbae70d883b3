"""Survival loss: the ground truth, and nothing else, is kept by every stage."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.losses import LOSSES
from cascaderank.losses._marks import log_space_bce, mark
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

    ``mean_j BCE(prod_t p^t_j(q_t), z_j)``, where z marks the ground truth of the list and
    ``p^t(q)`` is the probability to be among the top q by the scores of stage t, each over the
    whole list. The product is a lower bound of the probability to survive. This is the
    end-to-end term of LCRON.

    All in log space: ``log prod_t p^t`` is a sum, and ``1 - prod_t p^t`` adds up the chances to
    be dropped first by stage t. Beware that the gradient of ``log(1 - prod_t p^t)`` flows through
    the probabilities to be dropped, which for operators with a permutation are the rows below
    the cut. In value it is exact (``docs/decisions/0001-log-space-top-k.md``).

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better.
        labels: ``[batch, list]``, higher is better.
        quotas: ``q_t``, how many candidates each stage keeps; never grows. ``None`` cuts every
            stage at the size of each list's ground truth, which is LCRON's choice.
        k: the ground truth is the top ``k`` by label; candidates that tie for the last places
            share them. Give either this or ``threshold``.
        threshold: the ground truth is every label of at least this.
        operator: the smooth top-k: a name in ``cascaderank.sorting.OPERATORS``, or an operator.
        temperature: of the operator: positive; a number, or a tensor that spreads to
            ``[stages, batch]``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        At least 0, of the scores' dtype; ``[batch]`` without reduction. Exactly 0 for a list
        where there is nothing to decide: no ground truth, or no stage that drops anything.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: unless exactly one of ``k`` and ``threshold`` is given, and if an option is
            unknown or out of range.

    Examples:
        >>> labels = torch.tensor([[2.0, 1.0, 0.0]])
        >>> agree = torch.tensor([[[1.0, 0.5, -1.0]], [[1.0, 0.0, -1.0]]])
        >>> survival_loss(agree, labels, k=1)
        tensor(0.2754)
        >>> survival_loss(agree * torch.tensor([1.0, -1.0])[:, None, None], labels, k=1)
        tensor(1.6098)

    Source: LCRON (arXiv 2503.09492), the end-to-end term; log space is this project's.
    """
    mask = check_cascade(scores, labels, quotas, mask)
    marks, size = mark(labels, like=scores, k=k, threshold=threshold, mask=mask)
    cuts = size if quotas is None else size.new_tensor(quotas)[:, None]
    cuts = cuts.expand(scores.shape[:-1])  # [stages, batch]
    log_kept, log_dropped = log_top_k_probability(
        at_least_float32(scores),
        cuts,
        operator=operator,
        temperature=temperature,
        mask=mask.expand_as(scores),
    )
    costs = survival_costs(log_kept, log_dropped, marks, cuts=cuts, size=size, mask=mask)
    return reduce_lists(costs, reduction).to(scores.dtype)


def survival_costs(
    log_kept: Tensor,
    log_dropped: Tensor,
    marks: Tensor,
    *,
    cuts: Tensor,
    size: Tensor,
    mask: Tensor,
) -> Tensor:
    """Return the loss of each list ``[batch]``, given the logarithms of each stage's top ``cuts``.

    Args:
        log_kept: ``[stages, batch, list]``.
        log_dropped: likewise.
        marks: of the ground truth, ``[batch, list]``.
        cuts: ``[stages, batch]``.
        size: of the ground truth, ``[batch]``.
        mask: ``[batch, list]`` bool.
    """
    drops = (cuts < count_real(mask)) & (size > 0)  # stages that decide something
    if not (is_whole(mask) and is_whole(drops)):
        silent = ~(mask & drops[..., None])
        log_kept = log_kept.masked_fill(silent, 0.0)
        log_dropped = log_dropped.masked_fill(silent, torch.finfo(log_dropped.dtype).min / 4)
    logs = _AllAndAny.apply(log_kept, log_dropped)  # type: ignore[no-untyped-call]
    log_survived, log_lost = cast("tuple[Tensor, Tensor]", logs)
    return log_space_bce(log_survived, log_lost, marks, decided=drops.any(0), mask=mask)


class _AllAndAny(torch.autograd.Function):
    """Return ``log prod_t p_t``, and ``log(1 - prod_t (1 - d_t))`` learned through d alone.

    Products are over the first axis. The value of the latter is the sum of the chances to be
    dropped by stage t first. Its parts must not be learned through what earlier stages keep, which
    would raise in them what should be dropped. The derivative with respect to ``log d_t`` is d_t
    times the chance that all other stages keep the candidate, over the value. It is in [0, 1], but
    autograd would get there by way of ``d_t / (1 - d_t)``, which overflows; so it is written down.
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
    def backward(ctx: Any, of_survived: Tensor, of_lost: Tensor) -> tuple[Tensor, Tensor]:
        log_kept, log_dropped, lost = ctx.saved_tensors
        slope = log_dropped - lost
        stages = len(slope)
        for order in (range(stages), range(stages - 1, -1, -1)):  # what is kept before, and behind
            others = None
            for stage, before in zip(order[1:], order, strict=False):
                kept = log_kept[before]
                others = kept if others is None else others + kept
                slope[stage] += others
        slope.clamp_(max=0.0).exp_().mul_(of_lost)
        return of_survived.expand_as(log_kept), slope
