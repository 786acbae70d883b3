"""Columns side by side: what is read together lies together."""

from collections.abc import Iterator, Mapping
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

Block = NDArray[Any]


@final
class Table(Mapping[str, NDArray[Any]]):
    """Columns by name, those of one type and length side by side in one block.

    A request reads all its columns in each batch. Side by side they are one run of memory, and one
    place on the disk, instead of one for each column.

    Args:
        blocks: ``[n, columns]`` each, by the names of its columns.
        names: of all columns, in the order of the table; that of the blocks if not given.

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
        places = {name: (block, i) for of, block in blocks.items() for i, name in enumerate(of)}
        self._places = {name: places[name] for name in names or places}

    @classmethod
    def of(
        cls, columns: Mapping[str, NDArray[Any]], sequences: Mapping[str, str] | None = None
    ) -> Self:
        """Put columns side by side; a table stays as it is.

        Args:
            columns: each ``[n]``.
            sequences: of columns of histories; those of one sequence have one length.
        """
        if isinstance(columns, cls):
            return columns
        alike: dict[tuple[str, np.dtype[Any]], list[str]] = {}
        for name, values in columns.items():
            sequence = sequences[name] if sequences else ""
            alike.setdefault((sequence, values.dtype), []).append(name)
        blocks = {
            tuple(names): np.ascontiguousarray(np.stack([columns[n] for n in names], axis=1))
            for names in alike.values()
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
