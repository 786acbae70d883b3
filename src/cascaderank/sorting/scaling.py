"""Normalised scores, so that no temperature and no score overflows."""

from typing import NamedTuple

import torch
from torch import Tensor

from cascaderank.tensors import count_real, is_whole

SMALLEST_SPREAD = 1e-3
"""Lower bound of the spread of a list. Without it, a temperature relative to the spread would
blow up the gradient of a list of (nearly) equal scores."""


class ScaledLists(NamedTuple):
    """Scores in [-1, 1] and their scale factor."""

    unit: Tensor
    """``[..., list]``: the scores, centred and divided by half their range; 0 under the mask."""
    gain: Tensor
    """``[..., 1]``: half the range divided by the temperature; bounded."""


def scale_lists(scores: Tensor, temperature: Tensor, mask: Tensor) -> ScaledLists:
    """Split ``(scores - centre) / temperature`` into ``unit * gain``, neither of which overflows.

    The operators that use it are invariant to adding a constant to all scores, and half the range
    cancels in the product. Both may therefore be constants to the gradient, which is still exact.

    The gain is bounded: at the smallest temperature allowed, even scores that differ only by
    rounding are fully separated, and a smaller one would change nothing.

    Args:
        scores: ``[..., list]``, 0 under the mask.
        temperature: ``[...]``, positive.
        mask: ``[..., list]`` bool.
    """
    limits = torch.finfo(scores.dtype)
    whole = is_whole(mask)
    with torch.no_grad():
        high = (scores if whole else scores.masked_fill(~mask, -torch.inf)).amax(-1, keepdim=True)
        low = (scores if whole else scores.masked_fill(~mask, torch.inf)).amin(-1, keepdim=True)
        empty = high < low
        centre = (high / 2 + low / 2).masked_fill(empty, 0.0)
        half = (high / 2 - low / 2).masked_fill(empty, 0.0).clamp(min=limits.tiny / limits.eps)
        lowest = half * limits.eps**2
    unit = (scores - centre) / half
    unit = unit if whole else unit.masked_fill(~mask, 0.0)
    return ScaledLists(unit, half / torch.maximum(temperature[..., None], lowest))


def spread(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute deviation of each list's real scores, ``[...]``, always positive.

    Source: this project.
    """
    share = mask / count_real(mask)[..., None].clamp(min=1)
    mean = (scores * share).sum(-1, keepdim=True)
    deviation = ((scores - mean).abs() * share).sum(-1)
    return deviation.clamp(min=SMALLEST_SPREAD)
