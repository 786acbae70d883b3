"""The two scores at a cut of a list, the k-th and the (k+1)-th, selected without a sort."""

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from cascaderank.sorting.order import sort_ascending
from cascaderank.tensors import at_least_float32

_SORTED = 800
"""Length up to which numpy sorts lists in less time than it partitions them."""
_SIZES = 4
"""Most values of k to select by; each takes a pass over its lists, and a sort covers all."""


def cut_scores(scores: Tensor, k: Tensor, *, mask: Tensor) -> Tensor:
    """Return the k-th and the (k+1)-th largest real score of each list.

    On a CPU, long lists are partitioned in linear time; short lists, and lists of many different
    k, are sorted. The gradient of each of the two scores is shared evenly among all scores equal
    to it, so the order of the list never matters.

    Args:
        scores: ``[..., list]``, finite.
        k: ``[...]`` integers. Lists with at most k real candidates, or with k below 1, have
            undefined but finite results.
        mask: ``[..., list]`` bool.

    Returns:
        ``[..., 2]``.

    Examples:
        >>> scores, mask = torch.tensor([1.0, 4.0, 2.0, 3.0]), torch.ones(4, dtype=torch.bool)
        >>> cut_scores(scores, torch.tensor(2), mask=mask)
        tensor([3., 2.])

    Source: this project.
    """
    borders = _CutScores.apply(scores, k, mask)  # type: ignore[no-untyped-call]
    return cast("Tensor", borders)


class _CutScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: Tensor, mask: Tensor) -> Tensor:
        borders = _select(scores.masked_fill(~mask, torch.finfo(scores.dtype).min), k)
        ctx.save_for_backward(scores, mask, borders)
        return borders

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        scores, mask, borders = ctx.saved_tensors
        gradient = torch.zeros_like(scores)
        for side in range(2):
            tied = (scores == borders[..., side, None]) & mask
            share = grad_output[..., side] / tied.sum(-1).clamp(min=1)
            gradient = gradient + tied * share[..., None]
        return gradient, None, None


def _select(scores: Tensor, k: Tensor) -> Tensor:
    """Return the two scores, ``[..., 2]``, larger first."""
    length = scores.shape[-1]
    k = k.clamp(1, max(length - 1, 1))
    if scores.device.type != "cpu" or length <= _SORTED:
        return _from_sorted(scores, k)
    # numpy has no bfloat16
    lists, sizes = at_least_float32(scores).reshape(-1, length).numpy(), k.reshape(-1).numpy()
    different = np.unique(sizes)
    if len(different) > _SIZES:
        return _from_sorted(scores, k)
    borders = np.empty((len(lists), 2), dtype=lists.dtype)
    for size in different:
        chosen = slice(None) if len(different) == 1 else sizes == size
        first_dropped = length - size - 1
        parts = np.partition(lists[chosen], first_dropped, axis=-1)
        borders[chosen, 0] = parts[:, first_dropped + 1 :].min(-1)
        borders[chosen, 1] = parts[:, first_dropped]
    return torch.from_numpy(borders).view(*scores.shape[:-1], 2).to(scores.dtype)


def _from_sorted(scores: Tensor, k: Tensor) -> Tensor:
    last_kept = scores.shape[-1] - k[..., None]
    places = torch.cat([last_kept, (last_kept - 1).clamp(min=0)], -1)
    return sort_ascending(scores).gather(-1, places)
