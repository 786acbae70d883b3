"""Sorting that does not tell equal candidates apart, in value or in gradient."""

import torch
from torch import Tensor
from torch.nn import functional as F


def sorted_values(scores: Tensor) -> Tensor:
    """Sort each list, best first, and share the gradient of equal values evenly.

    A plain sort hands the gradient of the k-th value to one of those that tie for it, by their
    places in the list. Here all of them get the same part, so the order of the list never
    matters.

    Args:
        scores: ``[..., list]``, finite.

    Returns:
        ``[..., list]``, never growing along the list.

    Examples:
        >>> scores = torch.tensor([1.0, 2.0, 2.0], requires_grad=True)
        >>> sorted_values(scores)[0].backward()
        >>> scores.grad
        tensor([0.0000, 0.5000, 0.5000])

    Source: this project.
    """
    values = scores.sort(dim=-1, descending=True).values
    fixed = values.detach()
    group = F.pad((fixed.diff(dim=-1) != 0).long().cumsum(-1), (1, 0))
    total = torch.zeros_like(values).scatter_add(-1, group, values)
    count = torch.zeros_like(fixed).scatter_add(-1, group, torch.ones_like(fixed))
    shared = (total / count.clamp(min=1)).gather(-1, group)
    return fixed + (shared - shared.detach())  # the mean of equal numbers may be off by rounding
