"""In which order requests are seen: a function of the seed and the epoch alone."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["shuffled", "days"]
"""``"shuffled"``: by chance. ``"days"``: days one after another, by chance inside each."""

Rows = NDArray[np.int64]

_POOL = 50  # batches among which requests are sorted by length, at most


def ordered(
    rows: Rows, *, seed: int | None, epoch: int, days: NDArray[np.int32] | None = None
) -> Rows:
    """Return the rows in the order of an epoch.

    Args:
        rows: in the log.
        seed: of the order; ``None`` for the order of ``rows``, inside each day if there are days.
        epoch: counted from 0; each has an order of its own.
        days: of all rows of the log; given, earlier days come first.

    Returns:
        Each of ``rows`` once.

    Examples:
        >>> days = np.array([9, 8, 9, 8], dtype=np.int32)
        >>> ordered(np.arange(4), seed=None, epoch=0, days=days).tolist()
        [1, 3, 0, 2]

    Source: this project; learning day by day is what LCRON's paper does on RecFlow.
    """
    if seed is not None:
        rows = rows[np.random.default_rng([seed, epoch]).permutation(len(rows))]
    return rows if days is None else rows[days[rows].argsort(kind="stable")]


def bucketed(
    rows: Rows,
    *,
    lengths: NDArray[np.integer[Any]],
    batch_size: int,
    seed: int,
    epoch: int,
    days: NDArray[np.int32] | None = None,
) -> Rows:
    """Return the rows of an epoch with lists of like length in one batch.

    Some batches at a time, fifty or half of all, are sorted by length, cut again, and shuffled as
    batches. What a batch holds is thus no longer chance alone, but a new epoch mixes it anew. A
    last batch that is not full, and one with requests of two days, stays as it is.

    Args:
        rows: in the order that :func:`ordered` gives.
        lengths: of the lists of all requests of the log.
        batch_size: requests per batch.
        seed: of the order of batches.
        epoch: counted from 0.
        days: of all rows of the log; given, no request changes its place with one of another day.

    Returns:
        Each of ``rows`` once, to be cut into batches of ``batch_size``.

    Examples:
        >>> lengths = np.array([9, 1, 8, 2])
        >>> rows = bucketed(np.arange(4), lengths=lengths, batch_size=2, seed=0, epoch=0)
        >>> sorted(sorted(batch) for batch in rows.reshape(2, 2).tolist())
        [[0, 2], [1, 3]]

    Source: this project; sorting inside a pool is common in machine translation.
    """
    full = len(rows) // batch_size
    if not full:
        return rows
    rows = rows.copy()
    batches = rows[: full * batch_size].reshape(full, batch_size)
    of_day = np.zeros_like(batches, dtype=np.int32) if days is None else days[batches]
    within = np.flatnonzero(of_day[:, 0] == of_day[:, -1])
    pool = _pools(of_day[within, 0])
    places = batches[within].ravel()
    by_length = np.lexsort((lengths[places], np.repeat(pool, batch_size)))
    alike = places[by_length].reshape(-1, batch_size)
    chance = np.random.default_rng([seed, epoch, 1]).random(len(pool))
    batches[within] = alike[np.lexsort((chance, pool))]
    return rows


def _pools(days: NDArray[np.int32]) -> Rows:
    """Number batches that follow one another by pool: of one day, and of at most half of it."""
    _, starts, batches = np.unique(days, return_index=True, return_counts=True)
    place = np.arange(len(days)) - np.repeat(starts, batches)
    # In a single pool all epochs would have the same batches.
    return np.cumsum(place % np.repeat(np.clip(batches // 2, 2, _POOL), batches) == 0)
