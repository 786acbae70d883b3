"""The cut of one stage for one list, equal to that of :mod:`cascaderank.selection`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.int64]


def kept_places(scores: NDArray[np.floating[Any]], quota: int) -> Places:
    """Return the positions of the ``quota`` best scores, ascending.

    Of equal scores the earlier candidate is kept, and NaN counts as minus infinity, as in
    :func:`cascaderank.selection.select`.

    Args:
        scores: ``[candidates]``.
        quota: number of candidates to keep.

    Examples:
        >>> kept_places(np.array([1.0, 3.0, 1.0, 2.0]), 3).tolist()
        [0, 1, 3]
    """
    if quota >= len(scores):
        return np.arange(len(scores))
    scores = _ordered(scores)
    last = np.partition(scores, len(scores) - quota)[len(scores) - quota]
    kept = scores > last
    ties = np.flatnonzero(scores == last)
    kept[ties[: quota - np.count_nonzero(kept)]] = True
    return np.flatnonzero(kept)


def best_first(scores: NDArray[np.floating[Any]]) -> Places:
    """Return the positions of the candidates, best first; of equal scores the earlier first.

    Args:
        scores: ``[candidates]``.

    Examples:
        >>> best_first(np.array([1.0, 3.0, np.nan, 3.0])).tolist()
        [1, 3, 0, 2]
    """
    return np.argsort(-_ordered(scores), kind="stable")


def _ordered(scores: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    missing = np.isnan(scores)
    return np.where(missing, -np.inf, scores) if missing.any() else scores
