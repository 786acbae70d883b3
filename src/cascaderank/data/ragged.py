"""Lists of unequal length, as their lengths and their values one after another."""

import numpy as np
import polars as pl
from numpy.typing import NDArray


def lengths_of(column: pl.Series) -> NDArray[np.int64]:
    """Return the length of each list of a column without null lists.

    Examples:
        >>> lengths_of(pl.Series([[1, 2], [], [3]])).tolist()
        [2, 0, 1]
    """
    if not _shared_with_arrow(column):
        return column.list.len().cast(pl.Int64).to_numpy()
    offsets: NDArray[np.int64] = column.to_arrow().offsets.to_numpy()
    return np.diff(offsets)


def flattened(column: pl.Series) -> pl.Series:
    """Return the values of all lists, one after another.

    Examples:
        >>> flattened(pl.Series([[1, 2], [], [3]])).to_list()
        [1, 2, 3]
    """
    if _shared_with_arrow(column):
        return pl.Series(column.name, column.to_arrow().flatten())
    # In polars 1 an empty list would leave a null behind.
    return column.filter(column.list.len() > 0).explode()


def _shared_with_arrow(column: pl.Series) -> bool:
    """Whether Arrow can look at the lists without copying them.

    That costs a tenth of what a polars expression costs to start, which is most of the time that
    it takes to encode one request.
    """
    return isinstance(column.dtype, pl.List) and column.dtype.inner.is_numeric()


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each list starts, and where the last ends: one number more than lists.

    Examples:
        >>> offsets_of(np.array([2, 0, 1])).tolist()
        [0, 2, 2, 3]
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def positions_within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the place of each value in its list, counted from 0.

    Examples:
        >>> positions_within(np.array([2, 0, 3])).tolist()
        [0, 1, 0, 1, 2]
    """
    starts = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts, lengths)
