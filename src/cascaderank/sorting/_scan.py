"""Sums of what decays along a list, from either end."""

import torch
from torch import Tensor
from torch.nn import functional as F

_STEP = 32
"""How many are summed one after the other; blocks of as many are then summed in the same way."""


def sums_from_left(decay: Tensor, terms: Tensor) -> Tensor:
    """Return ``y_i = decay_i y_(i-1) + terms_i`` along the last axis, starting with ``terms_0``.

    Nothing is learned through it. With decays in [0, 1] and positive terms nothing overflows or
    cancels. Takes O(n) time and memory, and as many calls as there are digits of n to base 32,
    times 32.

    Args:
        decay: ``[..., list]``; the first one is not looked at.
        terms: ``[..., list]``.

    Examples:
        >>> sums_from_left(torch.tensor([0.0, 0.5, 0.5]), torch.tensor([4.0, 1.0, 1.0]))
        tensor([4.0000, 3.0000, 2.5000])
    """
    length = terms.shape[-1]
    if length <= 2 * _STEP:
        sums = terms.movedim(-1, 0).clone(memory_format=torch.contiguous_format)
        decays = decay.movedim(-1, 0)
        for i in range(1, length):
            sums[i].addcmul_(decays[i], sums[i - 1])
        return sums.movedim(0, -1)
    decays, sums = _in_steps(decay), _in_steps(terms)
    for i in range(1, _STEP):
        sums[i].addcmul_(decays[i], sums[i - 1])
        decays[i].mul_(decays[i - 1])
    before = sums_from_left(decays[-1], sums[-1])[..., :-1]
    sums.addcmul_(decays, F.pad(before, (1, 0)))
    return sums.movedim(0, -1).flatten(-2)[..., :length]


def sums_from_right(decay: Tensor, terms: Tensor) -> Tensor:
    """Return ``y_i = decay_(i+1) y_(i+1) + terms_i`` along the last axis, ending with a term."""
    turned = decay.flip(-1).roll(1, -1)
    return sums_from_left(turned, terms.flip(-1)).flip(-1)


def _in_steps(values: Tensor) -> Tensor:
    """Return ``[step, ..., block]``, where a step is the next in all blocks; a copy."""
    filled = F.pad(values, (0, -values.shape[-1] % _STEP))
    steps = filled.view(*values.shape[:-1], -1, _STEP).movedim(-1, 0)
    return steps.clone(memory_format=torch.contiguous_format)
