"""Attribution: the ground truth that each stage cuts, by how many ranks, and its potential gain."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascaderank.selection import (
    best_first,
    kept_by_stages,
    relevance_of,
    result_dtype,
    share,
    total,
)
from cascaderank.sorting.order import sort_ascending, sort_best_first
from cascaderank.tensors import check_cascade, check_quotas


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """Survival and loss of the ground truth per stage; NaN for requests without ground truth."""

    alive: Tensor
    """``[stages, batch]`` in [0, 1]: share of the ground truth that remains after each stage."""
    lost: Tensor
    """``[stages, batch]`` in [0, 1]: share of the ground truth that each stage cut."""
    ceiling: Tensor
    """``[stages, batch]`` in [0, 1]: joint recall if this stage alone were perfect."""
    depth: Tensor
    """``[stages, batch]``, at least 1: mean number of ranks by which the ground truth that a stage
    cut missed the quota, among the input candidates of the stage; NaN where it cut none."""
    reachable: Tensor
    """``[batch]`` in [0, 1]: the maximum joint recall that the quotas allow."""

    @property
    def joint_recall(self) -> Tensor:
        """``[batch]``: share of the ground truth that remains after the last stage."""
        return self.alive[-1]


def attribute(
    scores: Tensor,
    labels: Tensor,
    *,
    quotas: Sequence[int],
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
) -> Attribution:
    r"""Trace the ground truth through the cascade and attribute each loss to the stage that cut it.

    ``joint_recall`` plus the sum of ``lost`` over all stages is 1. For ``ceiling``, one stage is
    replaced by a *perfect* stage: it ranks its input candidates by ground truth, breaks ties by its
    own scores, and keeps its quota. The other stages keep their scores. A perfect stage does not
    always improve the result, because a later stage may cut the candidates that it saves. With
    three or more stages the ceiling can be lower than the joint recall: in a middle stage, the
    saved candidates can displace candidates that the last stage would have kept.

    The maximum that the quotas allow is :math:`\min(1, q_S / |z|)`, or slightly less where
    candidates tie for the last places of the ground truth and share them.

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better. NaN ranks last.
        labels: ``[batch, list]``, higher is better.
        quotas: number of candidates that each stage keeps, one per stage, non-increasing.
        k: size of the ground truth, the top ``k`` candidates by label.
        threshold: minimum label of the ground truth; at least one of ``k`` and ``threshold`` must
            be given.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Returns:
        An :class:`Attribution` of float32 tensors (float64 for float64 scores).

    Raises:
        ShapeError: if the shapes or dtypes of the tensors do not agree.
        ConfigError: if the quotas increase, or neither ``k`` nor ``threshold`` is given.

    Examples:
        >>> scores = torch.tensor([[[4.0, 3.0, 2.0, 1.0]], [[1.0, 3.0, 2.0, 4.0]]])
        >>> labels = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
        >>> result = attribute(scores, labels, quotas=(3, 2), threshold=1)
        >>> result.lost.flatten().tolist()  # stage 1 cuts the last item, stage 2 the first
        [0.5, 0.5]
        >>> result.ceiling.flatten().tolist()
        [0.5, 0.5]

    Source: this project.
    """
    mask = check_cascade(scores, labels, quotas, mask)
    quotas = check_quotas(quotas, stages=scores.shape[0])
    relevant = relevance_of(labels, k=k, threshold=threshold, mask=mask)
    orders = best_first(scores)
    kept, dtype = kept_by_stages(orders, quotas, mask), result_dtype(scores)
    found = attribution_of(orders, kept, relevant, quotas=quotas, mask=mask)
    return Attribution(**{name: value.to(dtype) for name, value in vars(found).items()})


def attribution_of(
    orders: Tensor, kept: Tensor, relevant: Tensor, *, quotas: Sequence[int], mask: Tensor
) -> Attribution:
    """Return the attribution of :func:`attribute`, given what the stages keep, in float64.

    Args:
        orders: ``[stages, batch, list]`` indices of the candidates by each stage, best first, with
            padding; see :func:`~cascaderank.selection.best_first`.
        kept: ``[stages, batch, list]`` bool; see :func:`~cascaderank.selection.kept_by_stages`.
        relevant: ``[batch, list]`` float64; see :func:`~cascaderank.selection.relevance_of`.
        quotas: number of candidates that each stage keeps, one per stage, non-increasing.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Examples:
        >>> orders, kept = torch.tensor([[[0, 1]]]), torch.tensor([[[True, False]]])
        >>> mask, relevant = torch.tensor([[True, True]]), torch.tensor([[0.0, 1.0]]).double()
        >>> attribution_of(orders, kept, relevant, quotas=(1,), mask=mask).depth
        tensor([[1.]], dtype=torch.float64)
    """
    reached = torch.cat([mask[None], kept[:-1]])
    cut = reached & ~kept
    saved = []
    for stage, perfect in enumerate(_ground_truth_first(orders, relevant)):
        walk = [perfect, *orders[stage + 1 :]]
        saved.append(kept_by_stages(walk, quotas[stage:], reached[stage])[-1])
    best = sort_ascending(relevant).flip(-1)[..., : quotas[-1]]
    return Attribution(
        alive=share(kept, relevant),
        lost=share(cut, relevant),
        ceiling=share(torch.stack(saved), relevant),
        depth=_ranks_below(orders, reached, cut, quotas, relevant),
        # The two sums may round differently, so the ratio may exceed 1 by a rounding error.
        reachable=(total(best) / total(relevant)).clamp(max=1.0),
    )


def _ground_truth_first(orders: Tensor, relevant: Tensor) -> Tensor:
    """Sort the order of each stage by the relevance of the ground truth, stably."""
    # In float32, the relevance of tied candidates is still equal, above 0 and below 1.
    by_stage = relevant.float().expand(orders.shape).gather(-1, orders)
    return orders.gather(-1, sort_best_first(by_stage)[1])


def _ranks_below(
    orders: Tensor, reached: Tensor, cut: Tensor, quotas: Sequence[int], relevant: Tensor
) -> Tensor:
    """Mean number of ranks by which the cut ground truth missed the quota, ``[stages, batch]``.

    NaN where none of the ground truth was cut.
    """
    weights = (relevant * cut).gather(-1, orders)
    ranks = reached.gather(-1, orders).cumsum(-1)
    allowed = torch.tensor(quotas, device=ranks.device)[:, None, None]
    return total(weights * (ranks - allowed)) / total(weights)
