"""Attribution: which stage lost the ground truth, how nearly, and what mending it is worth."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascaderank.selection import best_first, keep, marks, result_dtype, share, total
from cascaderank.tensors import check_cascade, check_quotas


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What became of the ground truth of each request; NaN for requests without any."""

    alive: Tensor
    """``[stages, batch]`` in [0, 1]: share of the ground truth alive after each stage."""
    lost: Tensor
    """``[stages, batch]`` in [0, 1]: share of the ground truth that each stage cut."""
    ceiling: Tensor
    """``[stages, batch]`` in [0, 1]: joint recall if this stage alone were perfect."""
    depth: Tensor
    """``[stages, batch]``, at least 1: how many ranks below the quota what a stage cut was, on
    average, among what the stage got; NaN where it cut none of the ground truth."""
    reachable: Tensor
    """``[batch]`` in [0, 1]: the best joint recall that the quotas allow."""

    @property
    def joint_recall(self) -> Tensor:
        """``[batch]``: share of the ground truth alive after the last stage."""
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
    r"""Follow the ground truth through the cascade and blame each loss on the stage that cut it.

    ``joint_recall`` plus ``lost`` of all stages is 1. A *perfect* stage ranks what it gets by
    ground truth first and by its own scores among equals, and keeps its quota; the others rank as
    they do. It need not be worth anything: what it saves, a later stage may cut. With three
    stages or more the ceiling may even lie below the joint recall, where what was saved crowds
    out, in a middle stage, what the last one would have kept.

    The best that quotas allow is :math:`\min(1, q_S / |z|)`, or a little less where candidates
    tie for the last places of the ground truth and share them.

    Args:
        scores: ``[stages, batch, list]``, first stage first; higher is better. NaN ranks last.
        labels: ``[batch, list]``, higher is better.
        quotas: how many candidates each stage passes on, one per stage; never grows.
        k: the ground truth is the top ``k`` by label.
        threshold: the ground truth is every label of at least this; give this or ``k``.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Returns:
        An :class:`Attribution`, float32 (float64 for float64 scores).

    Raises:
        ShapeError: if the tensors do not agree.
        ConfigError: if quotas grow, or not exactly one of ``k`` and ``threshold`` is given.

    Examples:
        >>> scores = torch.tensor([[[4.0, 3.0, 2.0, 1.0]], [[1.0, 3.0, 2.0, 4.0]]])
        >>> labels = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
        >>> found = attribute(scores, labels, quotas=(3, 2), threshold=1)
        >>> found.lost.flatten().tolist()  # one item each: the last, then the first
        [0.5, 0.5]
        >>> found.ceiling.flatten().tolist()
        [0.5, 0.5]

    Source: this project.
    """
    mask = check_cascade(scores, labels, quotas, mask)
    quotas = check_quotas(quotas, stages=scores.shape[0])
    relevant = marks(labels, k=k, threshold=threshold, mask=mask)
    orders = best_first(scores)
    perfect = _ground_truth_first(orders, relevant)

    gets, alive, lost, ceiling, depth = mask, [], [], [], []
    for stage, (order, quota) in enumerate(zip(orders, quotas, strict=True)):
        kept = keep(order, gets, quota)
        cut = gets & ~kept
        saved = keep(perfect[stage], gets, quota)
        for later in range(stage + 1, len(quotas)):
            saved = keep(orders[later], saved, quotas[later])
        alive.append(share(kept, relevant))
        lost.append(share(cut, relevant))
        ceiling.append(share(saved, relevant))
        depth.append(_ranks_below(order, gets, cut, quota, relevant))
        gets = kept

    best = relevant.sort(dim=-1, descending=True).values[..., : quotas[-1]]
    dtype = result_dtype(scores)
    return Attribution(
        alive=torch.stack(alive).to(dtype),
        lost=torch.stack(lost).to(dtype),
        ceiling=torch.stack(ceiling).to(dtype),
        depth=torch.stack(depth).to(dtype),
        # The two sums may round apart.
        reachable=(total(best) / total(relevant)).clamp(max=1.0).to(dtype),
    )


def _ground_truth_first(orders: Tensor, relevant: Tensor) -> Tensor:
    """Sort each stage's order by the marks of the ground truth; of equals the order stays."""
    ranked = relevant.expand(orders.shape).gather(-1, orders)
    return orders.gather(-1, ranked.argsort(dim=-1, descending=True, stable=True))


def _ranks_below(order: Tensor, gets: Tensor, cut: Tensor, quota: int, relevant: Tensor) -> Tensor:
    """Mean ranks below the quota of the ground truth that was cut, ``[batch]``; NaN if none was."""
    weights = (relevant * cut).gather(-1, order)
    ranks = gets.gather(-1, order).cumsum(-1)
    return total(weights * (ranks - quota)) / total(weights)
