"""Parquet files of rows, written block by block."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self, final

import polars as pl
import pyarrow.parquet as pq

from cascaderank.errors import ConfigError
from cascaderank.runs.new_files import check_free


def check_parquet(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Check, before the work, that a Parquet file can be written.

    Args:
        path: file to write.
        overwrite: whether an existing file may be replaced.

    Raises:
        ConfigError: if the name does not end with ``.parquet``, or the file exists and may not be
            replaced.
    """
    if Path(path).suffix.lower() != ".parquet":
        raise ConfigError(f"expected a name that ends with .parquet; got '{path}'; rename the file")
    check_free([path], overwrite=overwrite)


@final
class RowWriter:
    """Parquet file that receives frames of the same columns; complete at exit of its context.

    Args:
        path: file to write.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RowWriter(Path(folder) / "rows.parquet") as writer:
        ...         writer.write(pl.DataFrame({"rank": [1, 2]}))
        ...         writer.write(pl.DataFrame({"rank": [3]}))
        ...     pl.read_parquet(writer.path)["rank"].to_list()
        [1, 2, 3]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pl.DataFrame) -> None:
        """Append rows."""
        # Not by polars, which reports no OSError of a file.
        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema, compression="zstd")
        self._writer.write_table(table)

    def close(self) -> None:
        """Complete the file; without rows there is none."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
