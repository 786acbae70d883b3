"""Writes served requests and feedback to data sets, in one thread."""

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import polars as pl
from pydantic import JsonValue

from cascaderank.errors import ConfigError
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.exploration_propensities import served_propensities
from cascaderank.serving.served import Served
from cascaderank.serving.served_feedback import PendingFeedback, with_feedback
from cascaderank.serving.served_frame import ServedFormat, ServedRow
from cascaderank.serving.served_parts import ServedParts
from cascaderank.serving.served_settings import LogSettings, LogStatus

_CHUNK = 64  # requests that are converted together: a short hold of the interpreter's lock

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
    """Time of the latest part, or of the latest failure to write one."""
    failed: bool = False
    """Whether the latest part could not be written; the next one waits for more requests."""


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
        self._pending = PendingFeedback()

    def close(self) -> None:
        """Release the folders."""
        for book in self._books.values():
            book.parts.close()

    def take(self, served: Served) -> None:
        """Take a request; one that does not fit the log, or has no candidates, is counted."""
        try:
            row = self._row(served)
            if not row.logged.keys:
                self.status.empty += 1
                return
            book = self._book_of(row)
        except Exception as error:  # noqa: BLE001 - no request is lost without being counted
            self.status.refused += 1
            self.problem(error)
            return
        book.rows.append(row)
        book.requests += 1
        if len(book.rows) >= _CHUNK:
            self._convert(book)

    def respond(self, request_id: str, item: Any, value: float) -> None:
        """Take the response to an item; it is joined when a part is written."""
        self.status.unmatched += not self._pending.add(request_id, item, value)

    def rotate(self, *, everything: bool, last: bool = False) -> None:
        """Write parts that are full or old, and join feedback.

        Args:
            everything: write all parts.
            last: feedback to unknown requests does not wait any longer.
        """
        now, rotated = time.monotonic(), False
        for book in self._books.values():
            old = now - book.since >= self._settings.seconds_per_part
            if everything or old or book.requests >= self._limit(book):
                rotated, book.since = True, now
                self._convert(book)
                if book.frames:
                    book.failed = not self._write(book, last=last)
                else:  # nothing new, or all refused
                    book.failed, book.requests = False, 0
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
        except Exception:  # noqa: BLE001 - of one row, which the others are separated from
            for row in rows:
                try:
                    book.frames.append(book.format.frame([row]))
                except Exception as error:  # noqa: BLE001 - a feature source can raise any
                    self.status.refused += 1
                    self.problem(error)

    def _limit(self, book: _Book) -> int:
        """Return the number of requests of a part: twice as many while the disk fails."""
        return self._settings.requests_per_part * (2 if book.failed else 1)

    def _write(self, book: _Book, *, last: bool) -> bool:
        """Write a part, and return whether the disk has it; after a failure, requests can wait."""
        frame = pl.concat(book.frames)
        ids = frame["request_id"]
        repeated = pl.Series(book.parts.known(ids)) | ~ids.is_first_distinct()
        new = frame.filter(~repeated)
        new, found = with_feedback(new, self._pending.by_request, key=book.format.key)
        try:
            if new.height:
                book.parts.add(new, {"served": self._facts(book)})
        except Exception as error:  # noqa: BLE001 - whatever it is, a retry waits
            self.problem(error)
            if book.requests < 2 * self._settings.requests_per_part and not last:
                return False  # a later rotation tries again
            self.status.dropped += new.height
            written = False
        else:
            self.status.written += new.height
            self._joined(found)
            written = True
        self.status.repeated += int(repeated.sum())
        book.frames, book.requests = [], 0
        return written

    def _join(self, *, last: bool) -> None:
        """Join feedback to parts; it does not grow older while the disk fails."""
        complete = not any(book.failed for book in self._books.values())
        for book in self._books.values():
            if self._pending:
                given, facts = self._pending.by_request, {"served": self._facts(book)}
                try:
                    self._joined(book.parts.join(given, facts))
                except Exception as error:  # noqa: BLE001 - other logs do not depend on it
                    self.problem(error)
                    complete = False
        if complete or last:
            self.status.unmatched += self._pending.age(last=last)

    def _joined(self, found: set[tuple[str, object]]) -> None:
        self.status.joined += len(found)
        self._pending.remove(found)

    def _facts(self, book: _Book) -> JsonValue:
        return {"sampling": book.sizes, "lost": book.parts.lost + self.status.lost}
