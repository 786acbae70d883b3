"""Ragged lists as lengths or offsets and flat values."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.errors import DataError, SchemaError
from cascaderank.schema import Feature, Role


def lengths_of(column: pl.Series) -> NDArray[np.int64]:
    """Return the length of each list; the column must have no null lists.

    Examples:
        >>> lengths_of(pl.Series([[1, 2], [], [3]])).tolist()
        [2, 0, 1]
    """
    if not _shared_with_arrow(column):
        return column.list.len().cast(pl.Int64).to_numpy()
    # Without a copy; `to_numpy` of Arrow would import pandas if it is installed, half a second.
    return np.diff(np.from_dlpack(column.to_arrow().offsets)).astype(np.int64, copy=False)


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


def nested(column: pl.Series, feature: Feature) -> pl.Series:
    """Return a column of a feature with several values as lists of the depth of the feature.

    Args:
        column: one row per request; a column of nulls or empty lists only may have less depth.
        feature: a feature with several values.

    Raises:
        SchemaError: if the column has another depth.

    Examples:
        >>> tags = Feature(name="tags", role="request", kind="categorical", multiple=True)
        >>> nested(pl.Series("tags", [None, None]), tags).dtype
        List(Null)
    """
    depth, inner = depth_of(column.dtype)
    if depth != feature.depth and not (isinstance(inner, pl.Null) and depth < feature.depth):
        shape = "a list of values" if feature.role is Role.REQUEST else "a list of lists"
        raise SchemaError(
            f"feature '{feature.name}' has several values and must be {shape} per request; "
            f"found {column.dtype}"
        )
    dtype = inner
    for _ in range(feature.depth):
        dtype = pl.List(dtype)
    return column if column.dtype == dtype else column.cast(dtype)


def lists_of(column: pl.Series, feature: Feature) -> tuple[NDArray[np.int64], pl.Series]:
    """Return the offsets and the values of a column of lists; a null list is an empty one.

    Args:
        column: one list per request or candidate.
        feature: the feature with several values.

    Raises:
        DataError: if a list contains a null, or if a vector does not have ``width`` numbers.

    Examples:
        >>> genres = Feature(name="genres", role="item", kind="categorical", multiple=True)
        >>> offsets, values = lists_of(pl.Series([["a", "b"], None, ["c"]]), genres)
        >>> offsets.tolist(), values.to_list()
        ([0, 2, 2, 3], ['a', 'b', 'c'])
    """
    if column.null_count():
        lengths = column.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    else:
        lengths = lengths_of(column)
    values = flattened(column.drop_nulls())
    if values.null_count():
        raise DataError(
            f"feature '{feature.name}': {values.null_count()} of {len(values)} values in lists are "
            f"null; {'leave the whole vector out' if feature.width else 'leave them out'}: a list "
            "may be empty or null"
        )
    if feature.width is not None:
        _check_width(lengths, feature, feature.width)
    return offsets_of(lengths), values


def _check_width(lengths: NDArray[np.int64], feature: Feature, width: int) -> None:
    wrong = lengths[(lengths != width) & ~((lengths == 0) & feature.missing)]
    if len(wrong):
        hint = "" if wrong[0] else "; set missing=true if a vector may be missing"
        raise DataError(
            f"feature '{feature.name}': expected {width} numbers in each list (width={width}); "
            f"found {wrong[0]} in the first of {len(wrong)} wrong lists, of {len(lengths)}{hint}"
        )


def _shared_with_arrow(column: pl.Series) -> bool:
    """Whether Arrow can read the lists without a copy.

    Access through Arrow takes a tenth of the constant time of a polars expression, which dominates
    the encoding of a single request.
    """
    wide = (pl.Int128, pl.UInt128)  # Arrow has no such numbers
    if not isinstance(column.dtype, pl.List) or column.dtype.inner in wide:
        return False
    return column.dtype.inner.is_numeric()


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
