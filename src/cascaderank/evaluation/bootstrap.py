"""Bootstrap: how far a mean over requests would move if other requests had come."""

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, ShapeError

Floats = NDArray[np.float64]

_DRAWS_AT_ONCE = 1 << 20
"""Draws held in memory at a time; more only if there are more requests than this."""


def bootstrap_interval(
    values: Floats,
    *,
    replicates: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[Floats, Floats]:
    """Percentile bootstrap interval of the mean over requests, of each column.

    Whole requests are drawn with replacement, the same ones for all columns. An undefined (NaN)
    value is left out of every mean it is drawn into; drawing from all requests, not only from
    those where the column is defined, keeps a column's interval free of the other columns and
    lets the number of defined values vary as it would.

    Args:
        values: ``[requests, columns]`` float64, one row per request; NaN is undefined.
        replicates: how many times the requests are drawn anew; positive.
        seed: equal seeds give equal intervals.
        confidence: between 0 and 1.

    Returns:
        Lower and upper ends, ``[columns]`` each; NaN for a column without a defined value.

    Raises:
        ShapeError: if ``values`` is not a matrix.
        ConfigError: if ``replicates`` or ``confidence`` is out of range.

    Example:
        >>> low, high = bootstrap_interval(np.array([[0.0, 2.0], [1.0, 2.0], [1.0, np.nan]]))
        >>> low.tolist(), high.tolist()
        ([0.0, 2.0], [1.0, 2.0])

    Source: Efron 1979, percentile method.
    """
    if values.ndim != 2:
        raise ShapeError(f"values must be [requests, columns]; got {list(values.shape)}")
    if replicates < 1:
        raise ConfigError(f"replicates must be at least 1; got {replicates}")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1; got {confidence}")
    requests, columns = values.shape
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    defined = ~np.isnan(values)
    some = defined.any(axis=0)
    if not some.any():
        return low, high

    # Sums and counts of a draw are one product with how often each request was drawn. Around the
    # first defined value: a constant column then has exactly that constant for its ends.
    centre = values[defined.argmax(axis=0), np.arange(columns)]
    summands = np.hstack([np.where(defined, values - centre, 0.0), defined.astype(np.float64)])
    means = np.empty((replicates, columns))
    rng = np.random.default_rng(seed)
    step = max(1, _DRAWS_AT_ONCE // requests)
    for start in range(0, replicates, step):
        drawn = _times_drawn(rng, min(step, replicates - start), requests) @ summands
        with np.errstate(invalid="ignore"):  # 0 / 0: nothing defined was drawn
            means[start : start + step] = drawn[:, :columns] / drawn[:, columns:]
    some &= ~np.isnan(means).all(axis=0)
    tail = (1 - confidence) / 2
    ends = np.nanquantile(means[:, some], [tail, 1 - tail], axis=0) + centre[some]
    low[some], high[some] = ends
    return low, high


def _times_drawn(rng: np.random.Generator, replicates: int, requests: int) -> Floats:
    """How often each request is drawn in each replicate, ``[replicates, requests]``."""
    drawn = rng.integers(requests, size=(replicates, requests))
    drawn += np.arange(replicates)[:, None] * requests
    times = np.bincount(drawn.ravel(), minlength=replicates * requests)
    return times.reshape(replicates, requests).astype(np.float64)
