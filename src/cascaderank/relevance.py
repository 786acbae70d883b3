"""Relevance of candidates: the ground truth of each list, and the gains of labels."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.sorting.order import sort_ascending
from cascaderank.tensors import check_mask, exact_labels, is_whole, undefined_lists

Gain = Literal["exponential", "linear"]


def check_ground_truth(k: int | None, threshold: float | None) -> None:
    """Check that the ground truth is defined by ``k``, by ``threshold``, or by both.

    Raises:
        ConfigError: if none is given, ``k`` is not a positive integer, or ``threshold`` is not
            finite.
    """
    if k is None and threshold is None:
        raise ConfigError(
            "the ground truth must be defined by k, the top k by label, by threshold, the smallest "
            "relevant label, or by both; got neither"
        )
    if k is not None and (not isinstance(k, int) or isinstance(k, bool) or k < 1):
        raise ConfigError(f"k, the size of the ground truth, must be a positive integer; got {k}")
    if threshold is not None and not math.isfinite(threshold):
        raise ConfigError(f"threshold must be a finite number; got {threshold}")


def ground_truth(
    labels: Tensor,
    *,
    k: int | None = None,
    threshold: float | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Return the relevance of each candidate: its membership in the ground truth of its list.

    With ``k``, candidates of equal label that compete for the last places share them: two that tie
    for one place get one half each. The relevance of a list therefore always adds up to ``k`` (or
    to the number of real candidates, if there are fewer), and the order of the list never matters.
    With both ``k`` and ``threshold``, only candidates that reach the threshold compete.

    Args:
        labels: ``[..., list]``, higher is better.
        k: size of the ground truth, the top ``k`` by label.
        threshold: smallest label that belongs to the ground truth.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[..., list]`` of the labels' dtype (float32 for integers), in [0, 1]; 0 under the mask.
        All real candidates of a list with a NaN label are NaN: its ground truth is undefined.

    Raises:
        ConfigError: if neither ``k`` nor ``threshold`` is given.

    Examples:
        >>> ground_truth(torch.tensor([3.0, 1.0, 2.0, 1.0]), k=3)
        tensor([1.0000, 0.5000, 1.0000, 0.5000])
        >>> ground_truth(torch.tensor([3.0, 1.0, 2.0, 1.0]), threshold=2)
        tensor([1., 0., 1., 0.])
        >>> ground_truth(torch.tensor([3.0, 1.0, 2.0, 1.0]), k=3, threshold=2)
        tensor([1., 0., 1., 0.])

    Source: this project.
    """
    check_ground_truth(k, threshold)
    mask = check_mask(labels if labels.is_floating_point() else labels.float(), mask)
    dtype = labels.dtype if labels.is_floating_point() else torch.float32
    labels = exact_labels(labels.detach())
    undefined = undefined_lists(labels, mask)
    if undefined is not None:
        undefined = undefined[..., None] & mask
    if threshold is not None:
        mask = mask & (labels >= threshold)
        if k is None:
            return _undefined_to_nan(mask.to(dtype), undefined)
    if labels.shape[-1] == 0:
        return labels.to(dtype)
    whole, size = is_whole(mask), min(k or 1, labels.shape[-1])
    labels = labels if whole else labels.masked_fill(~mask, -torch.inf)
    rising = sort_ascending(labels)
    last = rising[..., -size:][..., :1]  # the k-th best label
    if whole and is_whole(last > rising[..., -size - 1 : -size]):  # no ties at the cut-off
        return _undefined_to_nan((labels >= last).to(dtype), undefined)
    # A list with fewer than k real candidates has -inf here, and every real one is above it.
    better, tied = (labels > last) & mask, (labels == last) & mask
    left = (k or 1) - better.sum(-1, keepdim=True)
    share = left.to(dtype) / tied.sum(-1, keepdim=True).clamp(min=1)
    return _undefined_to_nan(better.to(dtype) + tied * share.clamp(max=1.0), undefined)


def _undefined_to_nan(relevance: Tensor, undefined: Tensor | None) -> Tensor:
    return relevance if undefined is None else relevance.masked_fill(undefined, torch.nan)


def relative_gains(labels: Tensor, gain: Gain, mask: Tensor) -> Tensor:
    """Return the gains of labels, ``2^y - 1`` or ``y``, relative to about that of the list's best.

    The divisor is ``2^best`` for the exponential gain and the best label for the linear one, so
    that large labels do not overflow.

    Args:
        labels: ``[..., list]``, at least 0; higher is better.
        gain: ``"exponential"`` for graded labels, ``"linear"`` for labels that are gains.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.

    Returns:
        ``[..., list]`` float64, in [0, 1] if labels are at least 0; 0 under the mask.

    Raises:
        ConfigError: if ``gain`` is unknown.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> relative_gains(labels, "exponential", torch.tensor([True, True, True]))
        tensor([0.7500, 0.2500, 0.0000], dtype=torch.float64)

    Source: this project.
    """
    known = get_args(Gain)
    if gain not in known:
        raise ConfigError(
            f"no gain called '{gain}'{did_you_mean(str(gain), known)}; there are {', '.join(known)}"
        )
    labels = labels.double().masked_fill(~mask, 0.0)
    if labels.shape[-1] == 0:
        return labels
    best = labels.amax(-1, keepdim=True)
    if gain == "linear":
        return labels / best.masked_fill(best == 0, 1.0)
    # (2^y - 1) / 2^best = 2^(y - best) (1 - 2^-y): no term can overflow or cancel.
    return torch.exp2(labels - best) * -torch.expm1(-labels * math.log(2))
