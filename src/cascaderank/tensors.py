"""Shape checks at the boundary, and reductions that know about padding.

The checks read shapes and dtypes only, never values: they cost nothing and wait for no device.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from cascaderank.errors import ConfigError, ShapeError, did_you_mean

Reduction = Literal["mean", "sum", "none"]


def check_lists(scores: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
    """Check lists of candidates and return their mask.

    Args:
        scores: ``[..., list]`` floating point.
        labels: ``[..., list]``.
        mask: ``[..., list]`` bool, or ``None`` if every candidate is real.

    Returns:
        The mask, ``[..., list]`` bool.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
    """
    if labels.shape != scores.shape:
        raise ShapeError(
            f"scores and labels must have one shape [..., list]; "
            f"got {list(scores.shape)} and {list(labels.shape)}"
        )
    return check_mask(scores, mask)


def check_mask(scores: Tensor, mask: Tensor | None) -> Tensor:
    """Check scores ``[..., list]`` and their mask, and return the mask.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
    """
    if scores.dim() < 1 or not scores.is_floating_point():
        raise ShapeError(
            f"scores must be floating point [..., list]; got {scores.dtype} {list(scores.shape)}"
        )
    if mask is None:  # one number for all
        return torch.ones((), dtype=torch.bool, device=scores.device).expand(scores.shape)
    if mask.dtype is not torch.bool or mask.shape != scores.shape:
        raise ShapeError(
            f"mask must be bool {list(scores.shape)}, True for a real candidate; "
            f"got {mask.dtype} {list(mask.shape)}"
        )
    return mask


def is_whole(mask: Tensor) -> bool:
    """Return whether a mask marks all there is, as far as that is known without waiting.

    What a mask would fill need not be filled then. Only a CPU is asked.
    """
    if mask.device.type != "cpu":
        return False
    if mask.numel() and not any(mask.stride()):  # one number for all
        return bool(mask[(0,) * mask.dim()])
    return bool(mask.numpy().all())  # numpy is quicker at it


def count_real(mask: Tensor) -> Tensor:
    """Return how many candidates of each list are real, ``[...]`` int64.

    Examples:
        >>> count_real(torch.tensor([[True, True, False]]))
        tensor([2])
    """
    if mask.numel() and not any(mask.stride()):  # one number for all
        return (mask[(0,) * mask.dim()].long() * mask.shape[-1]).expand(mask.shape[:-1])
    return mask.sum(-1)


def check_cascade(
    scores: Tensor, labels: Tensor, quotas: Sequence[int] | None, mask: Tensor | None
) -> Tensor:
    """Check the scores of a cascade and return its mask.

    Args:
        scores: ``[stages, batch, list]`` floating point, first stage first.
        labels: ``[batch, list]``.
        quotas: how many candidates each stage passes on, one per stage; ``None`` if not needed.
        mask: ``[batch, list]`` bool, or ``None`` if every candidate is real.

    Returns:
        The mask, ``[batch, list]`` bool.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if quotas are not positive or grow.
    """
    if scores.dim() != 3 or scores.shape[0] < 1:
        raise ShapeError(f"scores must be [stages, batch, list]; got {list(scores.shape)}")
    if labels.shape != scores.shape[1:]:
        raise ShapeError(
            f"labels must be [batch, list] = {list(scores.shape[1:])}; got {list(labels.shape)}"
        )
    if quotas is not None:
        check_quotas(quotas, stages=scores.shape[0])
    return check_mask(scores[0], mask)


def check_quotas(quotas: Sequence[int], *, stages: int) -> tuple[int, ...]:
    """Return the quotas as a tuple, one positive integer per stage, never growing.

    Raises:
        ShapeError: if there is not one quota per stage.
        ConfigError: if a quota is not a positive integer, or a later stage keeps more.

    Examples:
        >>> check_quotas([30, 20], stages=2)
        (30, 20)
    """
    quotas = tuple(quotas)
    if len(quotas) != stages:
        raise ShapeError(f"one quota per stage: got {len(quotas)} quotas for {stages} stages")
    whole = all(isinstance(q, int) and not isinstance(q, bool) and q >= 1 for q in quotas)
    if not whole or any(a < b for a, b in pairwise(quotas)):
        raise ConfigError(f"quotas must be positive and never grow; got {list(quotas)}")
    return quotas


def reduce_lists(per_list: Tensor, reduction: Reduction) -> Tensor:
    """Reduce one value per list to what a loss returns.

    Args:
        per_list: one value per list, any shape.
        reduction: ``"mean"`` and ``"sum"`` give a scalar, ``"none"`` gives ``per_list`` back.

    Raises:
        ConfigError: if the reduction is unknown.
    """
    known = get_args(Reduction)
    if reduction not in known:
        raise ConfigError(
            f"no reduction called '{reduction}'{did_you_mean(str(reduction), known)}; "
            f"there are {', '.join(known)}"
        )
    if reduction == "none":
        return per_list
    # An empty batch costs nothing; torch would say that its mean is NaN.
    return per_list.mean() if reduction == "mean" and per_list.numel() else per_list.sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the last axis of what the mask marks; 0 where it marks nothing.

    ``values`` must be finite under the mask: fill inputs before they are computed with, since a
    NaN that is masked here would still reach the gradient.

    Examples:
        >>> masked_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        tensor(2.)
    """
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Turn mixed precision off where it is on; asking takes less than a short list does.

    What comes in may be narrow: bring it to :func:`at_least_float32`.
    """
    kind = like.device.type
    on = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


def at_least_float32(values: Tensor) -> Tensor:
    """Return float32 and float64 as they are and anything narrower as float32, to compute in.

    Examples:
        >>> at_least_float32(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
