"""Atomic writing of request logs, optionally in resumable steps."""

import io
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import count
from types import TracebackType
from typing import Self, final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from cascaderank.atomic import move_folder, parents_of, partial_folder, writing
from cascaderank.data.log.destination import (
    ITEMS,
    check_destination,
    destination_of,
    recover_destination,
)
from cascaderank.data.log.manifest import MANIFEST, Catalogue, Manifest, Part, signed
from cascaderank.data.log.part_files import write_bytes, write_frame
from cascaderank.data.log.steps import Unfinished
from cascaderank.data.log.validation import FrameCheck, check_unique
from cascaderank.data.ragged import lengths_of
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Role, Schema

_VALUES_PER_PART = 32_000_000
_GIVEN = re.compile(r"[a-z0-9_-]+")


_Key = tuple[date | None, str | None]
"""Day and given part; all requests of a file share both."""


@dataclass
class _Buffer:
    """Requests of one day and given part that are not written yet."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    requests: int = 0
    candidates: int = 0


@final
class RequestLogWriter:
    """Write a data set atomically: the whole data set or nothing.

    Parts are written to a hidden folder next to ``path``, which is renamed to ``path`` when the
    ``with`` block ends without an error. After an error or a kill, ``path`` is unchanged. What a
    killed process left in the hidden folder is removed by the next writer of the same path.

    A data set that takes hours can be written in steps, such as days. Finished steps survive an
    error or a kill: the next writer with the same steps lists them in ``finished`` and only has to
    write the others. The resulting files are byte-identical to those of an uninterrupted writer.

    Args:
        path: folder to create, a string or a path; an existing empty folder is accepted. A link
            stands for the folder that it points to.
        name: name of the data set in tables.
        schema: features of the data set.
        level_names: names of the funnel levels, lowest first; empty for a log without levels.
        extra: additional facts for the manifest; the attribute can be changed until :meth:`close`.
        overwrite: replace an existing data set at ``path``; default: ``False``.
        rows_per_part: maximum number of requests in a file, at least 1.
        candidates_per_part: a file ends with the request that reaches this number of candidates, at
            least 1. Default: about 32 million values of item features per file, because readers
            hold one part in memory.
        steps: key of each step by its name, such as a checksum of its options and inputs. A
            finished step is reused only if its key is unchanged. Default: no steps, and an error
            discards everything.

    Raises:
        ConfigError: if ``rows_per_part`` or ``candidates_per_part`` is below 1, or a feature names
            a vocabulary that no other has.
        DataError: if ``path`` exists and is neither an empty folder nor, with ``overwrite``, a data
            set without other files; if it is inside a data set, or contains the working folder. On
            entering the ``with`` block: if another process writes the same steps.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cascaderank.data.log.request_log import RequestLog
        >>> schema = Schema(features=({"name": "price", "role": "item", "kind": "numeric"},))
        >>> frame = pl.DataFrame(
        ...     {"request_id": ["a"], "price": [[1.5, 2.0]], "label": [[1, 0]]}
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "shop"
        ...     with RequestLogWriter(path, name="shop", schema=schema) as writer:
        ...         writer.write(frame)
        ...         writer.extra["currency"] = "EUR"
        ...     RequestLog.open(path).manifest.extra
        {'currency': 'EUR'}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str,
        schema: Schema,
        level_names: Sequence[str] = (),
        extra: Mapping[str, JsonValue] | None = None,
        overwrite: bool = False,
        rows_per_part: int = 50_000,
        candidates_per_part: int | None = None,
        steps: Mapping[str, str] | None = None,
    ) -> None:
        if candidates_per_part is None:
            candidates_per_part = max(1, _VALUES_PER_PART // (len(schema.of(Role.ITEM)) or 1))
        if rows_per_part < 1 or candidates_per_part < 1:
            raise ConfigError(
                "rows_per_part and candidates_per_part must be at least 1; "
                f"got {rows_per_part} and {candidates_per_part}"
            )
        self.path = destination_of(path)
        self.extra: dict[str, JsonValue] = dict(extra or {})
        self._name, self._schema, self._level_names = name, schema, tuple(level_names)
        self._overwrite = overwrite
        self._limits = (rows_per_part, candidates_per_part)
        self._check = FrameCheck(schema, self._level_names)
        self._buffers: dict[_Key, _Buffer] = {}
        self._parts: list[Part] = []
        self._ids: list[pl.Series] = []
        self._times: list[datetime] = []
        self._items: pl.DataFrame | None = None
        self._commit()  # nothing up to here can be discarded
        recover_destination(self.path)
        check_destination(self.path, overwrite=overwrite)
        self._unfinished = None if steps is None else Unfinished(self.path, steps)
        self._folder = self.path if self._unfinished is None else self._unfinished.folder
        self._open: ExitStack | None = None
        self._closed = False

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            if self._unfinished is None:
                with writing(self.path, DataError):
                    opened.enter_context(parents_of(self.path))
                    self._folder = opened.enter_context(partial_folder(self.path))
            else:
                opened.callback(self._unfinished.leave)
                for part, content in self._unfinished.open():
                    frame = pl.read_parquet(io.BytesIO(content))
                    if not self._parts:
                        self._check(frame[:1])  # fixes the column types, as the first frame did
                    self._parts.append(part)
                    self._record(frame)
                self._commit()
            self._open = opened.pop_all()
        return self

    @property
    def finished(self) -> dict[str, dict[str, JsonValue]]:
        """Facts passed to :meth:`finish` by this and earlier writers, by name of the step."""
        steps = {} if self._unfinished is None else self._unfinished.steps
        return {name: step.notes for name, step in steps.items()}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self._leave()

    def _leave(self) -> None:
        """Remove the hidden folder if it is still there, and release its lock."""
        if self._open is not None:
            self._open.close()

    def finish(self, step: str, notes: Mapping[str, JsonValue]) -> None:
        """Store everything written since the last finished step, so that it survives a kill.

        Args:
            step: name of the step; one of ``steps`` and not finished yet.
            notes: facts about the step, kept in ``finished``.

        Raises:
            ConfigError: if the step does not exist or is already finished.
            DataError: if two requests of any steps have the same id, or if a file cannot be
                written.
        """
        if self._unfinished is None:
            raise ConfigError(
                f"'{step}' cannot be finished: the writer has no steps; pass steps to it"
            )
        if self._ids:
            check_unique(pl.concat(self._ids))  # now, not hours later
        for key in list(self._buffers):
            self._flush(key, everything=True)
        self._unfinished.finish(step, self._parts[self._committed[0] :], notes)
        self._commit()

    def discard(self) -> None:
        """Discard everything written since the last finished step."""
        parts, ids, times = self._committed
        for part in self._parts[parts:]:
            (self._folder / part.path).unlink(missing_ok=True)
        del self._parts[parts:], self._ids[ids:], self._times[times:]
        self._buffers.clear()
        if not self._parts:
            self._check = FrameCheck(self._schema, self._level_names)

    def write(
        self, frame: pl.DataFrame, *, day: date | None = None, given: str | None = None
    ) -> None:
        """Add requests, one per row.

        Args:
            frame: one row per request with the columns ``request_id`` (strings or integers, unique
                in the log), the request features, the history and item features as lists, and
                optionally ``timestamp`` (with a time zone), ``request_weight``, and the lists
                ``level``, ``position``, ``label``, ``feedback``, ``candidate_weight`` and
                ``item_key``. A feature with several values has one level of lists more.
            day: day of all requests of the frame, for sources that define their days; default: the
                day (UTC) of each timestamp.
            given: part of the split published with the data, such as ``"train"``; lower-case
                letters, digits, ``_`` and ``-``.

        Raises:
            DataError: if the frame has another layout; the message names the column and the
                request.
            ConfigError: if ``given`` has other characters.
        """
        if not frame.height:
            return
        if self._open is None:
            self.__enter__()
        if given is not None and not _GIVEN.fullmatch(given):
            raise ConfigError(f"given must consist of a-z, 0-9, _ and -; got '{given}'")
        try:
            frame = self._check(frame)
        except DataError as error:
            raise DataError(f"data set '{self._name}': {error}") from None
        self._record(frame)
        if day is not None or "timestamp" not in frame.columns:
            self._buffer((day, given), frame)
        else:
            for (utc,), rows in frame.group_by(pl.col("timestamp").dt.date(), maintain_order=True):
                self._buffer((utc, given), rows)
        while self._is_full():
            self._flush(max(self._buffers, key=lambda key: self._buffers[key].candidates))

    def write_catalogue(self, items: pl.DataFrame) -> None:
        """Add all items that could have been candidates, read by :meth:`RequestLog.catalogue`.

        Args:
            items: one row per item, with the item features that depend on the item alone (not on
                the request). The frame is checked by :meth:`close`.
        """
        self._items = items

    def close(self) -> None:
        """Write the remaining requests and rename the folder to ``path``.

        The end of the ``with`` block calls it. A second call does nothing.

        Raises:
            DataError: if no requests were written, if two requests have the same id, or if a file
                cannot be written.
        """
        if self._closed:
            return
        if not self._ids:
            raise DataError(
                f"data set '{self._name}': no requests were written; is the source empty?"
            )
        check_unique(pl.concat(self._ids))
        for key in list(self._buffers):
            self._flush(key, everything=True)
        parts = sorted(self._parts, key=lambda p: (p.day or date.min, p.path))
        manifest = Manifest(
            name=self._name,
            schema_=self._schema,
            level_names=self._level_names,
            columns=self._check.columns,
            requests=sum(p.requests for p in parts),
            candidates=sum(p.candidates for p in parts),
            time_range=(min(self._times), max(self._times)) if self._times else None,
            parts=tuple(parts),
            catalogue=self._write_catalogue(),
            extra=self.extra,
        )
        write_bytes(self._folder / MANIFEST, signed(manifest))
        check_destination(self.path, overwrite=self._overwrite)
        try:
            move_folder(self._folder, self.path)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be replaced: {error.strerror or error}") from None
        self._closed = True
        if self._unfinished is not None:
            self._unfinished.complete()
        self._leave()

    def _write_catalogue(self) -> Catalogue | None:
        if self._items is None:
            return None
        try:
            items = self._check.of_catalogue(self._items)
        except DataError as error:
            raise DataError(f"data set '{self._name}': {error}") from None
        size, sha256 = write_frame(self._folder / ITEMS, items)
        return Catalogue(path=ITEMS, items=items.height, bytes=size, sha256=sha256)

    def _record(self, frame: pl.DataFrame) -> None:
        self._ids.append(frame["request_id"])
        if "timestamp" in frame.columns:
            times = frame["timestamp"]
            self._times += [t for t in (times.min(), times.max()) if isinstance(t, datetime)]

    def _commit(self) -> None:
        """Exclude everything written so far from :meth:`discard`."""
        self._committed = (len(self._parts), len(self._ids), len(self._times))

    def _buffer(self, key: _Key, frame: pl.DataFrame) -> None:
        buffer = self._buffers.setdefault(key, _Buffer())
        buffer.frames.append(frame)
        buffer.requests += frame.height
        buffer.candidates += int(self._lengths(frame).sum())

    def _is_full(self) -> bool:
        """Whether all buffers together hold at least one full part."""
        buffers = self._buffers.values()
        rows_per_part, candidates_per_part = self._limits
        return (
            sum(buffer.requests for buffer in buffers) >= rows_per_part
            or sum(buffer.candidates for buffer in buffers) >= candidates_per_part
        )

    def _lengths(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        return lengths_of(frame[self._check.candidate_column])

    def _flush(self, key: _Key, *, everything: bool = False) -> None:
        """Write the buffer of a key as full parts and buffer the remainder again.

        A remainder is written as a smaller part if no part is full, or with ``everything``.
        """
        frame = pl.concat(self._buffers.pop(key).frames)
        filled = np.cumsum(self._lengths(frame))
        most_requests, most_candidates = self._limits
        start = 0
        while start < frame.height:
            before = int(filled[start - 1]) if start else 0
            full_at = int(np.searchsorted(filled, before + most_candidates)) + 1
            end = min(start + most_requests, full_at)
            if end > frame.height and start and not everything:
                self._buffer(key, frame[start:])
                break
            self._write_part(frame[start:end], *key)
            start = end

    def _write_part(self, frame: pl.DataFrame, day: date | None, given: str | None) -> None:
        folder = "requests" if day is None else f"requests/day={day.isoformat()}"
        folder += f"/given={given}" * (given is not None)
        taken = {p.path for p in self._parts}  # not a counter: a changed step may leave a gap
        path = next(p for i in count() if (p := f"{folder}/part-{i:05}.parquet") not in taken)
        size, sha256 = write_frame(self._folder / path, frame)
        self._parts.append(
            Part(
                path=path,
                requests=frame.height,
                candidates=int(self._lengths(frame).sum()),
                bytes=size,
                sha256=sha256,
                day=day,
                given=given,
            )
        )
