"""Parts of a served log on disk: complete or absent, rotated, and written again with feedback.

A served log is a request log that grows. A part is written under a hidden name, synchronised,
renamed, and then listed in the manifest, which is replaced in the same way: at any time, the
manifest lists complete files only. Feedback that arrives later is written into a new file that
takes the place of the part in the manifest. The former file stays for :data:`KEPT_SECONDS` from
then on, so that a training that has read the manifest can read it: its date is that of its
replacement.

Columns of the files that are no part of the data set, such as scores, are not listed in the
manifest, so that no training reads them.
"""

import hashlib
import io
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime
from pathlib import Path
from typing import final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from cascaderank.atomic import (
    is_partial,
    partial_file,
    remove_abandoned,
    remove_partials,
    writing,
)
from cascaderank.data.encoding.hashing import hashed
from cascaderank.data.log.destination import check_destination, destination_of
from cascaderank.data.log.manifest import (
    MANIFEST,
    Catalogue,
    Manifest,
    Part,
    read_manifest,
    signed,
)
from cascaderank.data.log.part_files import write_frame
from cascaderank.errors import DataError
from cascaderank.regular_files import read_file
from cascaderank.schema import Schema, abridged
from cascaderank.serving.served_feedback import Feedback, with_feedback
from cascaderank.text_files import parsed_json

try:
    import fcntl
except ImportError:  # on Windows, where two writers of one log are not detected
    fcntl = None  # type: ignore[assignment]
_HAS_LOCKS = fcntl is not None

KEPT_SECONDS = 3600.0
"""Time for which a file that was replaced is kept."""


@final
class ServedParts:
    """The folder of a served log, locked for one writer.

    Args:
        folder: folder of the log: free, or a served log with the same features and levels.
        name: name of the data set in tables.
        schema: features.
        level_names: names of the levels, lowest first.
        columns: columns of the data set, in order.
        key: column of candidates that feedback refers to.
        extra: facts for the manifest.

    Raises:
        DataError: if the folder is anything else, or another process writes it.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        name: str,
        schema: Schema,
        level_names: tuple[str, ...],
        columns: tuple[str, ...],
        key: str,
        extra: Mapping[str, JsonValue],
    ) -> None:
        self.folder = destination_of(folder)
        self._key = key
        with writing(self.folder, DataError):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.folder)
        try:
            self.manifest = Manifest(
                name=name,
                schema_=schema,
                level_names=level_names,
                columns=columns,
                requests=0,
                candidates=0,
                parts=(),
                extra=dict(extra),
            )
            remove_partials(self.folder / MANIFEST)
            if (self.folder / MANIFEST).exists() and not _is_new(self.folder):
                self.manifest = self._continued(read_manifest(self.folder))
            elif not (self.folder / MANIFEST).exists():
                check_destination(self.folder, overwrite=False)
                self._replace_manifest()
            self.lost = _lost(self.manifest)
            """Number of requests that earlier writers of the log lost."""
            self._ids = {part.path: self._read_ids(part.path) for part in self.manifest.parts}
            self._sweep()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def known(self, ids: pl.Series) -> NDArray[np.bool_]:
        """Return which request ids are in the log already."""
        hashes = hashed(ids)
        found = np.zeros(len(hashes), dtype=bool)
        for listed in self._ids.values():
            found |= _among(hashes, listed)
        return found

    def add(self, frame: pl.DataFrame, facts: Mapping[str, JsonValue]) -> None:
        """Write requests as new parts, one per day, and list them in the manifest.

        Args:
            frame: one row per request, with a column ``timestamp``.
            facts: entries of ``extra`` to replace.

        Raises:
            DataError: if a file cannot be written.
        """
        parts = list(self.manifest.parts)
        days = frame.group_by(pl.col("timestamp").dt.date(), maintain_order=True)
        for (day,), rows in days:
            parts.append(self._write(rows, day, self._number(day, parts), 0))
        times = [
            frame["timestamp"].min(),
            frame["timestamp"].max(),
            *(self.manifest.time_range or ()),
        ]
        self._list(parts, facts, time_range=(min(times), max(times)))

    def join(self, feedback: Feedback, facts: Mapping[str, JsonValue]) -> set[tuple[str, object]]:
        """Write feedback into the parts that have its requests.

        Args:
            feedback: values by request and item; they replace earlier ones.
            facts: entries of ``extra`` to replace.

        Returns:
            Pairs of request and item that were found.

        Raises:
            DataError: if a file cannot be read or written.
        """
        found = set[tuple[str, object]]()
        ids = pl.Series(list(feedback), dtype=pl.String)
        hashes = hashed(ids)
        parts = list(self.manifest.parts)
        for place, part in enumerate(parts):
            if not _among(hashes, self._ids[part.path]).any():
                continue
            frame = self._read(part.path)
            joined, pairs = with_feedback(frame, feedback, key=self._key)
            found |= pairs
            if pairs and not joined["feedback"].equals(frame["feedback"]):
                number, generation = _numbers(part.path)
                parts[place] = self._write(joined, part.day, number, generation + 1)
        if parts != list(self.manifest.parts):
            self._list(parts, facts, time_range=self.manifest.time_range)
        return found

    def set_items(self, items: pl.DataFrame) -> None:
        """Write all items that could have been candidates, if they are others than before.

        Args:
            items: one row per item, with item features.

        Raises:
            DataError: if a file cannot be written.
        """
        name = f"items-{hashlib.sha256(_bytes_of(items)).hexdigest()[:8]}.parquet"
        former = self.manifest.catalogue
        if former is not None and former.path == name:
            return
        with writing(self.folder / name, DataError), partial_file(self.folder / name) as hidden:
            size, sha256 = write_frame(hidden, items)
        catalogue = Catalogue(path=name, items=items.height, bytes=size, sha256=sha256)
        self.manifest = self.manifest.model_copy(update={"catalogue": catalogue})
        self._touch([former.path] if former is not None else [])
        self._replace_manifest()

    def _write(self, frame: pl.DataFrame, day: date | None, number: int, generation: int) -> Part:
        path = f"requests/day={day}/part-{number:05}-{generation}.parquet"
        file = self.folder / path
        with writing(file, DataError):
            file.parent.mkdir(parents=True, exist_ok=True)
            with partial_file(file) as hidden:
                size, sha256 = write_frame(hidden, frame)
            _sync_folder(file.parent)
        self._ids[path] = np.sort(hashed(frame["request_id"]))
        return Part(
            path=path,
            requests=frame.height,
            candidates=int(frame["level"].list.len().sum()),
            bytes=size,
            sha256=sha256,
            day=day,
        )

    def _number(self, day: date | None, parts: list[Part]) -> int:
        taken = [_numbers(part.path)[0] for part in parts if part.day == day]
        return max(taken, default=-1) + 1

    def _list(
        self,
        parts: list[Part],
        facts: Mapping[str, JsonValue],
        *,
        time_range: tuple[datetime, datetime] | None,
    ) -> None:
        """List parts in the manifest."""
        parts.sort(key=lambda part: (part.day or date.min, part.path))
        before = self.manifest
        self.manifest = before.model_copy(
            update={
                "requests": sum(part.requests for part in parts),
                "candidates": sum(part.candidates for part in parts),
                "time_range": time_range,
                "parts": tuple(parts),
                "extra": {**before.extra, **facts},
            }
        )
        self._touch(part.path for part in before.parts if part not in parts)
        try:
            self._replace_manifest()
        except BaseException:
            self.manifest = before
            raise
        self._ids = {part.path: self._ids[part.path] for part in parts}
        self._sweep()

    def _replace_manifest(self) -> None:
        path = self.folder / MANIFEST
        with writing(path, DataError), partial_file(path) as hidden:
            hidden.write_bytes(signed(self.manifest))
        _sync_folder(self.folder)

    def _continued(self, found: Manifest) -> Manifest:
        """Return the manifest of an earlier writer, if its log can be continued."""
        expected = self.manifest
        if "served" not in found.extra:
            raise DataError(
                f"{self.folder}: expected a served log, found a data set that was prepared from "
                "a source; choose another folder"
            )
        for what, old, new in (
            ("features", found.schema_.names, expected.schema_.names),
            ("levels", found.level_names, expected.level_names),
            ("columns", found.columns, expected.columns),
        ):
            if tuple(old) != tuple(new):
                raise DataError(
                    f"{self.folder}: has {what} {abridged(old)}, and the bundle "
                    f"{abridged(new)}; a log has those of one kind of bundle; choose another folder"
                )
        if found.schema_ != expected.schema_:
            raise DataError(
                f"{self.folder}: its features are declared otherwise than in the bundle; choose "
                "another folder"
            )
        extra = {**found.extra, **expected.extra, "served": found.extra["served"]}
        return found.model_copy(update={"extra": extra})

    def _read_ids(self, path: str) -> NDArray[np.uint64]:
        return np.sort(hashed(self._read(path, ["request_id"])["request_id"]))

    def _read(self, path: str, columns: list[str] | None = None) -> pl.DataFrame:
        file = self.folder / path
        try:
            return pl.read_parquet(file, columns=columns, glob=False)
        except (pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).partition("\n")[0]
            raise DataError(
                f"{file}: cannot be read: {reason}; restore it, or choose another folder"
            ) from None

    def _touch(self, paths: Iterable[str]) -> None:
        """Date files that are about to be replaced, since :meth:`_sweep` removes old ones."""
        for path in paths:
            with suppress(OSError):
                os.utime(self.folder / path)

    def _sweep(self) -> None:
        """Remove replaced files after some time, and what killed writers left."""
        listed = {part.path for part in self.manifest.parts}
        if self.manifest.catalogue is not None:
            listed.add(self.manifest.catalogue.path)
        found = (".*", "items-????????.parquet", "requests/day=*/*")
        for file in [file for pattern in found for file in self.folder.glob(pattern)]:
            if is_partial(file.name):
                remove_abandoned(file)
            elif file.suffix == ".parquet" and str(file.relative_to(self.folder)) not in listed:
                with suppress(OSError):
                    if file.stat().st_mtime < time.time() - KEPT_SECONDS:
                        file.unlink()


def _is_new(folder: Path) -> bool:
    """Return whether a folder has the manifest of a served log without parts."""
    try:
        content = parsed_json(read_file(folder / MANIFEST).decode())
        return "served" in content["extra"] and not content["parts"]
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _bytes_of(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_ipc(sink)
    return sink.getvalue()


def _numbers(path: str) -> tuple[int, int]:
    """Return the number and the generation of a part, from its name."""
    _, number, generation = Path(path).stem.split("-")
    return int(number), int(generation)


def _among(hashes: NDArray[np.uint64], listed: NDArray[np.uint64]) -> NDArray[np.bool_]:
    if not len(listed):
        return np.zeros(len(hashes), dtype=bool)
    at = np.searchsorted(listed, hashes).clip(max=len(listed) - 1)
    found: NDArray[np.bool_] = listed[at] == hashes
    return found


def _locked(folder: Path) -> int | None:
    if not _HAS_LOCKS:
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DataError(
            f"{folder}: another process writes this log; stop it, or choose another folder"
        ) from None
    except OSError:  # a file system without locks
        pass
    return handle


def _sync_folder(folder: Path) -> None:
    """Write the names of the files of a folder to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _lost(manifest: Manifest) -> int:
    lost = manifest.extra["served"]
    lost = lost.get("lost") if isinstance(lost, dict) else None
    return lost if isinstance(lost, int) else 0
