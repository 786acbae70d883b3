"""Columns that grow part by part in files, and are then mapped into memory."""

import math
import mmap
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import DataError


@final
class ColumnFiles:
    """Raw binary files in a folder, one per column.

    Args:
        folder: where they go; made if it is not there.

    Raises:
        DataError: if the folder cannot be made.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, ColumnFiles(Path(folder)) as files:
        ...     files.append("price", np.array([1.0, 2.0]))
        ...     files.append("price", np.array([3.0]))
        ...     files.mapped("price").tolist()
        [1.0, 2.0, 3.0]
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, BinaryIO] = {}
        self._rows: dict[str, np.dtype[Any]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{folder}: cannot be made: {error.strerror or error}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for file in self._files.values():
            file.close()

    def append(self, column: str, values: NDArray[Any]) -> None:
        """Add values ``[n, ...]`` to a column; all of a column have one type and shape.

        Raises:
            DataError: if they cannot be written, as on a full disk.
        """
        try:
            if column not in self._files:
                # Numbered, since a column may be called anything.
                path = self._folder / f"column-{len(self._files):05}.bin"
                self._files[column] = path.open("wb")
                self._rows[column] = np.dtype((values.dtype, values.shape[1:]))
            self._files[column].write(np.ascontiguousarray(values).data)
        except OSError as error:
            raise DataError(
                f"{self._folder}: cannot be written: {error.strerror or error}"
            ) from None

    def mapped(self, column: str) -> NDArray[Any]:
        """Return all values of a column, read-only, mapped from its file."""
        file, row = self._files[column], self._rows[column]
        file.flush()
        if not file.tell():  # nothing cannot be mapped
            return np.zeros(0, dtype=row)
        # As a plain array: indexing a memmap is several times slower.
        flat = np.asarray(np.memmap(file.name, dtype=row.base, mode="r"))
        return flat.reshape(-1, *row.shape)


def mapping_of(values: NDArray[Any]) -> mmap.mmap | None:
    """Return what maps the file that values are in, or ``None`` if they are in memory."""
    base: object = values
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, mmap.mmap) else None


def resident_of_files() -> float:
    """Return how many bytes of mapped files count as memory of this process.

    Infinity where the system does not tell: it is Linux that does.
    """
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[2]) * mmap.PAGESIZE
    except OSError:
        return math.inf
