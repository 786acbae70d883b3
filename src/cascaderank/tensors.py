"""Shape checks at the boundary, and reductions over padded lists.

The checks read shapes and dtypes only, never values: they cost nothing and never synchronise with a
device.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from cascaderank.errors import ConfigError, ShapeError, did_you_mean

Reduction = Literal["mean", "sum", "none"]

_WIDE_INTEGERS = (torch.int32, torch.int64, torch.uint32, torch.uint64)
"""Integers that float32 does not represent exactly."""


def check_lists(scores: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
    """Check lists of candidates and return their mask.

    Args:
        scores: ``[..., list]`` floating point.
        labels: ``[..., list]``.
        mask: ``[..., list]`` bool, or ``None`` if every candidate is real.

    Returns:
        The mask, ``[..., list]`` bool.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
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
        ShapeError: if shapes or dtypes do not agree.
    """
    if scores.dim() < 1 or not scores.is_floating_point():
        raise ShapeError(
            f"scores must be floating point [..., list]; got {scores.dtype} {list(scores.shape)}"
        )
    if mask is None:  # one element, expanded
        return torch.ones((), dtype=torch.bool, device=scores.device).expand(scores.shape)
    if mask.dtype is not torch.bool or mask.shape != scores.shape:
        raise ShapeError(
            f"mask must be bool {list(scores.shape)}, True for a real candidate; "
            f"got {mask.dtype} {list(mask.shape)}"
        )
    return mask


def is_whole(mask: Tensor) -> bool:
    """Return whether a mask is ``True`` everywhere, as far as known without a synchronisation.

    Nothing needs to be filled under such a mask. On devices other than the CPU the result is always
    ``False``.
    """
    if mask.device.type != "cpu":
        return False
    if mask.numel() and not any(mask.stride()):  # one element, expanded
        return bool(mask[(0,) * mask.dim()])
    return bool(mask.numpy().all())  # faster in numpy


def finite_scores(scores: Tensor) -> Tensor:
    """Return scores in at least float32, with infinities replaced by the largest finite numbers.

    A score of minus infinity, as of candidates that must not be chosen, is then the worst of all
    scores: differences and products with it are not NaN. It receives no gradient.

    Examples:
        >>> finite_scores(torch.tensor([1.0, -torch.inf]))
        tensor([ 1.0000e+00, -3.4028e+38])
    """
    scores = at_least_float32(scores)
    if scores.device.type == "cpu":
        values = scores.detach().numpy()
        if not values.size or (np.isfinite(values.min()) and np.isfinite(values.max())):
            return scores
    limits = torch.finfo(scores.dtype)
    return scores.clamp(limits.min, limits.max)


def below_best(scores: Tensor, mask: Tensor) -> Tensor:
    """Return scores minus the best real one of their list, ``[..., list]``; 0 under the mask.

    Means and sums of the result do not lose a difference beside an offset that all scores have in
    common. The best score is a constant to the gradient.

    Examples:
        >>> below_best(torch.tensor([1e6, 1e6 + 1, 0.0]), torch.tensor([True, True, False]))
        tensor([-1.,  0.,  0.])
    """
    filled = scores.masked_fill(~mask, 0.0)
    if not scores.shape[-1]:
        return filled
    best = scores.detach().masked_fill(~mask, torch.finfo(scores.dtype).min)
    return (filled - best.amax(-1, keepdim=True)).masked_fill(~mask, 0.0)


def undefined_lists(labels: Tensor, mask: Tensor) -> Tensor | None:
    """Return which lists have a NaN label, ``[...]`` bool; ``None`` if certainly none has.

    The rule of all losses and metrics: the result of such a list is NaN, since its order, its
    ground truth and its gains are undefined. What lies under the mask has no effect.

    Args:
        labels: ``[..., list]``.
        mask: ``[..., list]`` bool.

    Examples:
        >>> labels, mask = torch.tensor([[1.0, torch.nan]] * 2), torch.tensor([[True, False]] * 2)
        >>> undefined_lists(labels, torch.ones_like(mask)).tolist()
        [True, True]
        >>> undefined_lists(labels, mask).tolist()
        [False, False]
    """
    if not labels.is_floating_point():
        return None
    if labels.device.type == "cpu" and not (labels.numel() and bool(labels.amin().isnan())):
        return None  # one pass: the minimum of a tensor with a NaN is NaN
    return (labels.isnan() & mask).any(-1)


def undefined_to_nan(values: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Return the values of lists, ``[...]``, with NaN for each list that has a NaN label.

    See :func:`undefined_lists`. Functions that multiply labels do not need it; those that only
    compare labels do, because every comparison with NaN is false.
    """
    undefined = undefined_lists(labels, mask)
    return values if undefined is None else values.masked_fill(undefined, torch.nan)


def exact_labels(labels: Tensor) -> Tensor:
    """Return labels as floating point numbers that compare exactly as the labels do.

    Floating point labels are unchanged. Integers of 32 and 64 bits become float64, because float32
    has the same value for 2^24 and 2^24 + 1; beyond 2^53 float64 rounds them, too.

    Examples:
        >>> exact_labels(torch.tensor([2**24, 2**24 + 1])).diff()
        tensor([1.], dtype=torch.float64)
    """
    if labels.is_floating_point():
        return labels
    return labels.double() if labels.dtype in _WIDE_INTEGERS else labels.float()


def count_real(mask: Tensor) -> Tensor:
    """Return the number of real candidates of each list, ``[...]`` int64.

    Examples:
        >>> count_real(torch.tensor([[True, True, False]]))
        tensor([2])
    """
    if mask.numel() and not any(mask.stride()):  # one element, expanded
        return (mask[(0,) * mask.dim()].long() * mask.shape[-1]).expand(mask.shape[:-1])
    return mask.sum(-1)


def check_cascade(
    scores: Tensor, labels: Tensor, quotas: Sequence[int] | None, mask: Tensor | None
) -> Tensor:
    """Check the scores of a cascade and return its mask.

    Args:
        scores: ``[stages, batch, list]`` floating point, first stage first.
        labels: ``[batch, list]``.
        quotas: number of candidates that each stage passes on, one per stage; ``None`` if unused.
        mask: ``[batch, list]`` bool, or ``None`` if every candidate is real.

    Returns:
        The mask, ``[batch, list]`` bool.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if quotas are not positive or increase.
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
    """Return the quotas as a tuple: one positive integer per stage, non-increasing.

    Raises:
        ShapeError: if the number of quotas differs from the number of stages.
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
    """Reduce the values of the lists to the result of a loss.

    Args:
        per_list: one value per list, any shape.
        reduction: ``"mean"`` or ``"sum"`` for a scalar, ``"none"`` for ``per_list`` unchanged.

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
    # The loss of an empty batch is 0; torch's mean would be NaN.
    return per_list.mean() if reduction == "mean" and per_list.numel() else per_list.sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over the last axis where the mask is true; 0 if it is true nowhere.

    ``values`` must be finite under the mask. Fill the inputs before the computation: a NaN that is
    masked only here still reaches the gradient.

    Examples:
        >>> masked_mean(torch.tensor([1.0, 3.0, 9.0]), torch.tensor([True, True, False]))
        tensor(2.)
    """
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Return a context that disables autocast on the device of ``like``, if it is enabled.

    Checking costs less than the computation of a short list. Inputs may still be narrow; convert
    them by :func:`at_least_float32`.
    """
    kind = like.device.type
    on = kind != "meta" and torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


def at_least_float32(values: Tensor) -> Tensor:
    """Return float32 and float64 unchanged, and narrower dtypes as float32, for computation.

    Examples:
        >>> at_least_float32(torch.ones(2, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
