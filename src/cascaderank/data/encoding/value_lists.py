"""Lists of values of one feature, one list per candidate or request, as flat columns."""

from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.ragged import depth_of, flat_places, flattened, lengths_of, offsets_of
from cascaderank.errors import DataError, SchemaError
from cascaderank.schema import Feature

NO_VALUE = -1
"""Code that pads the lists of a batch; code 0 is a value that is out of vocabulary."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ValueLists:
    """Codes of a feature with several values; list ``i`` is ``offsets[i]:offsets[i + 1]``.

    Examples:
        >>> genres = ValueLists(offsets=np.array([0, 2, 2, 3]), values=np.array([4, 0, 7]))
        >>> genres.padded(np.array([0, 1, 2])).tolist()
        [[4, 0], [-1, -1], [7, -1]]
    """

    offsets: NDArray[np.int64]
    """``[lists + 1]`` index of the first value of each list, and the total at the end."""
    values: NDArray[Any]
    """``[values]`` codes; 0 is out of vocabulary."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def taken(self, places: NDArray[np.integer[Any]]) -> Self:
        """Return the lists at ``places``, in their order."""
        return type(self)(
            offsets=offsets_of(self.offsets[places + 1] - self.offsets[places]),
            values=self.values[flat_places(self.offsets, places)],
        )

    def padded(self, places: NDArray[np.integer[Any]], *, least: int = 1) -> NDArray[np.int64]:
        """Return the lists at ``places``, ``[places, longest]``, padded with -1.

        Args:
            places: ``[places]`` positions of lists.
            least: minimum length of the padded lists.
        """
        lengths = self.offsets[places + 1] - self.offsets[places]
        inside = np.arange(max(least, int(lengths.max(initial=0)))) < lengths[:, None]
        codes = np.full(inside.shape, NO_VALUE, dtype=np.int64)
        codes[inside] = self.values[flat_places(self.offsets, places)]
        return codes

    def equal(
        self, places: NDArray[np.integer[Any]], others: NDArray[np.integer[Any]]
    ) -> NDArray[np.bool_]:
        """Return whether the lists at ``places`` and ``others`` hold the same values in any order.

        Args:
            places: ``[pairs]`` positions of lists.
            others: ``[pairs]`` positions of lists.
        """
        lefts, rights = (self.taken(p)._sorted() for p in (places, others))  # noqa: SLF001
        lengths = np.diff(lefts.offsets)
        same: NDArray[np.bool_] = lengths == np.diff(rights.offsets)
        comparable = np.flatnonzero(same)
        left, right = (
            side.values[flat_places(side.offsets, comparable)] for side in (lefts, rights)
        )
        owner = np.repeat(comparable, lengths[comparable])
        same[owner[left != right]] = False
        return same

    def _sorted(self) -> Self:
        owner = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        return type(self)(
            offsets=self.offsets, values=self.values[np.lexsort((self.values, owner))]
        )


def nested(column: pl.Series, feature: Feature) -> pl.Series:
    """Return a column of a feature with several values as lists of the depth of the feature.

    Args:
        column: one row per request; a column of nulls or empty lists only may have less depth.
        feature: a feature with ``multiple``.

    Raises:
        SchemaError: if the column has another depth.
    """
    depth, inner = depth_of(column.dtype)
    if depth != feature.depth and not (isinstance(inner, pl.Null) and depth < feature.depth):
        raise SchemaError(
            f"feature '{feature.name}' has several values (multiple=true) and must be "
            f"{shape_of(feature)}; found {column.dtype}"
        )
    dtype = inner
    for _ in range(feature.depth):
        dtype = pl.List(dtype)
    return column if column.dtype == dtype else column.cast(dtype)


def shape_of(feature: Feature) -> str:
    """Return the layout of the column of a feature with several values, for messages.

    Examples:
        >>> shape_of(Feature(name="tags", role="request", kind="categorical", multiple=True))
        'a list of values per request'
    """
    return "a list of values per request" if feature.depth == 1 else "a list of lists per request"


def lists_of(column: pl.Series) -> tuple[NDArray[np.int64], pl.Series]:
    """Return the offsets and the values of a column of lists; a null list is an empty one.

    Args:
        column: one list per request or candidate.

    Raises:
        DataError: if a list contains a null.

    Examples:
        >>> offsets, values = lists_of(pl.Series("genres", [["a", "b"], None, ["c"]]))
        >>> offsets.tolist(), values.to_list()
        ([0, 2, 2, 3], ['a', 'b', 'c'])
    """
    if column.null_count():
        lengths = column.list.len().fill_null(0).cast(pl.Int64).to_numpy()
    else:
        lengths = lengths_of(column)
    values = flattened(column.drop_nulls())
    check_no_nulls(values)
    return offsets_of(lengths), values


def check_no_nulls(values: pl.Series) -> None:
    """Check that no list of a feature with several values contains a null.

    Raises:
        DataError: if there are nulls; the message counts them.
    """
    if values.null_count():
        raise DataError(
            f"feature '{values.name}': {values.null_count()} of {len(values)} values in lists are "
            "null; leave them out: a list may be empty"
        )
