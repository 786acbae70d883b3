"""Columns that are appended to files part by part and then mapped into memory."""

import math
import mmap
import os
from collections.abc import Hashable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.atomic import writing
from cascaderank.errors import DataError


@final
class ColumnFiles:
    """Raw binary files in a folder, one per column.

    Args:
        folder: folder of the files, a string or a path; created if it does not exist.

    Raises:
        DataError: if the folder cannot be created.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, ColumnFiles(folder) as files:
        ...     files.append("price", np.array([1.0, 2.0]))
        ...     files.append("price", np.array([3.0]))
        ...     files.mapped("price").tolist()
        [1.0, 2.0, 3.0]
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        self._files: dict[Hashable, BinaryIO] = {}
        self._rows: dict[Hashable, np.dtype[Any]] = {}
        with writing(self._folder, DataError):
            self._folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            with suppress(OSError):  # a full disk, which the error in flight reports
                file.close()

    def append(self, column: Hashable, values: NDArray[Any]) -> None:
        """Append values to a column.

        Args:
            column: name or other key of the column.
            values: ``[n, ...]``; all values of a column have one dtype and trailing shape.

        Raises:
            DataError: if the values cannot be written, for example on a full disk.
        """
        with writing(self._folder, DataError):
            if column not in self._files:
                # Numbered, because a column name need not be a valid file name.
                path = self._folder / f"column-{len(self._files):05}.bin"
                self._files[column] = path.open("wb")
                self._rows[column] = np.dtype((values.dtype, values.shape[1:]))
            self._files[column].write(np.ascontiguousarray(values).data)

    def mapped(self, column: Hashable) -> NDArray[Any]:
        """Return all values of a column as a read-only array that is mapped from its file.

        Raises:
            DataError: if the values cannot be written.
        """
        file, row = self._files[column], self._rows[column]
        with writing(self._folder, DataError):
            file.flush()
        if not file.tell():  # an empty file cannot be mapped
            return np.zeros(0, dtype=row)
        # As a plain ndarray: indexing a memmap is several times slower.
        flat = np.asarray(np.memmap(file.name, dtype=row.base, mode="r"))
        return flat.reshape(-1, *row.shape)


def mapping_of(values: NDArray[Any]) -> mmap.mmap | None:
    """Return the mapping of the file that backs an array; ``None`` for an array in memory."""
    base: object = values
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def resident_of_files() -> float:
    """Return the bytes of mapped files in the resident memory of this process.

    The number is read from ``/proc`` on Linux; it is infinity on other systems.
    """
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[2]) * mmap.PAGESIZE
    except OSError:
        return math.inf
