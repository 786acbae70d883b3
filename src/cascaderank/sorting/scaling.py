"""Scores brought to one scale, so that no temperature and no score overflows."""

from typing import NamedTuple

import torch
from torch import Tensor

from cascaderank.tensors import count_real, is_whole

SMALLEST_SPREAD = 1e-3
"""Lists whose scores differ by less are treated as if they differed by as much: otherwise a
temperature relative to the spread would blow up the gradient of a list of equal scores."""


class ScaledLists(NamedTuple):
    """Scores in [-1, 1] and what to multiply them with."""

    unit: Tensor
    """``[..., list]``: the scores, centred and divided by half their range; 0 under the mask."""
    gain: Tensor
    """``[..., 1]``: half the range over the temperature; bounded."""


def scale_lists(scores: Tensor, temperature: Tensor, mask: Tensor) -> ScaledLists:
    """Split ``(scores - centre) / temperature`` into ``unit * gain``, neither of which overflows.

    The operators that use it do not change when a constant is added to all scores, and half the
    range cancels. So both may be constants to the gradient, and the gradient is still exact.

    Below the temperature at which even scores that differ by rounding are told apart, colder is
    no different; the gain stops there.
    """
    limits = torch.finfo(scores.dtype)
    whole = is_whole(mask)
    with torch.no_grad():
        high = (scores if whole else scores.masked_fill(~mask, -torch.inf)).amax(-1, keepdim=True)
        low = (scores if whole else scores.masked_fill(~mask, torch.inf)).amin(-1, keepdim=True)
        empty = high < low
        centre = (high / 2 + low / 2).masked_fill(empty, 0.0)
        half = (high / 2 - low / 2).masked_fill(empty, 0.0).clamp(min=limits.tiny / limits.eps)
        coldest = half * limits.eps**2
    unit = (scores - centre) / half
    unit = unit if whole else unit.masked_fill(~mask, 0.0)
    return ScaledLists(unit, half / torch.maximum(temperature[..., None], coldest))


def spread(scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean absolute deviation of each list's real scores, ``[...]``, never quite 0.

    Source: this project.
    """
    share = mask / count_real(mask)[..., None].clamp(min=1)
    mean = (scores * share).sum(-1, keepdim=True)
    deviation = ((scores - mean).abs() * share).sum(-1)
    return deviation.clamp(min=SMALLEST_SPREAD)
