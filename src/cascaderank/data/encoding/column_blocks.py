"""Columns of one dtype and length stored as one contiguous ``[rows, columns]`` block."""

from collections.abc import Iterator, Mapping
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

Block = NDArray[Any]


@final
class Table(Mapping[str, NDArray[Any]]):
    """Columns by name; columns of one dtype and length are stored in one row-major block.

    A batch reads all columns of a request. In a block they are one contiguous range of memory (and
    of the file that it is mapped from) instead of one range per column.

    Args:
        blocks: ``[n, columns]`` arrays by the names of their columns.
        names: names of all columns in the order of the table; default: the order of the blocks.

    Examples:
        >>> table = Table.of({"a": np.array([1, 2]), "x": np.array([0.5]), "b": np.array([3, 4])})
        >>> list(table), table["b"].tolist()
        (['a', 'x', 'b'], [3, 4])
        >>> table.blocks["a", "b"].tolist()
        [[1, 3], [2, 4]]
    """

    def __init__(
        self, blocks: Mapping[tuple[str, ...], Block], names: tuple[str, ...] = ()
    ) -> None:
        self.blocks = dict(blocks)
        places = {
            name: (block, i) for columns, block in blocks.items() for i, name in enumerate(columns)
        }
        self._places = {name: places[name] for name in names or places}

    @classmethod
    def of(
        cls, columns: Mapping[str, NDArray[Any]], sequences: Mapping[str, str] | None = None
    ) -> Self:
        """Build a table from columns; a table is returned unchanged.

        Args:
            columns: ``[n]`` arrays by name.
            sequences: sequence of each column, for history features: only columns of one sequence
                have the same length. Default: all columns have the same length.
        """
        if isinstance(columns, cls):
            return columns
        groups: dict[tuple[str, np.dtype[Any]], list[str]] = {}
        for name, values in columns.items():
            sequence = sequences[name] if sequences else ""
            groups.setdefault((sequence, values.dtype), []).append(name)
        blocks = {
            tuple(names): np.ascontiguousarray(np.stack([columns[n] for n in names], axis=1))
            for names in groups.values()
        }
        return cls(blocks, tuple(columns))

    def __getitem__(self, name: str) -> NDArray[Any]:
        block, place = self._places[name]
        column: NDArray[Any] = block[:, place]
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def wide(dtype: np.dtype[Any]) -> type[np.float32 | np.int64]:
    """Return the dtype of model inputs: float32 for numbers, int64 for codes."""
    return np.float32 if dtype.kind == "f" else np.int64


def columns_first(values: Block) -> Block:
    """Return a copy of ``[..., columns]`` as ``[columns, ...]``, with the dtype of model inputs."""
    first = np.empty((values.shape[-1], *values.shape[:-1]), dtype=wide(values.dtype))
    np.copyto(first, values.transpose(values.ndim - 1, *range(values.ndim - 1)))
    return first
