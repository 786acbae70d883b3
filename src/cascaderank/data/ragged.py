"""Ragged lists as lengths or offsets and flat values."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray


def lengths_of(column: pl.Series) -> NDArray[np.int64]:
    """Return the length of each list; the column must have no null lists.

    Examples:
        >>> lengths_of(pl.Series([[1, 2], [], [3]])).tolist()
        [2, 0, 1]
    """
    if not _shared_with_arrow(column):
        return column.list.len().cast(pl.Int64).to_numpy()
    offsets: NDArray[np.int64] = column.to_arrow().offsets.to_numpy()
    return np.diff(offsets)


def flattened(column: pl.Series) -> pl.Series:
    """Return the values of all lists, concatenated.

    Examples:
        >>> flattened(pl.Series([[1, 2], [], [3]])).to_list()
        [1, 2, 3]
    """
    if _shared_with_arrow(column):
        return pl.Series(column.name, column.to_arrow().flatten())
    # In polars 1, explode turns an empty list into a null.
    return column.filter(column.list.len() > 0).explode()


def depth_of(dtype: pl.DataType) -> tuple[int, pl.DataType]:
    """Return the levels of lists of a column, and the type of the values in the innermost lists.

    Examples:
        >>> depth_of(pl.List(pl.List(pl.String())))
        (2, String)
    """
    depth = 0
    while isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        dtype = inner() if isinstance(inner, type) else inner
        depth += 1
    return depth, dtype


def _shared_with_arrow(column: pl.Series) -> bool:
    """Whether Arrow can read the lists without a copy.

    Access through Arrow takes a tenth of the constant time of a polars expression, which dominates
    the encoding of a single request.
    """
    return isinstance(column.dtype, pl.List) and column.dtype.inner.is_numeric()


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of the first value of each list, and the total number of values at the end.

    Args:
        lengths: ``[lists]``.

    Returns:
        ``[lists + 1]``.

    Examples:
        >>> offsets_of(np.array([2, 0, 1])).tolist()
        [0, 2, 2, 3]
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def positions_within(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of each value in its list, from 0.

    Examples:
        >>> positions_within(np.array([2, 0, 3])).tolist()
        [0, 1, 0, 1, 2]
    """
    starts = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum()), dtype=np.int64) - np.repeat(starts, lengths)


def flat_places(offsets: NDArray[np.int64], rows: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Return the indices of the values of some lists in flat columns.

    Args:
        offsets: ``[lists + 1]`` index of the first value of each list, and the total at the end.
        rows: positions of the lists.

    Examples:
        >>> flat_places(np.array([0, 2, 5]), np.array([1, 0])).tolist()
        [2, 3, 4, 0, 1]
    """
    lengths = offsets[rows + 1] - offsets[rows]
    return np.repeat(offsets[rows], lengths) + positions_within(lengths)
