"""The hard cascade: the candidates that each stage keeps, and their share of the ground truth.

Serving, metrics and evaluation all select with these functions, so their results agree exactly,
ties included. The rules are:

* higher scores are better, and of equal scores the candidate earlier in the list wins;
* a real candidate whose score is NaN ranks last, level with one whose score is minus infinity;
* padding is never kept, whatever its score.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.relevance import check_ground_truth, ground_truth
from cascaderank.sorting.order import sort_best_first
from cascaderank.tensors import check_mask, check_quotas


def select(scores: Tensor, quotas: Sequence[int], mask: Tensor | None = None) -> Tensor:
    """Run the cascade: each stage ranks the candidates of the previous one and keeps its quota.

    A stage that receives no more candidates than its quota keeps all of them.

    Args:
        scores: ``[stages, batch, list]`` floating point, first stage first.
        quotas: number of candidates that each stage passes on, one per stage; non-increasing.
        mask: ``[batch, list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[stages, batch, list]`` bool, ``True`` for the candidates kept by each stage.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if quotas are not positive or increase.

    Examples:
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
        >>> select(scores, (2, 1)).int().tolist()
        [[[1, 1, 0]], [[0, 1, 0]]]

    Source: this project.
    """
    if scores.dim() != 3 or scores.shape[0] < 1:
        raise ShapeError(f"scores must be [stages, batch, list]; got {list(scores.shape)}")
    quotas = check_quotas(quotas, stages=scores.shape[0])
    alive = check_mask(scores[0], mask)
    return kept_by_stages(best_first(scores), quotas, alive)


def kept_by_stages(orders: Iterable[Tensor], quotas: Sequence[int], alive: Tensor) -> Tensor:
    """Return the candidates that each stage keeps of those that the stage before it kept.

    Args:
        orders: indices of the candidates by each stage, best first, ``[..., list]`` int64 each.
        quotas: number of candidates that each stage passes on, one per stage.
        alive: ``[..., list]`` bool, candidates that the first stage receives.

    Returns:
        ``[stages, ..., list]`` bool.

    Examples:
        >>> orders = torch.tensor([[0, 1, 2], [2, 1, 0]])
        >>> kept_by_stages(orders, (2, 1), torch.tensor([True, True, True])).int().tolist()
        [[1, 1, 0], [0, 1, 0]]
    """
    kept = []
    for order, quota in zip(orders, quotas, strict=True):
        alive = keep(order, alive, quota)
        kept.append(alive)
    return torch.stack(kept)


def top(scores: Tensor, m: int, mask: Tensor | None = None) -> Tensor:
    """Return which candidates are the ``m`` best of each list.

    Args:
        scores: ``[..., list]`` floating point.
        m: number of candidates; all real candidates if there are fewer.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[..., list]`` bool.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if ``m`` is not a positive integer.

    Examples:
        >>> top(torch.tensor([1.0, 3.0, 1.0, 2.0]), 3).tolist()
        [True, True, False, True]

    Source: this project.
    """
    mask = check_mask(scores, mask)
    return keep(best_first(scores), mask, check_size(m, "m"))


def final_ranks(scores: Tensor, alive: Tensor) -> Tensor:
    """Return the rank of each candidate among those alive.

    Args:
        scores: ``[..., list]`` floating point, those of the last stage for the final list.
        alive: ``[..., list]`` bool, candidates that take part.

    Returns:
        ``[..., list]`` int64, 1 is the best; 0 for a candidate that is not alive.

    Examples:
        >>> final_ranks(torch.tensor([1.0, 3.0, 2.0]), torch.tensor([True, False, True])).tolist()
        [2, 0, 1]
    """
    order = best_first(scores)
    in_order = alive.gather(-1, order)
    ranks = in_order.cumsum(-1) * in_order
    return torch.zeros_like(ranks).scatter(-1, order, ranks)


def ranked(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Return the scores best first, NaN as minus infinity, and the index of each candidate.

    Args:
        scores: ``[..., list]`` floating point, with padding.

    Returns:
        ``(scores best first, indices)``, each ``[..., list]``.

    Examples:
        >>> ranked(torch.tensor([1.0, torch.nan, 2.0]))
        (tensor([2., 1., -inf]), tensor([2, 0, 1]))
    """
    return sort_best_first(scores.nan_to_num(-torch.inf, torch.inf, -torch.inf))


def best_first(scores: Tensor) -> Tensor:
    """Return the indices of the candidates, best first, ``[..., list]`` int64, with padding."""
    return ranked(scores)[1]


def keep(order: Tensor, alive: Tensor, quota: int) -> Tensor:
    """Return which candidates are the first ``quota`` of those alive.

    Args:
        order: ``[..., list]`` int64, indices of the candidates, best first.
        alive: ``[..., list]`` bool, candidates that take part.
        quota: number of candidates to keep.

    Returns:
        ``[..., list]`` bool.

    Examples:
        >>> order = best_first(torch.tensor([1.0, 3.0, 2.0]))
        >>> keep(order, torch.tensor([True, False, True]), 1)
        tensor([False, False,  True])
    """
    in_order = alive.gather(-1, order)
    first = in_order & (in_order.cumsum(-1) <= quota)
    return torch.zeros_like(alive).scatter(-1, order, first)


def ranked_of(scores: Tensor, mask: Tensor, retrieved: Tensor | None) -> Tensor:
    """Return which candidates have a rank: the real ones that were retrieved.

    Args:
        scores: ``[..., list]``, for the shape.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        retrieved: ``[..., list]`` bool, ``True`` for a candidate of the evaluated ranking; ``None``
            for all.

    Returns:
        ``[..., list]`` bool.

    Raises:
        ShapeError: if the shape or dtype of ``retrieved`` is not that of a mask.

    Examples:
        >>> mask, kept = torch.tensor([True, True, False]), torch.tensor([True, False, True])
        >>> ranked_of(torch.rand(3), mask, kept).tolist()
        [True, False, False]
    """
    if retrieved is None:
        return mask
    if retrieved.dtype is not torch.bool or retrieved.shape != scores.shape:
        raise ShapeError(
            f"retrieved must be bool {list(scores.shape)}, True for a candidate of the ranking; "
            f"got {retrieved.dtype} {list(retrieved.shape)}"
        )
    return mask & retrieved


def relevance_of(
    labels: Tensor, *, k: int | None, threshold: float | None, mask: Tensor | None
) -> Tensor:
    """Return the relevance of :func:`~cascaderank.relevance.ground_truth`, in float64.

    A threshold is compared in the labels' own precision, where 0.7 equals 0.7; shares of tied
    candidates are computed in double precision.

    Args:
        labels: ``[..., list]``, higher is better.
        k: size of the ground truth, the top ``k`` by label.
        threshold: smallest label that belongs to the ground truth.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[..., list]`` float64 in [0, 1]; 0 under the mask.

    Raises:
        ConfigError: if neither ``k`` nor ``threshold`` is given.

    Examples:
        >>> relevance_of(torch.tensor([2, 1, 1]), k=2, threshold=None, mask=None)
        tensor([1.0000, 0.5000, 0.5000], dtype=torch.float64)
    """
    check_ground_truth(k, threshold)
    if threshold is not None:
        reached = ground_truth(labels, threshold=threshold, mask=mask)
        if k is None:
            return reached.double()
        mask = reached.bool()
    return ground_truth(labels.double(), k=k, mask=mask)


def share(part: Tensor, ground_truth: Tensor) -> Tensor:
    """Return the share of the ground truth that a part of each list contains.

    Args:
        part: ``[..., list]`` bool.
        ground_truth: ``[..., list]`` float64, the result of :func:`relevance_of`.

    Returns:
        ``[...]`` float64 in [0, 1]; NaN for a list without ground truth.

    Examples:
        >>> share(torch.tensor([True, False, True]), torch.tensor([1.0, 0.5, 0.5]).double())
        tensor(0.7500, dtype=torch.float64)
    """
    return total(ground_truth * part) / total(ground_truth)


def total(values: Tensor) -> Tensor:
    """Return the sum over the last axis, accumulated from first to last.

    Trailing zeros do not change a bit of the result, so a list has the same sum whatever the
    padding of its batch; the order of summation of ``sum`` depends on the length.
    """
    return values.cumsum(-1)[..., -1] if values.shape[-1] else values.sum(-1)


def check_size(size: int, name: str) -> int:
    """Check and return a number of candidates.

    Raises:
        ConfigError: if it is not a positive integer.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(f"{name} must be a positive integer; got {size!r}")
    return size


def result_dtype(scores: Tensor) -> torch.dtype:
    """Return the dtype of a metric of these scores: float32, or float64 for float64 scores."""
    return torch.promote_types(scores.dtype, torch.float32)
