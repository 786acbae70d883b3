"""The check that labels which differ also differ in the type on disk."""

import numpy as np
import polars as pl

from cascaderank.data.ragged import flattened
from cascaderank.errors import DataError

_EXACT = 2**24
"""Up to here, Float32 holds every integer."""


def check_distinct(column: pl.Series, narrow: pl.Series) -> None:
    """Check that large labels of a request do not become equal in the type on disk.

    Float32 holds every integer up to 2^24. Beyond, timestamps for example, neighbours are equal.

    Args:
        column: lists of numbers.
        narrow: the same in Float32.

    Raises:
        DataError: if two different labels of one request become equal.

    Examples:
        >>> labels = pl.Series("label", [[2**24, 2**24 + 2], [2**24 + 1]])
        >>> check_distinct(labels, labels.cast(pl.List(pl.Float32)))
    """
    values = flattened(column).drop_nulls()
    if values.dtype in (pl.Float32, pl.Boolean, pl.Null) or not len(values):
        return
    if np.abs(values.cast(pl.Float64).to_numpy()).max() <= _EXACT:
        return
    tied = narrow.list.n_unique() < column.list.n_unique()
    for row in tied.arg_true().to_list():
        known: dict[float, int | float] = {}
        for value, stored in zip(column[row], narrow[row], strict=True):
            if stored is None or not abs(stored) > _EXACT:
                continue
            if known.setdefault(stored, value) != value:
                raise DataError(
                    f"column '{column.name}': expected values that differ as float32, the type of "
                    f"labels; found {known[stored]} and {value} in one request, which are both "
                    f"{stored:.0f} as float32; subtract a constant, divide, or write ranks"
                )
