"""Writing a request log: all of it, or nothing."""

import hashlib
import io
import os
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self, final

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import JsonValue

from cascaderank.data.manifest import MANIFEST, Catalogue, Manifest, Part
from cascaderank.data.ragged import lengths_of
from cascaderank.data.unfinished import Unfinished
from cascaderank.data.validation import FrameCheck, check_unique
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Role, Schema

_VALUES_PER_PART = 32_000_000
_GIVEN = re.compile(r"[a-z0-9_-]+")


_Key = tuple[date | None, str | None]
"""Day and given part of requests: those of one file share both."""


@dataclass
class _Waiting:
    """Requests of one day and given part that are not in a file yet."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    requests: int = 0
    candidates: int = 0


@final
class RequestLogWriter:
    """Write a data set, all of it or nothing.

    Parts go into a hidden folder beside ``path``, which takes its place when the ``with`` block
    ends well. If it does not, or the process is killed, what was at ``path`` is still there.

    What takes hours can be written in steps, such as days. Steps that were finished outlive an
    error or a kill: the next writer of the same steps has them in ``finished`` and goes on with the
    others. In the end there are the same bytes.

    Args:
        path: the folder to make. An empty one may exist.
        name: what the data set is called in tables.
        schema: its features.
        level_names: how far a candidate can get, lowest first; empty if there are no levels.
        extra: what to remember in the manifest; the attribute may be changed until the end.
        overwrite: replace the data set that is at ``path``.
        rows_per_part: requests in one file, at most.
        candidates_per_part: a file ends once it has so many. If not given, so many that their
            features are some 32 million numbers: readers hold one part in memory.
        steps: by name, a mark of what each is made from, such as a checksum of options and inputs.
            A step that was finished counts only as long as its mark stays the same. Not given,
            nothing outlives an error.

    Raises:
        ConfigError: if a part may hold nothing.
        DataError: if there is something at ``path`` already: a data set unless ``overwrite``, or
            anything else; on entering the ``with`` block, if another process writes these steps.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.request_log import RequestLog
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
        path: Path | str,
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
        self.path = Path(path).absolute()
        self.extra: dict[str, JsonValue] = dict(extra or {})
        self._name, self._schema, self._level_names = name, schema, tuple(level_names)
        self._overwrite = overwrite
        self._most = (rows_per_part, candidates_per_part)
        self._check = FrameCheck(schema, self._level_names)
        self._waiting: dict[_Key, _Waiting] = {}
        self._parts: list[Part] = []
        self._ids: list[pl.Series] = []
        self._times: list[datetime] = []
        self._items: pl.DataFrame | None = None
        self._mark_safe()  # what finished steps wrote; the rest may be discarded
        self._check_target()
        self._unfinished = None if steps is None else Unfinished(self.path, steps)
        self._folder = (
            self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.partial")
            if self._unfinished is None
            else self._unfinished.folder
        )

    def __enter__(self) -> Self:
        if self._unfinished is not None:
            for part, content in self._unfinished.open():
                frame = pl.read_parquet(io.BytesIO(content))
                if not self._parts:
                    self._check(frame[:1])  # settles the types of columns, as the first frame did
                self._parts.append(part)
                self._remember(frame)
            self._mark_safe()
        return self

    @property
    def finished(self) -> dict[str, dict[str, JsonValue]]:
        """By name of each step that was finished, now or before: what it told."""
        steps = {} if self._unfinished is None else self._unfinished.steps
        return {name: step.told for name, step in steps.items()}

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
            if self._unfinished is None:
                shutil.rmtree(self._folder, ignore_errors=True)
            else:
                self._unfinished.leave()

    def finish(self, step: str, told: Mapping[str, JsonValue]) -> None:
        """Make what was written since the last step outlive an error or a kill.

        Args:
            step: one of ``steps``, not finished yet.
            told: what to keep about it in ``finished``.

        Raises:
            ConfigError: if there is no such step, or it is finished already.
            DataError: if two requests of all steps have one id, or it cannot be written.
        """
        if self._unfinished is None:
            raise ConfigError(f"'{step}' cannot be finished: the writer was given no steps")
        if self._ids:
            check_unique(pl.concat(self._ids))  # now, not hours later
        for key in list(self._waiting):
            self._flush(key, everything=True)
        self._unfinished.finish(step, self._parts[self._safe[0] :], told)
        self._mark_safe()

    def discard(self) -> None:
        """Take back what was written since the last step that was finished."""
        parts, ids, times = self._safe
        for part in self._parts[parts:]:
            (self._folder / part.path).unlink(missing_ok=True)
        del self._parts[parts:], self._ids[ids:], self._times[times:]
        self._waiting.clear()
        if not self._parts:
            self._check = FrameCheck(self._schema, self._level_names)

    def write(
        self, frame: pl.DataFrame, *, day: date | None = None, given: str | None = None
    ) -> None:
        """Add requests, one per row.

        Args:
            frame: ``request_id`` (strings or integers, unique over the log), ``timestamp`` (with a
                time zone; optional), the features of requests, those of histories and of candidates
                as lists, and ``level``, ``position``, ``label`` and ``feedback`` as lists where
                there are any. Categories are integers or strings, numbers are finite.
            day: that the requests count as, for sources that have days of their own; not given,
                the day (UTC) of each timestamp.
            given: part of the split that came with the data, such as ``"train"``; lower-case
                letters, digits and ``_ -``.

        Raises:
            DataError: if the frame is not that; the message names the column and the request.
            ConfigError: if ``given`` is no such name.
        """
        if not frame.height:
            return
        if given is not None and not _GIVEN.fullmatch(given):
            raise ConfigError(f"a given part is called by a-z, 0-9, _ and -; got '{given}'")
        try:
            frame = self._check(frame)
        except DataError as error:
            raise DataError(f"data set '{self._name}': {error}") from None
        self._remember(frame)
        if day is not None or "timestamp" not in frame.columns:
            self._wait((day, given), frame)
        else:
            for (utc,), rows in frame.group_by(pl.col("timestamp").dt.date(), maintain_order=True):
                self._wait((utc, given), rows)
        while any(sum(held) >= most for held, most in zip(self._held(), self._most, strict=True)):
            self._flush(max(self._waiting, key=lambda key: self._waiting[key].candidates))

    def write_catalogue(self, items: pl.DataFrame) -> None:
        """Add all items that could have been candidates; :meth:`RequestLog.catalogue` reads them.

        Args:
            items: one row per item, with those features of candidates that tell about the item
                alone. They are checked when the data set is complete.
        """
        self._items = items

    def close(self) -> None:
        """Write what is left and put the data set in its place; the ``with`` block does it.

        Raises:
            DataError: if nothing was written, or two requests have one id.
        """
        if not self._ids:
            raise DataError(
                f"data set '{self._name}': no requests were written; is the source empty?"
            )
        check_unique(pl.concat(self._ids))
        for key in list(self._waiting):
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
        content = manifest.model_dump_json(indent=1, by_alias=True).encode()
        _write(self._folder / MANIFEST, content)
        self._check_target()
        self._swap()

    def _write_catalogue(self) -> Catalogue | None:
        if self._items is None:
            return None
        try:
            items = self._check.of_catalogue(self._items)
        except DataError as error:
            raise DataError(f"data set '{self._name}': {error}") from None
        path = "items.parquet"
        size, sha256 = _write_frame(self._folder / path, items)
        return Catalogue(path=path, items=items.height, bytes=size, sha256=sha256)

    def _check_target(self) -> None:
        """Only a data set may be replaced: ``overwrite`` must not cost anyone other files."""
        if self.path.is_dir() and not any(self.path.iterdir()):
            return
        if (self.path / MANIFEST).is_file():
            if not self._overwrite:
                raise DataError(
                    f"{self.path}: there is a data set already; choose another folder, or say "
                    "overwrite=True to replace it"
                )
        elif self.path.exists():
            raise DataError(
                f"{self.path}: exists and is not a data set; choose another folder, or remove it"
            )

    def _swap(self) -> None:
        old = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}.old")
        try:
            if self.path.exists():
                self.path.rename(old)
            self._folder.rename(self.path)
        except OSError as error:
            if old.exists():
                old.rename(self.path)
            raise DataError(
                f"{self.path}: cannot be put in place: {error.strerror or error}"
            ) from None
        shutil.rmtree(old, ignore_errors=True)

    def _remember(self, frame: pl.DataFrame) -> None:
        self._ids.append(frame["request_id"])
        if "timestamp" in frame.columns:
            times = frame["timestamp"]
            self._times += [t for t in (times.min(), times.max()) if isinstance(t, datetime)]

    def _mark_safe(self) -> None:
        self._safe = (len(self._parts), len(self._ids), len(self._times))

    def _wait(self, key: _Key, frame: pl.DataFrame) -> None:
        waiting = self._waiting.setdefault(key, _Waiting())
        waiting.frames.append(frame)
        waiting.requests += frame.height
        waiting.candidates += int(self._lengths(frame).sum())

    def _held(self) -> tuple[list[int], list[int]]:
        """Requests and candidates that wait, by day and given part."""
        waiting = self._waiting.values()
        return [w.requests for w in waiting], [w.candidates for w in waiting]

    def _lengths(self, frame: pl.DataFrame) -> NDArray[np.int64]:
        return lengths_of(frame[self._check.candidate_column])

    def _flush(self, key: _Key, *, everything: bool = False) -> None:
        """Write files of what waits for a day; less than a file only if there is no full one."""
        frame = pl.concat(self._waiting.pop(key).frames)
        filled = np.cumsum(self._lengths(frame))
        most_requests, most_candidates = self._most
        start = 0
        while start < frame.height:
            before = int(filled[start - 1]) if start else 0
            full_at = int(np.searchsorted(filled, before + most_candidates)) + 1
            end = min(start + most_requests, full_at)
            if end > frame.height and start and not everything:
                self._wait(key, frame[start:])
                break
            self._write_part(frame[start:end], *key)
            start = end

    def _write_part(self, frame: pl.DataFrame, day: date | None, given: str | None) -> None:
        folder = "requests" if day is None else f"requests/day={day.isoformat()}"
        folder += f"/given={given}" * (given is not None)
        taken = {p.path for p in self._parts}  # not counted: a step may have gone from between
        path = next(p for i in count() if (p := f"{folder}/part-{i:05}.parquet") not in taken)
        size, sha256 = _write_frame(self._folder / path, frame)
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


def _write_frame(path: Path, frame: pl.DataFrame) -> tuple[int, str]:
    """Write as Parquet; return the size of the file and its checksum."""
    sink = io.BytesIO()
    frame.write_parquet(sink)
    content = sink.getvalue()
    _write(path, content)
    return len(content), hashlib.sha256(content).hexdigest()


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
