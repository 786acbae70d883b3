"""Writes served requests and feedback to data sets, in one thread."""

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import polars as pl
from pydantic import JsonValue

from cascaderank.errors import CascadeRankError, ConfigError, DataError
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.exploration_propensities import served_propensities
from cascaderank.serving.served import Served
from cascaderank.serving.served_feedback import with_feedback
from cascaderank.serving.served_frame import ServedFormat, ServedRow
from cascaderank.serving.served_parts import ServedParts
from cascaderank.serving.served_settings import LogSettings, LogStatus

_CHUNK = 64  # requests that are converted together: a short hold of the interpreter's lock
_ROUNDS = 2  # rotations after which feedback to an unknown request is dropped
_MOST_PENDING = 1_000_000  # requests with feedback that waits

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class _Book:
    """One data set that is being written."""

    format: ServedFormat
    parts: ServedParts
    sizes: dict[str, JsonValue]
    """Size of the sample of each stage."""
    rows: list[ServedRow] = field(default_factory=list)
    frames: list[pl.DataFrame] = field(default_factory=list)
    requests: int = 0
    since: float = field(default_factory=time.monotonic)


@final
class ServedWriter:
    """Collects served requests and feedback, and writes parts; not for several threads.

    Answers of a bundle with other features or stages than the first are written to a data set of
    their own beside the folder, ``FOLDER-VARIANT``.

    Args:
        folder: folder of the log.
        bundle: bundle that the log is for.
        settings: settings of the log.

    Raises:
        DataError: see :class:`~cascaderank.serving.served_parts.ServedParts`.
    """

    def __init__(
        self, folder: str | os.PathLike[str], bundle: Bundle, settings: LogSettings
    ) -> None:
        self.status = LogStatus()
        self._folder, self._settings = Path(folder), settings
        self._books = {"": self._book(self._folder, bundle)}
        self._bundles: list[tuple[Bundle, str]] = [(bundle, "")]
        self._pending: dict[str, dict[object, float]] = {}
        self._rounds: dict[str, int] = {}

    def close(self) -> None:
        """Release the folders."""
        for book in self._books.values():
            book.parts.close()

    def take(self, served: Served) -> None:
        """Take a request; one that does not fit the log is counted."""
        try:
            row = self._row(served)
            book = self._book_of(row)
        except CascadeRankError as error:
            self.status.refused += 1
            self.problem(error)
            return
        book.rows.append(row)
        book.requests += 1
        if len(book.rows) >= _CHUNK:
            self._convert(book)

    def respond(self, request_id: str, item: Any, value: float) -> None:
        """Take the response to an item; it is joined when a part is written."""
        if len(self._pending) >= _MOST_PENDING:
            self.status.unmatched += 1
            return
        self._pending.setdefault(request_id, {})[item] = value
        self._rounds[request_id] = 0

    def rotate(self, *, everything: bool, last: bool = False) -> None:
        """Write parts that are full or old, and join feedback.

        Args:
            everything: write all parts.
            last: feedback to unknown requests does not wait any longer.
        """
        now, rotated = time.monotonic(), False
        for book in self._books.values():
            old = now - book.since >= self._settings.seconds_per_part
            if everything or old or book.requests >= self._settings.requests_per_part:
                rotated, book.since = True, now
                self._convert(book)
                if book.frames:
                    self._write(book, last=last)
        if rotated and self._pending:
            self._join(last=last)

    def problem(self, error: Exception) -> None:
        """Keep the latest problem in the status, and log it when it changes."""
        message = str(error) or type(error).__name__
        if message != self.status.problem:
            logger.warning("served log: %s", message)
        self.status.problem = message

    def _row(self, served: Served) -> ServedRow:
        logged, exploration = served.answer.logged, self._settings.exploration
        if logged is None:
            raise ConfigError("the answer has no candidates to log; rank with sampling of this log")
        propensities, draws = None, self._settings.propensity_draws
        if exploration is not None and logged.explored is not None and draws:
            propensities = served_propensities(logged.explored, exploration, draws=draws)
        return ServedRow(
            served=served, logged=logged, exploration=exploration, propensities=propensities
        )

    def _book_of(self, row: ServedRow) -> _Book:
        bundle = row.logged.bundle
        name = next((name for known, name in self._bundles if known is bundle), None)
        if name is None:
            own, main = ServedFormat(bundle), self._books[""].format
            variant = row.served.variant.partition("+")[0] or row.served.bundle
            name = "" if own.same_as(main) else variant
            # Of few bundles, since a reloaded one replaces another, whose answers are done.
            self._bundles = [*self._bundles[-7:], (bundle, name)]
            if name in self._books:
                self._set_items(self._books[name], bundle)
        if name not in self._books:
            folder = self._folder.with_name(f"{self._folder.name}-{name}")
            self._books[name] = self._book(folder, bundle)
        return self._books[name]

    def _book(self, folder: Path, bundle: Bundle) -> _Book:
        sampling, form = self._settings.sampling, ServedFormat(bundle)
        sizes: dict[str, JsonValue] = {name: sampling.of(name) for name in form.stages}
        parts = ServedParts(
            folder,
            name=folder.name,
            schema=form.schema,
            level_names=form.level_names,
            columns=form.columns,
            key=form.key,
            extra={"served": {"sampling": sizes, "lost": 0}, **form.identity},
        )
        book = _Book(format=form, parts=parts, sizes=sizes)
        self._set_items(book, bundle)
        return book

    def _set_items(self, book: _Book, bundle: Bundle) -> None:
        items = book.format.catalogue(bundle)
        if items is not None:
            book.parts.set_items(items)

    def _convert(self, book: _Book) -> None:
        """Convert rows to a frame; one that does not fit the log is left out and counted."""
        rows, book.rows = book.rows, []
        if not rows:
            return
        try:
            book.frames.append(book.format.frame(rows))
        except DataError:
            for row in rows:
                try:
                    book.frames.append(book.format.frame([row]))
                except DataError as error:
                    self.status.refused += 1
                    self.problem(error)

    def _write(self, book: _Book, *, last: bool) -> None:
        frame = pl.concat(book.frames)
        ids = frame["request_id"]
        repeated = pl.Series(book.parts.known(ids)) | ~ids.is_first_distinct()
        new = frame.filter(~repeated)
        new, found = with_feedback(new, self._pending, key=book.format.key)
        try:
            if new.height:
                book.parts.add(new, {"served": self._facts(book)})
        except CascadeRankError as error:
            self.problem(error)
            if frame.height < 2 * self._settings.requests_per_part and not last:
                return  # the next rotation tries again
            self.status.dropped += new.height
        else:
            self.status.written += new.height
            self._joined(found)
        self.status.repeated += int(repeated.sum())
        book.frames, book.requests = [], 0

    def _join(self, *, last: bool) -> None:
        for book in self._books.values():
            if self._pending:
                try:
                    self._joined(book.parts.join(self._pending, {"served": self._facts(book)}))
                except CascadeRankError as error:
                    self.problem(error)
                    return
        for request_id in list(self._rounds):
            self._rounds[request_id] += 1
            if last or self._rounds[request_id] >= _ROUNDS:
                self.status.unmatched += len(self._pending.pop(request_id))
                del self._rounds[request_id]

    def _joined(self, found: set[tuple[str, object]]) -> None:
        self.status.joined += len(found)
        for request_id, item in found:
            items = self._pending.get(request_id, {})
            items.pop(item, None)
            if not items and request_id in self._rounds:
                del self._pending[request_id], self._rounds[request_id]

    def _facts(self, book: _Book) -> JsonValue:
        return {"sampling": book.sizes, "lost": book.parts.lost + self.status.lost}
