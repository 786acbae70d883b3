"""Limits on how much larger the content of a compressed file is than the file.

A gzip file of a megabyte can hold a gigabyte of zeros, and a Parquet file far more.
"""

import errno
import gzip
import io
import os
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO, final

from cascaderank.errors import ConfigError

VARIABLE = "CASCADERANK_MAX_EXPANSION"
"""Environment variable with the largest ratio of the content of a file to its size."""

_RATIO = 100
_ALWAYS_ALLOWED_TEXT = 1 << 23
_ALWAYS_ALLOWED_TABLE = 1 << 29
_PLAIN = {"BOOLEAN": 1 / 8, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}
_LENGTH_OF_TEXT = 4
_CHUNK = 1 << 15


def decompressed(file: BinaryIO) -> io.BufferedReader:
    """Return the content of an open gzip file.

    Reading raises :class:`OSError` when the content is more than 8 MiB and more than 100 times as
    large as the bytes that were read of the file; :data:`VARIABLE` sets another ratio.

    Args:
        file: gzip file, at its beginning.

    Examples:
        >>> decompressed(io.BytesIO(gzip.compress(b"2 qid:1 1:0.5"))).read()
        b'2 qid:1 1:0.5'
    """
    return io.BufferedReader(_Decompressed(file), _CHUNK)


@final
class _Decompressed(io.RawIOBase):
    def __init__(self, file: BinaryIO) -> None:
        self._file, self._gzip, self._size = file, gzip.GzipFile(fileobj=file), 0
        self._ratio = _largest_ratio()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        count = self._gzip.readinto(buffer)
        self._size += count
        if self._size > _ALWAYS_ALLOWED_TEXT:
            _check(self._size, self._file.tell(), self._ratio)
        return count


def content_size(
    file: str | os.PathLike[str] | bytes, columns: Collection[str] | None = None
) -> int:
    """Return the size of the content of a Parquet file, by its footer.

    Args:
        file: path or content of the file.
        columns: names of the columns that count; default: all.

    Returns:
        Bytes of the values in Parquet's plain encoding; of texts that a dictionary stores once,
        only 4 bytes per value. 0 for a damaged file, which is left to the reader.

    Examples:
        >>> import polars as pl
        >>> file = io.BytesIO()
        >>> pl.DataFrame({"label": pl.repeat(0.0, 10**6, eager=True)}).write_parquet(file)
        >>> len(file.getvalue()) < 10_000, content_size(file.getvalue()) >= 8_000_000
        (True, True)
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(io.BytesIO(file) if isinstance(file, bytes) else file)
        names = set() if columns is None else set(footer.schema.to_arrow_schema().names)
        chunks = (
            group.column(i)
            for group in map(footer.row_group, range(footer.num_row_groups))
            for i in range(footer.num_columns)
        )
        return sum(
            max(
                chunk.total_uncompressed_size,
                int(_PLAIN.get(chunk.physical_type, _LENGTH_OF_TEXT) * chunk.num_values),
            )
            for chunk in chunks
            if columns is None or _column_of(chunk.path_in_schema, names) in columns
        )
    except (pa.ArrowException, OSError):
        return 0


def _column_of(path: str, names: Collection[str]) -> str:
    """Return the column that a path such as ``price.list.element`` is a part of."""
    while path and path not in names:
        path = path.rpartition(".")[0]
    return path


def check_expansion(size: int, file: str | os.PathLike[str]) -> None:
    """Check the size of the content of a table by that of its file.

    Args:
        size: bytes of the content, such as :func:`content_size` returns.
        file: path of the file.

    Raises:
        OSError: if the content is more than 512 MiB and more than 100 times as large as the file;
            :data:`VARIABLE` sets another ratio.
    """
    if size > _ALWAYS_ALLOWED_TABLE:
        _check(size, Path(file).stat().st_size, _largest_ratio())


def _largest_ratio() -> int:
    text = os.environ.get(VARIABLE, str(_RATIO))
    if not (text.isascii() and text.isdecimal() and 0 < len(text) < 10):
        raise ConfigError(f"{VARIABLE}: expected a ratio such as {_RATIO}, found {text!r}")
    return int(text)


def _check(expanded: int, size: int, ratio: int) -> None:
    if expanded > ratio * size:
        raise OSError(
            errno.EFBIG,
            f"its content is {expanded:,} bytes, more than {ratio} times the {size:,} of the file; "
            f"if this is right, set the environment variable {VARIABLE} to a larger ratio",
        )
