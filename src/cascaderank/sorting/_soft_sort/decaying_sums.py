"""Exponentially decaying sums along a list, from either end."""

import torch
from torch import Tensor


def sums_from_ends(decay: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums that decay from place to place, from the left and from the right.

    ``y_i = decay_i y_(i-1) + terms_i`` starting with ``terms_0``, and ``z_i = decay_(i+1) z_(i+1) +
    terms_i`` ending with the last term. Sums are built over one place, then two, four and so on,
    which takes O(n log n) time, few calls and O(n) memory. No gradient flows through the result.
    With decays in [0, 1] and positive terms nothing overflows or cancels.

    Args:
        decay: ``[..., list]``; the first value is unused.
        terms: ``[..., list]``.

    Examples:
        >>> sums_from_ends(torch.tensor([0.0, 0.5, 0.5]), torch.tensor([4.0, 1.0, 1.0]))
        (tensor([4.0000, 3.0000, 2.5000]), tensor([4.7500, 1.5000, 1.0000]))
    """
    from_left = terms.clone(memory_format=torch.contiguous_format)
    from_right = from_left.clone()
    step, across = 1, decay[..., 1:]  # decay over a distance of ``step`` places
    while step < terms.shape[-1]:
        from_left[..., step:] += across * from_left[..., :-step]
        from_right[..., :-step] += across * from_right[..., step:]
        across = across[..., step:] * across[..., :-step]
        step *= 2
    return from_left, from_right


def sums_of_others(decay: Tensor, terms: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of :func:`sums_from_ends` without the term of the place itself.

    Computing them directly preserves small sums beside a large term.

    Examples:
        >>> sums_of_others(torch.tensor([0.0, 0.5, 0.5]), torch.tensor([4.0, 1.0, 1.0]))
        (tensor([0.0000, 2.0000, 1.5000]), tensor([0.7500, 0.5000, 0.0000]))
    """
    from_left, from_right = sums_from_ends(decay, terms)
    above, below = torch.zeros_like(from_left), torch.zeros_like(from_right)
    torch.mul(decay[..., 1:], from_left[..., :-1], out=above[..., 1:])
    torch.mul(decay[..., 1:], from_right[..., 1:], out=below[..., :-1])
    return above, below
