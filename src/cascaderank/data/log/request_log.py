"""Request log: a data set as a folder of Parquet files, one row per request.

::

    manifest.json                              schema, counts and checksums
    requests/day=2024-05-01/part-00000.parquet one row per request; without days: requests/part-...

Candidate columns are lists with one value per candidate: the item features, and optionally
``level`` (the funnel level that the candidate reached, 0 lowest), ``position`` (rank inside the
level from 1; 0 unknown), ``label``, ``feedback``, ``candidate_weight`` (weight in training, at
least 0) and ``item_key`` (identity of the candidate, an integer or a string). All candidate lists
of a request have equal length. Lengths differ between requests; nothing on disk is padded. A
feature with several values has one level of lists more.
"""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.log.manifest import Catalogue, Manifest, Part, read_manifest
from cascaderank.data.log.validation import CANDIDATE_COLUMNS, ITEM_KEY
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT
from cascaderank.data.log.writer import RequestLogWriter
from cascaderank.data.unreadable import UNREADABLE
from cascaderank.errors import DataError, did_you_mean
from cascaderank.expansion import content_size
from cascaderank.limits import check_fits
from cascaderank.regular_files import read_file
from cascaderank.schema import Role, Schema, abridged

__all__ = ["RequestLog", "RequestLogWriter"]


@final
class RequestLog:
    """An opened data set; only its manifest is held in memory.

    Create it with :meth:`open`.

    Args:
        path: folder of the request log.
        manifest: contents of its ``manifest.json``.

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

    def __init__(self, path: str | os.PathLike[str], manifest: Manifest) -> None:
        self.path = Path(path)
        self.manifest = manifest

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RequestLog":
        """Open a data set.

        Args:
            path: folder of the request log.

        Raises:
            DataError: if the folder or its manifest is missing or unreadable, if the manifest has
                another format version or another checksum, if its entries contradict each other, if
                a file is missing or has another size, if the counts of the parts do not add up, or
                if the log has no requests.
        """
        path = Path(path)
        return cls(path, read_manifest(path))

    @property
    def schema(self) -> Schema:
        """Schema of the features of the data set."""
        return self.manifest.schema_

    @property
    def fingerprint(self) -> str:
        """Checksum of the schema and the contents; independent of the folder."""
        files = [*self.manifest.parts, self.manifest.catalogue]
        lines = [
            self.schema.model_dump_json(),
            *(f"{file.path} {file.sha256}" for file in files if file is not None),
        ]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def read(self, part: Part, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Read one part and verify its checksum.

        Args:
            part: one of ``manifest.parts``.
            columns: names of the columns to read, in this order; default: all.

        Returns:
            One row per request.

        Raises:
            DataError: if a column does not exist, or if the file is missing or differs from the
                manifest in its checksum, its columns or its number of requests or candidates.
            ConfigError: if the columns need more memory than the machine has.
        """
        names = list(self.manifest.columns if columns is None else columns)
        unknown = [c for c in names if c not in self.manifest.columns]
        if unknown:
            raise DataError(
                f"{self.path} has no column '{unknown[0]}'"
                f"{did_you_mean(unknown[0], self.manifest.columns)}; "
                f"there are {abridged(self.manifest.columns)}"
            )
        file, content = self.path / part.path, self._content(part)
        check_fits(
            content_size(content, names),
            f"{file}: reading {abridged(names, 3)}",
            "select fewer features, or use a machine with more memory",
        )
        try:
            frame = pl.read_parquet(io.BytesIO(content), columns=names).select(names)
        except UNREADABLE as error:
            raise DataError(
                f"{file}: not a Parquet file with columns {abridged(names)}: {error}; "
                "prepare the data set again from its source"
            ) from None
        counts = {"requests": (part.requests, frame.height)}
        for column in frame.select(pl.selectors.list()):
            if column.name in self._candidate_columns:  # all have equal lengths
                counts["candidates"] = (part.candidates, int(column.list.len().sum()))
                break
        for unit, (expected, found) in counts.items():
            if found != expected:
                raise DataError(
                    f"{file}: expected {expected} {unit}, found {found}; "
                    "prepare the data set again from its source"
                )
        return frame

    @property
    def _candidate_columns(self) -> set[str]:
        """Names of the columns with a value, or a list of values, per candidate."""
        items = (feature.name for feature in self.schema.of(Role.ITEM))
        return {*items, *CANDIDATE_COLUMNS, CANDIDATE_WEIGHT, ITEM_KEY}

    def catalogue(self) -> pl.DataFrame | None:
        """Read all items that could have been candidates.

        Returns:
            One row per item with its features; ``None`` if the source provided no list of items.

        Raises:
            DataError: if the file is missing, or differs from the manifest in its checksum or its
                number of items.
            ConfigError: if the items need more memory than the machine has.
        """
        if self.manifest.catalogue is None:
            return None
        entry = self.manifest.catalogue
        file, content = self.path / entry.path, self._content(entry)
        check_fits(content_size(content), f"{file}: reading it", "use a machine with more memory")
        try:
            items = pl.read_parquet(io.BytesIO(content))
        except UNREADABLE as error:
            raise DataError(
                f"{file}: not a Parquet file: {error}; prepare the data set again from its source"
            ) from None
        if items.height != entry.items:
            raise DataError(
                f"{file}: expected {entry.items} items, found {items.height}; "
                "prepare the data set again from its source"
            )
        return items

    def _content(self, entry: Part | Catalogue) -> bytes:
        """Return the bytes of a file, after verifying its checksum."""
        file = self.path / entry.path
        try:
            content = read_file(file)
        except OSError as error:
            raise DataError(f"{file}: cannot be read: {error.strerror or error}") from None
        digest = hashlib.sha256(content).hexdigest()
        if digest != entry.sha256:
            raise DataError(
                f"{file}: checksum does not match: expected sha256 {entry.sha256}, found {digest}; "
                "copy the data set again, or prepare it again from its source"
            )
        return content

    def frames(
        self, columns: Sequence[str] | None = None, *, rows: NDArray[np.int64] | None = None
    ) -> Iterator[pl.DataFrame]:
        """Iterate over the parts as frames; one part is in memory at a time.

        Args:
            columns: names of the columns to read, in this order; default: all.
            rows: row numbers of the requests to read, sorted, such as ``Split.train``; default:
                all. Parts without any of these rows are not read.

        Raises:
            DataError: see :meth:`read`.
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
