"""Identity of the candidates of a log, so that results can name items."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import polars as pl

from cascaderank.data.log.manifest import ITEM
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.log.validation import ITEM_KEY
from cascaderank.data.split import Rows
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.schema import Kind, Role, abridged
from cascaderank.settings.run import RunSettings


@final
@dataclass(frozen=True, kw_only=True)
class ItemKeys:
    """The column of a log that identifies candidates."""

    log: RequestLog
    """The request log."""
    column: str | None
    """Name of the column; ``None`` if the log has none, so that positions are used."""
    reason: str
    """Where the choice comes from, such as ``"catalogue.item of the run"``."""

    def __str__(self) -> str:
        if self.column is None:
            return "position in the logged list, from 0"
        return f"'{self.column}' ({self.reason})"

    def lists(self, rows: Rows, batch_size: int) -> Iterator[pl.Series | None]:
        """Return the keys of some requests, one list per request.

        Args:
            rows: row numbers of the requests, sorted.
            batch_size: number of requests in each series but the last.

        Yields:
            Lists in the order of the log; ``None`` for positions.
        """
        column = self.column
        if column is None:
            yield from (None for _ in range(0, len(rows), batch_size))
            return
        waiting: list[pl.Series] = []
        for frame in self.log.frames([column], rows=rows):
            waiting.append(frame[column])
            while sum(map(len, waiting)) >= batch_size:
                whole = pl.concat(waiting)
                yield whole[:batch_size]
                waiting = [whole[batch_size:]]
        if any(map(len, waiting)):
            yield pl.concat(waiting)


def item_keys(log: RequestLog, settings: RunSettings, item: str | None = None) -> ItemKeys:
    """Return how the candidates of a log are identified.

    The key is the first of these that exists: ``item``; the column ``item_key`` of the log; the
    feature ``catalogue.item`` of the settings; the feature ``item`` in the ``extra`` of the
    manifest, which a source records; the position in the logged list, from 0.

    Args:
        log: a request log.
        settings: settings of a run.
        item: categorical item feature, or ``"item_key"``.

    Raises:
        ConfigError: if ``item`` is not a column of candidates that can identify them.
    """
    features = [f.name for f in log.schema.of(Role.ITEM, Kind.CATEGORICAL) if not f.several]
    columns = [*([ITEM_KEY] if ITEM_KEY in log.manifest.columns else []), *features]
    if item is not None:
        if item not in columns:
            raise ConfigError(
                f"the key of items must be a categorical item feature of {log.path}, or "
                f"{ITEM_KEY}{did_you_mean(item, columns)}; got '{item}'; available: "
                f"{abridged(columns)}"
            )
        return ItemKeys(log=log, column=item, reason="chosen")
    recorded = log.manifest.extra.get(ITEM)
    for column, reason in (
        (ITEM_KEY, "column of the log"),
        (settings.catalogue.item if settings.catalogue else None, "catalogue.item of the run"),
        (recorded, "recorded in the log"),
    ):
        if isinstance(column, str) and column in columns:
            return ItemKeys(log=log, column=column, reason=reason)
    return ItemKeys(log=log, column=None, reason="the log has no identity of items")
