"""Order of the requests in an epoch; depends only on the seed and the epoch."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import DataError

Order = Literal["shuffled", "days"]
"""``"shuffled"``: random order. ``"days"``: days in order, random inside each day."""

Rows = NDArray[np.int64]

_POOL = 50  # maximum number of batches among which requests are sorted by length


def ordered(
    rows: Rows, *, seed: int | None, epoch: int, days: NDArray[np.int32] | None = None
) -> Rows:
    """Return the rows in the order of an epoch.

    Args:
        rows: row numbers of requests in the log.
        seed: seed of the order; ``None`` for the order of ``rows``, with ``days`` inside each day.
        epoch: number of the epoch, from 0; each epoch has another order.
        days: day of every request of the log; with it, earlier days come first. Default: no days.

    Returns:
        A permutation of ``rows``.

    Examples:
        >>> days = np.array([9, 8, 9, 8], dtype=np.int32)
        >>> ordered(np.arange(4), seed=None, epoch=0, days=days).tolist()
        [1, 3, 0, 2]

    Source: this project; the LCRON paper trains day by day on RecFlow.
    """
    if seed is not None:
        rows = rows[np.random.default_rng([seed, epoch]).permutation(len(rows))]
    return rows if days is None else rows[days[rows].argsort(kind="stable")]


def resampled(rows: Rows, weights: NDArray[np.float32], *, seed: int, epoch: int) -> Rows:
    """Return as many rows, in which each request occurs in proportion to its weight.

    A request with ``c`` times the mean weight occurs ``floor(c)`` or ``ceil(c)`` times, ``c`` times
    on average over epochs, so that the expected loss of an epoch is the weighted mean. With equal
    weights, each request occurs once.

    Args:
        rows: row numbers of requests in the log.
        weights: weight of every request of the log, at least 0.
        seed: seed of the draw.
        epoch: number of the epoch, from 0; each epoch is another draw.

    Returns:
        Row numbers in the order of ``rows``, with repetitions.

    Raises:
        DataError: if all weights are 0.

    Examples:
        >>> weights = np.array([1, 1, 0, 2], dtype=np.float32)
        >>> resampled(np.arange(4), weights, seed=0, epoch=0).tolist()
        [0, 1, 3, 3]

    Source: systematic resampling, Kitagawa 1996.
    """
    own = weights[rows].astype(np.float64)
    if not own.any():
        raise DataError(
            "all training requests have weight 0; set positive weights, or prepare the log without"
        )
    start = np.random.default_rng([seed, epoch, 2]).random()
    ends = np.floor(np.cumsum(own) * (len(rows) / own.sum()) + start).astype(np.int64)
    ends[-1] = len(rows)
    return np.repeat(rows, np.diff(ends, prepend=0))


def bucketed(
    rows: Rows,
    *,
    lengths: NDArray[np.integer[Any]],
    batch_size: int,
    seed: int,
    epoch: int,
    days: NDArray[np.int32] | None = None,
) -> Rows:
    """Return the rows of an epoch with lists of similar length in the same batch.

    The batches (of each day, with ``days``) are divided into pools of 50 batches or half of them,
    whichever is less, and at least 2. The requests of a pool are sorted by length and cut into
    batches again, and the batches of the pool are shuffled. A batch is then no longer a uniform
    sample of the requests, but the pools are drawn anew in each epoch. A last batch that is not
    full, and a batch with requests of two days, are unchanged.

    Args:
        rows: row numbers in the order of :func:`ordered`.
        lengths: list length of every request of the log.
        batch_size: requests per batch.
        seed: seed of the order of batches.
        epoch: number of the epoch, from 0.
        days: day of every request of the log; with it, requests are only exchanged with requests of
            the same day. Default: no days.

    Returns:
        A permutation of ``rows``, to be cut into batches of ``batch_size``.

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
    sorted_batches = places[by_length].reshape(-1, batch_size)
    keys = np.random.default_rng([seed, epoch, 1]).random(len(pool))
    batches[within] = sorted_batches[np.lexsort((keys, pool))]
    return rows


def _pools(days: NDArray[np.int32]) -> Rows:
    """Return the pool of each batch; a pool holds batches of one day, at most half of the day."""
    _, starts, batches = np.unique(days, return_index=True, return_counts=True)
    place = np.arange(len(days)) - np.repeat(starts, batches)
    # A single pool would have the same batches in all epochs.
    return np.cumsum(place % np.repeat(np.clip(batches // 2, 2, _POOL), batches) == 0)
