"""The request log: a data set as a folder of Parquet files, one row per request.

::

    manifest.json                              what there is, with counts and checksums
    requests/day=2024-05-01/part-00000.parquet one row per request; without days: requests/part-...

A candidate is an entry of lists of equal length: its features, and optionally ``level`` (how far
it got, 0 lowest), ``position`` (rank inside the level from 1; 0 unknown), ``label`` and
``feedback``. Lists differ in length from request to request; nothing on disk is padded.
"""

import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.log_writer import RequestLogWriter
from cascaderank.data.manifest import Catalogue, Manifest, Part, read_manifest
from cascaderank.errors import DataError, did_you_mean
from cascaderank.schema import Schema, abridged

__all__ = ["RequestLog", "RequestLogWriter"]


@final
class RequestLog:
    """A data set that is opened; nothing but the manifest is in memory.

    Use :meth:`open`.

    Examples:
        >>> import tempfile
        >>> schema = Schema(features=({"name": "price", "role": "item", "kind": "numeric"},))
        >>> frame = pl.DataFrame({"request_id": ["a", "b"], "price": [[1.0, 2.0], [3.0]]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RequestLogWriter(Path(folder) / "shop", name="shop", schema=schema) as writer:
        ...         writer.write(frame)
        ...     log = RequestLog.open(Path(folder) / "shop")
        ...     [frame["price"].to_list() for frame in log.frames()]
        [[[1.0, 2.0], [3.0]]]
        >>> log.manifest.requests, log.manifest.candidates
        (2, 3)
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path | str) -> "RequestLog":
        """Open a data set.

        Args:
            path: the folder.

        Raises:
            DataError: if the folder or its manifest is missing or unreadable, of another version,
                if a part is missing or of another size, or if there are no requests.
        """
        path = Path(path)
        return cls(path, read_manifest(path))

    @property
    def schema(self) -> Schema:
        """The features of the data set."""
        return self.manifest.schema_

    @property
    def fingerprint(self) -> str:
        """A checksum of schema and contents: equal for equal data sets, wherever they lie."""
        files = [*self.manifest.parts, self.manifest.catalogue]
        said = [
            self.schema.model_dump_json(),
            *(f"{file.path} {file.sha256}" for file in files if file is not None),
        ]
        return hashlib.sha256("\n".join(said).encode()).hexdigest()

    def read(self, part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read one part and compare its checksum.

        Args:
            part: one of ``manifest.parts``.
            columns: those wanted, in that order; all if not given.

        Raises:
            DataError: if there is no such column, or the file is not what was written.
        """
        wanted = list(self.manifest.columns if columns is None else columns)
        unknown = [c for c in wanted if c not in self.manifest.columns]
        if unknown:
            raise DataError(
                f"{self.path} has no column '{unknown[0]}'"
                f"{did_you_mean(unknown[0], self.manifest.columns)}; "
                f"there are {abridged(self.manifest.columns)}"
            )
        file, content = self.path / part.path, self._content(part)
        try:
            frame = pl.read_parquet(io.BytesIO(content), columns=wanted).select(wanted)
        except (pl.exceptions.PolarsError, OSError) as error:
            raise DataError(
                f"{file}: not a Parquet file with columns {abridged(wanted)}: {error}; "
                "prepare the data set again from its source"
            ) from None
        if frame.height != part.requests:
            raise DataError(
                f"{file}: expected {part.requests} requests, found {frame.height}; "
                "prepare the data set again from its source"
            )
        return frame

    def catalogue(self) -> pl.DataFrame | None:
        """Read all items that could have been candidates, one row each with their features.

        Returns:
            ``None`` if the source of the log does not know them.

        Raises:
            DataError: if the file is not what was written.
        """
        if self.manifest.catalogue is None:
            return None
        return pl.read_parquet(io.BytesIO(self._content(self.manifest.catalogue)))

    def _content(self, of: Part | Catalogue) -> bytes:
        """Return the bytes of a file, once its checksum was compared."""
        file = self.path / of.path
        try:
            content = file.read_bytes()
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
        found = hashlib.sha256(content).hexdigest()
        if found != of.sha256:
            raise DataError(
                f"{file}: checksum does not match: expected sha256 {of.sha256}, found {found}; "
                "copy the data set again, or prepare it again from its source"
            )
        return content

    def frames(
        self, columns: Sequence[str] | None = None, *, rows: NDArray[np.int64] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Read part by part, each as one frame; one part is in memory at a time.

        Args:
            columns: those wanted, in that order; all if not given.
            rows: those wanted, sorted, as a split gives them; all if not given. Parts without any
                are not read.

        Raises:
            DataError: as :meth:`read`.
        """
        first = 0
        for part in self.manifest.parts:
            if rows is None:
                yield self.read(part, columns)
            else:
                start, end = np.searchsorted(rows, (first, first + part.requests))
                if start < end:
                    yield self.read(part, columns)[rows[start:end] - first]
            first += part.requests
