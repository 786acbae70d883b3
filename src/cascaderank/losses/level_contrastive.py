"""Level contrastive: softmax cross-entropy of positives against the negatives of each level."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import softplus

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.limits import check_not_negative
from cascaderank.losses import LOSSES
from cascaderank.losses._targets import ground_truth_targets
from cascaderank.sorting.inputs import prepare
from cascaderank.sorting.order import sort_best_first
from cascaderank.sorting.scaling import distance_from, positive_temperature
from cascaderank.tensors import Reduction, check_lists, exact_labels, masked_mean, reduce_lists

_MOST = 64
"""Largest number of levels: each of them takes a pass over the list."""


class Levels(NamedTuple):
    """Level of each candidate, and the weight of each level."""

    of_candidate: Tensor
    """``[..., list]`` int64, 0 lowest; 0 under the mask."""
    weights: tuple[float, ...]
    """One weight per level, lowest first."""


@LOSSES.register
def level_contrastive_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    k: int | None = None,
    threshold: float | None = None,
    levels: Tensor | None = None,
    level_weights: Sequence[float] | None = None,
    pointwise: float = 1.0,
    exposed: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Softmax cross-entropy of each positive against the negatives of one level at a time.

    .. math::
        \ell = \sum_g \frac{w_g}{\sum_i z_i} \sum_i z_i
               \log \left( 1 + \frac{\sum_{j \in N_g} e^{s_j / \tau}}{e^{s_i / \tau}} \right)
               + \lambda \operatorname{mean}_{j \in E}
               \operatorname{BCE}(\sigma(s_j / \tau), z_j)

    where z is 1 for the ground truth and 0 for other candidates, :math:`N_g` are the other
    candidates of level g, and E are the exposed candidates. With a common denominator, a level
    whose scores are higher by 3 would take :math:`e^3` times the gradient of the others. A level
    without negatives in a list adds nothing.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, higher is better.
        k: the ground truth is the top ``k`` by label, ``k`` at least 1; candidates that tie for
            the last places share them, and count as negatives with the remaining weight. At least
            one of ``k`` and ``threshold`` must be given.
        threshold: the ground truth is every label of at least this; finite.
        levels: ``[..., list]`` integers from 0 to 63: how far each candidate got in the logged
            cascade. By default each distinct label of a list is a level.
        level_weights: weight of each level, lowest first, at least 0; 1 by default. Requires
            ``levels``.
        pointwise: weight of the binary cross-entropy, at least 0.
        exposed: ``[..., list]`` bool, candidates in the binary cross-entropy; all by default.
        temperature: divisor of scores, positive: a number, or a tensor ``[...]`` with one value
            per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss of at least 0, in nats, of the scores' dtype; exactly 0 for a list without ground
        truth.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if neither ``k`` nor ``threshold`` is given, an option is out of range, there
            are more than 64 levels, or a level has no weight.

    Examples:
        >>> scores, labels = torch.tensor([2.0, 1.0, 0.0, 0.0]), torch.tensor([2, 1, 0, 0])
        >>> level_contrastive_loss(scores, labels, k=1, pointwise=0.0)
        tensor(0.5528)
        >>> level_contrastive_loss(
        ...     scores, labels, k=1, pointwise=0.0, levels=labels, level_weights=(1.0, 0.5, 0.0)
        ... )
        tensor(0.3962)

    Source: HAP (arXiv 2603.03770).
    """
    mask = check_lists(scores, labels, mask)
    check_not_negative(pointwise, "pointwise")
    targets, _ = ground_truth_targets(labels, like=scores, k=k, threshold=threshold, mask=mask)
    of_candidate = label_ranks(labels, mask) if levels is None else _checked(levels, scores)
    if level_weights is not None:
        check_level_weights(level_weights)
        if levels is None:
            raise ConfigError(f"level_weights requires levels; got {[*level_weights]} without them")
    if exposed is not None and (exposed.dtype is not torch.bool or exposed.shape != scores.shape):
        raise ShapeError(
            f"exposed must be bool {list(scores.shape)}; got {exposed.dtype} {list(exposed.shape)}"
        )
    costs = level_contrastive_costs(
        scores,
        targets,
        levels=weighted_levels(of_candidate, level_weights, mask=mask),
        negatives=mask,
        pointwise=pointwise,
        exposed=mask if exposed is None else mask & exposed,
        temperature=temperature,
        mask=mask,
    )
    return reduce_lists(costs, reduction).to(scores.dtype)


def level_contrastive_costs(
    scores: Tensor,
    targets: Tensor,
    *,
    levels: Levels,
    negatives: Tensor,
    pointwise: float,
    exposed: Tensor,
    temperature: float | Tensor,
    mask: Tensor,
) -> Tensor:
    """Return the loss of each list, ``[...]``, in at least float32.

    Args:
        scores: ``[..., list]``.
        targets: ``[..., list]`` in [0, 1], membership in the ground truth.
        levels: levels of the candidates.
        negatives: ``[..., list]`` bool, candidates that are negatives unless in the ground truth.
        pointwise: weight of the binary cross-entropy.
        exposed: ``[..., list]`` bool, candidates in the binary cross-entropy.
        temperature: divisor of scores, as in :func:`level_contrastive_loss`.
        mask: ``[..., list]`` bool.
    """
    filled, mask, taus = prepare(scores, temperature, mask)
    if not filled.shape[-1]:
        return filled.sum(-1)
    targets, tau = targets.to(filled), positive_temperature(taus)[..., None]
    ids = torch.arange(len(levels.weights), device=filled.device)[:, None]
    negative = (negatives & mask & (targets < 1))[..., None, :]
    negative = negative & (levels.of_candidate[..., None, :] == ids)
    lowest = torch.finfo(filled.dtype).min
    # Relative to the best negative of each level: other scores cost no precision.
    best = filled.detach()[..., None, :].masked_fill(~negative, lowest).amax(-1, keepdim=True)
    empty = ~negative.any(-1, keepdim=True)
    logits = distance_from(filled[..., None, :], best.masked_fill(empty, 0.0), tau[..., None])
    share = (1 - targets).clamp(min=torch.finfo(filled.dtype).tiny).log()[..., None, :]
    log_sum = (logits + share).masked_fill(~negative, lowest).logsumexp(-1, keepdim=True)
    margin = (log_sum.masked_fill(empty, 0.0) - logits).masked_fill(empty | ~mask[..., None, :], 0)
    costs = softplus(margin).masked_fill(empty, 0.0)
    size = targets.sum(-1, keepdim=True)
    per_level = (targets[..., None, :] * costs).sum(-1) / size.masked_fill(size == 0, 1.0)
    weights = torch.tensor(levels.weights, dtype=filled.dtype, device=filled.device)
    loss = (per_level * weights).sum(-1)
    if pointwise:
        x = distance_from(filled, torch.zeros_like(tau), tau)
        bce = targets * softplus(-x) + (1 - targets) * softplus(x)
        loss = loss + pointwise * masked_mean(bce, exposed & mask & (size != 0))
    return loss


def weighted_levels(levels: Tensor, weights: Sequence[float] | None, *, mask: Tensor) -> Levels:
    """Return the levels of candidates with a weight for each level.

    Args:
        levels: ``[..., list]`` integers.
        weights: weight of each level, lowest first; 1 for all levels by default.
        mask: ``[..., list]`` bool.

    Raises:
        ConfigError: if a level is outside 0 to 63 or has no weight.
    """
    levels = levels.long().masked_fill(~mask, 0)
    low, high = (int(x) for x in levels.aminmax()) if levels.numel() else (0, 0)
    if low < 0 or high >= _MOST:
        raise ConfigError(f"levels must be from 0 to {_MOST - 1}; got levels from {low} to {high}")
    if weights is not None and high >= len(weights):
        raise ConfigError(
            f"level_weights must have one value per level, {high + 1} for levels up to {high}; "
            f"got {[*weights]}"
        )
    return Levels(levels, (1.0,) * (high + 1) if weights is None else tuple(weights[: high + 1]))


def check_level_weights(weights: Sequence[float]) -> None:
    """Check the weights of levels.

    Raises:
        ConfigError: if there are none, or one is not a finite number of at least 0.
    """
    if not len(weights) or not all(0 <= w < float("inf") for w in weights):
        raise ConfigError(
            f"level_weights must be finite numbers of at least 0, one per level; got {[*weights]}"
        )


def _checked(levels: Tensor, scores: Tensor) -> Tensor:
    dtype = levels.dtype
    integral = not (dtype.is_floating_point or dtype.is_complex or dtype is torch.bool)
    if not integral or levels.shape != scores.shape:
        raise ShapeError(
            f"levels must be integers {list(scores.shape)}; got {dtype} {list(levels.shape)}"
        )
    return levels


def label_ranks(labels: Tensor, mask: Tensor) -> Tensor:
    """Return the number of distinct lower labels of the list for each candidate, ``[..., list]``.

    Raises:
        ConfigError: if a list has more than 64 distinct labels.
    """
    if not labels.shape[-1]:
        return labels.long()
    filled = exact_labels(labels).masked_fill(~mask, torch.inf)
    best_first, order = sort_best_first(filled)
    rising, order = best_first.flip(-1), order.flip(-1)
    new = (rising[..., 1:] != rising[..., :-1]) & rising[..., 1:].isfinite()
    ranks = torch.nn.functional.pad(new.long().cumsum(-1), (1, 0))
    if ranks.numel() and int(ranks.max()) >= _MOST:
        raise ConfigError(
            f"levels default to the distinct labels of a list, at most {_MOST}; got a list of "
            f"{int(ranks.max()) + 1}; give levels"
        )
    return torch.empty_like(ranks).scatter_(-1, order, ranks)
