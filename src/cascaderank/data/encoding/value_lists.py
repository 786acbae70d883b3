"""Lists of values of one feature, one list per candidate or request, as flat columns."""

from dataclasses import dataclass
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.encoding.column_blocks import wide
from cascaderank.data.ragged import flat_places, offsets_of

NO_VALUE = -1
"""Code that pads the lists of a batch; code 0 is a value that is out of vocabulary."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ValueLists:
    """Values of a feature with several; list ``i`` is ``offsets[i]:offsets[i + 1]``.

    Examples:
        >>> genres = ValueLists(offsets=np.array([0, 2, 2, 3]), values=np.array([4, 0, 7]))
        >>> genres.padded(np.array([0, 1, 2])).tolist()
        [[4, 0], [-1, -1], [7, -1]]
    """

    offsets: NDArray[np.int64]
    """``[lists + 1]`` index of the first value of each list, and the total at the end."""
    values: NDArray[Any]
    """``[values]`` codes, or the numbers of vectors."""
    width: int = 1
    """Length of the vectors, all of one length or, if missing, empty; 1 for lists of codes."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def taken(self, places: NDArray[np.integer[Any]]) -> Self:
        """Return the lists at ``places``, in their order."""
        return type(self)(
            offsets=offsets_of(self.offsets[places + 1] - self.offsets[places]),
            values=self.values[flat_places(self.offsets, places)],
            width=self.width,
        )

    @property
    def padding(self) -> float:
        """Value that pads a list: -1 for codes, NaN for numbers."""
        return float("nan") if self.values.dtype.kind == "f" else NO_VALUE

    def padded(self, places: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Return the lists at ``places``, ``[places, longest]`` int64 or float32.

        Codes are padded with -1 to the longest list, and to at least one value. Vectors that are
        missing are NaN.

        Args:
            places: ``[places]`` positions of lists.
        """
        lengths = self.offsets[places + 1] - self.offsets[places]
        inside = np.arange(max(self.width, int(lengths.max(initial=0)))) < lengths[:, None]
        padded = np.full(inside.shape, self.padding, dtype=wide(self.values.dtype))
        padded[inside] = self.values[flat_places(self.offsets, places)]
        return padded

    def equal(
        self, places: NDArray[np.integer[Any]], others: NDArray[np.integer[Any]]
    ) -> NDArray[np.bool_]:
        """Return whether the lists at ``places`` and ``others`` hold the same values.

        The order of codes does not matter, that of numbers does.

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
        if self.values.dtype.kind == "f":
            return self
        owner = np.repeat(np.arange(len(self)), np.diff(self.offsets))
        return type(self)(
            offsets=self.offsets, values=self.values[np.lexsort((self.values, owner))]
        )
