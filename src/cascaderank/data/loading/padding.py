"""Padding of lists from flat columns to the longest list of a batch."""

from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray

from cascaderank.data.encoding.column_blocks import columns_first, wide

Array = NDArray[Any]


@final
class Padding:
    """Positions of the lists of a batch in flat columns, shared by all columns of equal offsets.

    Args:
        offsets: ``[requests + 1]`` index of the first value of each list, and the total at the end.
        rows: ``[batch]`` row numbers of the requests.
        least: minimum padded length; default: 0.

    Examples:
        >>> padding = Padding(np.array([0, 2, 3]), np.array([1, 0]))
        >>> padding.padded(np.array([[1, 7], [2, 8], [3, 9]]))
        tensor([[[3, 0],
                 [1, 2]],
        <BLANKLINE>
                [[9, 0],
                 [7, 8]]])
    """

    def __init__(
        self, offsets: NDArray[np.int64], rows: NDArray[np.int64], *, least: int = 0
    ) -> None:
        self._starts = offsets[rows]
        lengths = offsets[rows + 1] - self._starts
        self._places = np.arange(max(least, int(lengths.max(initial=0))))
        equal = bool((lengths == len(self._places)).all())
        self._empty = None if equal else self._places >= lengths[:, None]

    def mask(self) -> torch.Tensor:
        """Return a ``[batch, longest]`` mask, ``True`` where a list has a value."""
        if self._empty is None:
            return torch.ones(len(self._starts), len(self._places), dtype=torch.bool)
        return torch.from_numpy(~self._empty)

    def padded(self, block: Array) -> torch.Tensor:
        """Return ``[columns, batch, longest]`` values of a block ``[n, columns]``; padding is 0."""
        shape = (block.shape[1], len(self._starts), len(self._places))
        if not len(block):  # no request of the log has a history
            return torch.from_numpy(np.zeros(shape, dtype=wide(block.dtype)))
        values = columns_first(self._runs(block).reshape(*shape[1:], shape[0]))
        if self._empty is not None:
            np.copyto(values, 0, where=self._empty)
        return torch.from_numpy(values)

    def _runs(self, block: Array) -> Array:
        """Return ``longest`` rows of the block from the start of each list, one copy per list.

        Rows beyond the end of a list belong to other lists; :meth:`padded` overwrites them.
        """
        longest, columns = len(self._places), block.shape[1]
        last = len(block) - longest
        late = self._starts > last
        if last >= 0 and not late.any():
            return _windows(block, longest)[self._starts]
        # These windows would pass the end of the block: copy row by row, with clipped indices.
        runs = np.empty((len(late), longest * columns), dtype=block.dtype)
        if last >= 0:
            runs[~late] = _windows(block, longest)[self._starts[~late]]
        places = np.minimum(self._starts[late, None] + self._places, len(block) - 1)
        runs[late] = block[places].reshape(-1, longest * columns)
        return runs


def _windows(block: Array, rows: int) -> Array:
    """Return a view of the windows of ``rows`` consecutive rows, one flat window per start row."""
    columns, size = block.shape[1], block.itemsize
    # Equals sliding_window_view in a tenth of its time, which matters for small batches.
    shape, strides = (len(block) - rows + 1, rows * columns), (columns * size, size)
    windows: Array = np.ndarray(shape, block.dtype, buffer=block.data, strides=strides)
    return windows
