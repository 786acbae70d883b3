"""Counts of concordant and discordant pairs, for pairwise metrics."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_CELLS = 2**22
"""Number of pairs that are processed at once: bounds memory to some tens of MB."""


class PairCounts(NamedTuple):
    """Counts of unordered pairs of real candidates, each ``[...]`` float64."""

    right: Tensor
    """Concordant: the higher label has the higher score."""
    wrong: Tensor
    """Discordant: the higher label has the lower score."""
    tied_scores: Tensor
    """Labels differ and scores are equal."""
    tied_labels: Tensor
    """Scores differ and labels are equal."""
    tied_both: Tensor
    """Scores and labels are equal."""


def count_pairs(scores: Tensor, labels: Tensor, mask: Tensor) -> PairCounts:
    """Count the pairs of each list by the order of their scores and labels.

    Takes O(L^2) time, and memory independent of the number of lists.

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
    counts[:, 4] -= mask.sum(-1)  # no candidate forms a pair with itself
    right, wrong, *tied = counts.T.reshape(5, *shape)
    # The last three are symmetric, so each pair was counted twice.
    return PairCounts(right, wrong, *(t / 2 for t in tied))


def _counts_of(scores: Tensor, labels: Tensor, mask: Tensor, rows: slice) -> Tensor:
    """Count the pairs of the candidates in ``rows`` with all candidates, ``[lists, 5]``."""
    s, y, real = (x[:, rows, None] for x in (scores, labels, mask))
    real = real & mask[:, None]
    better, worse = (y > labels[:, None]) & real, (y < labels[:, None]) & real
    alike = real & ~better & ~worse
    above, same = s > scores[:, None], s == scores[:, None]
    below = ~above & ~same
    kinds = (
        better & above,
        better & below,
        better & same | worse & same,
        alike & ~same,
        alike & same,
    )
    return torch.stack([kind.sum((-1, -2)) for kind in kinds], -1).double()
