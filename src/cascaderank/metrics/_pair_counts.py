"""Counts of pairs that a ranking gets right, for the metrics that are made of them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_CELLS = 2**22
"""How many pairs are looked at in one go: bounds memory to some tens of MB."""


class PairCounts(NamedTuple):
    """Counts of unordered pairs of real candidates, each ``[...]`` float64."""

    right: Tensor
    """The better label has the higher score."""
    wrong: Tensor
    """The better label has the lower score."""
    tied_scores: Tensor
    """Labels differ and scores do not."""
    tied_labels: Tensor
    """Scores differ and labels do not."""
    tied_both: Tensor
    """Neither differs."""


def count_pairs(scores: Tensor, labels: Tensor, mask: Tensor) -> PairCounts:
    """Count the pairs of each list by how scores and labels order them.

    Takes O(L^2) time, and memory that does not grow with the number of lists.

    Args:
        scores: ``[..., list]``; NaN ranks last.
        labels: ``[..., list]``.
        mask: ``[..., list]`` bool.
    """
    shape, length = scores.shape[:-1], scores.shape[-1]
    scores = scores.masked_fill(scores.isnan(), -torch.inf)
    scores, labels, mask = (x.reshape(math.prod(shape), length) for x in (scores, labels, mask))
    counts = torch.zeros(len(scores), 5, dtype=torch.float64, device=scores.device)
    lists = max(1, _CELLS // max(1, length * length))
    rows = max(1, min(length, _CELLS // max(1, length)))
    for i in range(0, len(scores), lists):
        s, y, real = (x[i : i + lists] for x in (scores, labels, mask))
        for j in range(0, length, rows):
            counts[i : i + lists] += _counts_of(s, y, real, slice(j, j + rows))
    counts[:, 4] -= mask.sum(-1)  # nobody is paired with itself
    right, wrong, *tied = counts.T.reshape(5, *shape)
    # The last three are symmetric, and were counted from both ends.
    return PairCounts(right, wrong, *(t / 2 for t in tied))


def _counts_of(scores: Tensor, labels: Tensor, mask: Tensor, rows: slice) -> Tensor:
    """Count the pairs of some candidates with all, ``[lists, 5]``."""
    s, y, real = (x[:, rows, None] for x in (scores, labels, mask))
    real = real & mask[:, None]
    better, worse = (y > labels[:, None]) & real, (y < labels[:, None]) & real
    alike = real & ~better & ~worse
    above, same = s > scores[:, None], s == scores[:, None]
    below = ~above & ~same
    found = (better & above, better & below, better & same | worse & same, alike & ~same)
    return torch.stack([x.sum((-1, -2)) for x in (*found, alike & same)], -1).double()
