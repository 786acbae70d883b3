"""Write the files of a data set, with errors that name the file."""

import hashlib
import io
import os
from pathlib import Path

import polars as pl

from cascaderank.atomic import writing
from cascaderank.errors import DataError


def write_frame(path: str | os.PathLike[str], frame: pl.DataFrame) -> tuple[int, str]:
    """Write a frame as Parquet and return the size of the file in bytes and its SHA-256.

    Raises:
        DataError: if the file cannot be written.
    """
    sink = io.BytesIO()
    frame.write_parquet(sink)
    content = sink.getvalue()
    write_bytes(path, content)
    return len(content), hashlib.sha256(content).hexdigest()


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file to the disk, in a folder that is created if it does not exist.

    Raises:
        DataError: if the file cannot be written.
    """
    path = Path(path)
    with writing(path, DataError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
