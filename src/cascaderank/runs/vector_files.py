"""Files of vectors: NumPy arrays with the ids of their rows, or Parquet with both."""

import io
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, DataError

VectorFormat = Literal["numpy", "parquet"]

VECTOR_FILES: dict[VectorFormat, tuple[str, ...]] = {
    "numpy": ("items.npy", "item_keys.parquet", "requests.npy", "request_ids.parquet"),
    "parquet": ("items.parquet", "requests.parquet"),
}
"""Files of vectors by format: a NumPy array ``[n, dim]`` float32 and the ids of its rows, for items
and for requests; or one Parquet file each, with the id and a list of ``dim`` numbers in a row."""


def files_of(kind: str) -> tuple[str, ...]:
    """Return the names of the files of a format.

    Raises:
        ConfigError: if the format does not exist.

    Examples:
        >>> files_of("parquet")
        ('items.parquet', 'requests.parquet')
    """
    for known in get_args(VectorFormat):
        if kind == known:
            return VECTOR_FILES[known]
    raise ConfigError(
        f"--vectors-format must be one of {', '.join(get_args(VectorFormat))}; got '{kind}'"
    )


def write_vectors(
    paths: Sequence[str | os.PathLike[str]], ids: pl.Series, blocks: Iterable[NDArray[np.float32]]
) -> int:
    """Write vectors and the ids of their rows block by block, so that they need not fit in memory.

    Args:
        paths: one file for Parquet with the ids and a column ``vector`` of lists of ``dim`` numbers
            of type float32; or two, for a NumPy array ``[n, dim]`` and for Parquet with the ids.
        ids: ``[n]`` ids, named as their column.
        blocks: vectors ``[rows, dim]`` in the order of the ids.

    Returns:
        Length of the vectors.

    Raises:
        DataError: if there is no vector.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/items.parquet"
        ...     dim = write_vectors([path], pl.Series("item_key", [3, 7]), [np.eye(2, dtype="f4")])
        ...     frame = pl.read_parquet(path)
        >>> dim, frame.schema["vector"], frame["vector"].to_list()
        (2, Array(Float32, shape=(2,)), [[1.0, 0.0], [0.0, 1.0]])
    """
    if len(paths) == 1:
        return _write_parquet(paths[0], ids, blocks)
    content = io.BytesIO()
    ids.to_frame().write_parquet(content)  # of a file, polars reports no OSError
    Path(paths[1]).write_bytes(content.getbuffer())
    return _write_numpy(paths[0], len(ids), blocks)


def _write_numpy(
    path: str | os.PathLike[str], rows: int, blocks: Iterable[NDArray[np.float32]]
) -> int:
    dim = 0
    with Path(path).open("wb") as file:  # not mapped: a full disk would end the process
        for block in blocks:
            if not file.tell():
                dim = block.shape[1]
                header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(np.ascontiguousarray(block, dtype="<f4").data)
        if not file.tell():
            raise DataError("expected at least one vector to write; got none")
    return dim


def _write_parquet(
    path: str | os.PathLike[str], ids: pl.Series, blocks: Iterable[NDArray[np.float32]]
) -> int:
    done, dim = 0, 0
    with ExitStack() as files:
        writer: pq.ParquetWriter | None = None
        for block in blocks:
            dim = block.shape[1]
            own = ids[done : done + len(block)].to_frame()
            values = pa.array(np.ascontiguousarray(block, dtype=np.float32).reshape(-1))
            lists = pa.FixedSizeListArray.from_arrays(values, dim)
            table = own.to_arrow(compat_level=pl.CompatLevel.oldest()).append_column(
                "vector", lists
            )
            if writer is None:
                writer = files.enter_context(
                    pq.ParquetWriter(path, table.schema, compression="zstd")
                )
            writer.write_table(table)
            done += len(block)
    if not done:
        raise DataError("expected at least one vector to write; got none")
    return dim
