"""Cut likelihood: every stage separates the candidates on both sides of each cut of the labels."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from cascaderank.losses import LOSSES
from cascaderank.losses._cuts import Cuts, find_cuts
from cascaderank.losses._thresholds import signed_distances
from cascaderank.sorting.inputs import prepare
from cascaderank.sorting.scaling import positive_temperature
from cascaderank.tensors import (
    Reduction,
    check_cascade,
    count_real,
    reduce_lists,
    undefined_to_nan,
)


@LOSSES.register
def cut_likelihood_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    quotas: Sequence[int],
    cuts: Literal["labels"] | Sequence[int] | Tensor = "labels",
    temperature: float | Tensor = 0.25,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy, in nats, of logistic models that separate the labels at several cuts.

    A cut g divides the best candidates by label: :math:`Z_g` is above it, and :math:`R_g` is
    everything above the next cut, or the whole list for the last one. Each stage t separates
    :math:`Z_g` from the rest of :math:`R_g` by its scores and a threshold of the list, among the
    candidates that earlier stages pass:

    .. math::
        L = \sum_t \frac{1}{G n} \sum_g \sum_{j \in R_g} a^{t-1}_j
            \operatorname{BCE}\left(\sigma\left(\frac{s^t_j - \theta_{t,g}}{\tau}\right),
            [j \in Z_g]\right)

    for G cuts in a list of n candidates. The threshold :math:`\theta_{t,g}` is the one that
    minimises the sum, so it needs no gradient. Mass is passed as in
    :func:`~cascaderank.losses.conditional_survival_loss`: :math:`a^0 = 1`, and
    :math:`a^t_j = a^{t-1}_j \sigma((s^t_j - \theta_t) / \tau)` adds up to the quota of stage t. It
    is a constant to the gradient, so a stage is trained by its own term only.

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better.
        labels: ``[batch, list]``, higher is better.
        quotas: number of candidates each stage keeps, at least 1 and never increasing.
        cuts: where to cut. ``"labels"``: between all distinct labels of a list, at most 64.
            Otherwise sizes of :math:`Z_g`, the same for all lists, or ``[batch, cuts]`` integers;
            a size of 0 or less, or of at least the number of candidates, is no cut of the list,
            and a cut between equal labels moves to the nearest cut between different ones.
        temperature: width of the logistic functions in units of scores, positive: a number, or a
            tensor that broadcasts to ``[stages, batch]``; a constant to the gradient.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, of the scores' dtype; ``[batch]`` without reduction. It is 0 for a list
        without cuts, such as one whose labels are all equal.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if ``cuts`` are no sizes or lists have more than 64 distinct labels, and if an
            option is out of range.

    Examples:
        >>> labels = torch.tensor([[2.0, 1.0, 0.0, 0.0]])
        >>> right = torch.tensor([[[2.0, 1.0, 0.0, -1.0]], [[2.0, 1.0, -1.0, 0.0]]])
        >>> cut_likelihood_loss(right, labels, quotas=(3, 1))
        tensor(0.1073)
        >>> wrong = right * torch.tensor([1.0, -1.0])[:, None, None]
        >>> cut_likelihood_loss(wrong, labels, quotas=(3, 1))
        tensor(2.0698)

    Source: this project; see ``docs/methods/cut_likelihood.md``.
    """
    mask = check_cascade(scores, labels, quotas, mask)
    per_stage = cut_likelihood_costs(
        scores, labels, quotas=quotas, cuts=cuts, temperature=temperature, mask=mask
    )
    return reduce_lists(per_stage.sum(0), reduction).to(scores.dtype)


def cut_likelihood_costs(
    scores: Tensor,
    labels: Tensor,
    *,
    quotas: Sequence[int],
    cuts: Literal["labels"] | Sequence[int] | Tensor,
    temperature: float | Tensor,
    mask: Tensor,
) -> Tensor:
    """Return the loss of each list in each stage, ``[stages, batch]``, in at least float32.

    Args and errors are those of :func:`cut_likelihood_loss`; the mask is not ``None``.
    """
    filled, _, temperatures = prepare(scores, temperature, mask.expand_as(scores))
    where = find_cuts(labels, cuts, mask=mask, dtype=filled.dtype)
    per_list = _CutLikelihood.apply(filled, where, tuple(quotas), temperatures.detach(), mask)  # type: ignore[no-untyped-call]
    return undefined_to_nan(
        cast("Tensor", per_list), labels.expand_as(scores), mask.expand_as(scores)
    )


class _CutLikelihood(torch.autograd.Function):
    """Value and gradient of all cuts in one pass; thresholds are optimal and need no gradient."""

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, where: Cuts, quotas: tuple[int, ...], taus: Tensor, mask: Tensor
    ) -> Tensor:
        # Lists are the last dimension inside, so that each operation covers all of them at once.
        scores = scores.permute(2, 0, 1).contiguous()
        mass = _entering_mass(scores, quotas, taus, mask.T)
        weights = [mass[:, :, None] * side[:, None] for side in (where.lower, where.upper)]
        distance = signed_distances(scores[:, :, None], *weights, temperature=taus[:, None])
        share = (where.number * count_real(mask)).clamp(min=1).to(scores).reciprocal_()
        errors = distance.sigmoid()
        change = weights[0].mul(errors).sub_(errors.mul_(weights[1])).sum(2)
        change *= share / positive_temperature(taus)
        ctx.save_for_backward(change.permute(1, 2, 0).contiguous())
        costs = weights[0].add_(weights[1]).mul_(logsigmoid(distance.neg_())).sum((0, 2))
        return costs * -share

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output[..., None], None, None, None, None


def _entering_mass(scores: Tensor, quotas: Sequence[int], taus: Tensor, mask: Tensor) -> Tensor:
    """Return the mass of each candidate that enters each stage, ``[list, stages, batch]``.

    Args:
        scores: ``[list, stages, batch]``
        quotas: of the stages.
        taus: temperatures, ``[stages, batch]``.
        mask: ``[list, batch]`` bool.
    """
    mass, entering = mask.to(scores), mask.sum(0)
    masses, none = [mass], torch.zeros_like(mass)
    for stage_scores, quota, tau in zip(scores.unbind(1)[:-1], quotas, taus, strict=False):
        # The mass passed is the quota where the errors of two copies of the list balance.
        dropped = (mass.sum(0) - quota).clamp(min=0)
        distance = signed_distances(
            torch.cat([stage_scores, stage_scores]),
            torch.cat([mass * dropped, none]),
            torch.cat([none, mass * quota]),
            temperature=tau,
        )
        passed = mass * distance[: len(mass)].sigmoid()
        mass = torch.where(entering > quota, passed, mass)
        entering = entering.clamp(max=quota)
        masses.append(mass)
    return torch.stack(masses, 1)
