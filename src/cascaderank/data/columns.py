"""The encoded log: every column flat, in files that are mapped into memory."""

import mmap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.column_files import ColumnFiles, mapping_of
from cascaderank.data.encoding import Encoder, check_same_features
from cascaderank.data.flat import flat_columns
from cascaderank.data.hashing import mix, seeded
from cascaderank.data.labels import Relabelling, Target, needs
from cascaderank.data.manifest import Part
from cascaderank.data.ragged import offsets_of, positions_within
from cascaderank.data.request_log import RequestLog
from cascaderank.data.tables import Table
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import FittedSchema

Column = NDArray[Any]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedLog:
    """Requests as flat columns: the candidates of all requests one after another.

    Those of request ``r`` are ``offsets[r]`` to ``offsets[r + 1]``. Made by :meth:`build` from a
    request log, or by :meth:`of_frame` from a few requests in memory.

    Examples:
        >>> fitted = FittedSchema(
        ...     features=({"name": "price", "role": "item", "kind": "numeric"},),
        ...     moments={"price": {"mean": 0.0, "deviation": 1.0}},
        ... )
        >>> log = EncodedLog.of_frame(pl.DataFrame({"price": [[1.0, 2.0], [3.0]]}), fitted)
        >>> log.requests, log.offsets.tolist(), log.items["price"].tolist()
        (2, [0, 2, 3], [1.0, 2.0, 3.0])
    """

    request_ids: pl.Series
    """``[requests]``."""
    offsets: NDArray[np.int64]
    """``[requests + 1]``: where the candidates of each request start."""
    items: Mapping[str, Column]
    """Features of candidates by name, each ``[candidates]``."""
    request: Mapping[str, Column] = field(default_factory=dict)
    """Features of requests by name, each ``[requests]``."""
    history: Mapping[str, Column] = field(default_factory=dict)
    """Features of histories by name, each ``[entries]``, oldest first."""
    history_offsets: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """``[requests + 1]`` by sequence: where the history of each request starts."""
    sequences: Mapping[str, str] = field(default_factory=dict)
    """Sequence of each history feature."""
    labels: NDArray[np.float32] | None = None
    """``[candidates]``, higher is better."""
    levels: NDArray[np.int8] | None = None
    """``[candidates]``, 0 lowest."""
    feedback: NDArray[np.float32] | None = None
    """``[candidates]``, what the user did with each, such as 1 for a click."""
    days: NDArray[np.int32] | None = None
    """``[requests]`` days of the log, since 1970-01-01; ``None`` if the log has no timestamps."""

    @property
    def requests(self) -> int:
        """How many requests there are."""
        return len(self.offsets) - 1

    @property
    def mapped_bytes(self) -> int:
        """Size of the files that columns are mapped from; 0 if all are in memory."""
        return sum(len(mapping) for mapping in self._mappings())

    def release(self) -> None:
        """Let go of what was read from mapped files, and stays in the cache of the system.

        It counts as memory of the process until then. It is read again when it is needed.
        """
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            for mapping in self._mappings():
                mapping.madvise(mmap.MADV_DONTNEED)

    def _mappings(self) -> list[mmap.mmap]:
        columns = [*self.items.values(), *self.request.values(), *self.history.values()]
        columns += [c for c in (self.labels, self.levels, self.feedback) if c is not None]
        # By identity, since columns that lie side by side are mapped together.
        mappings = {id(mapping): mapping for mapping in map(mapping_of, columns)}
        return [mapping for mapping in mappings.values() if mapping is not None]

    @classmethod
    def build(
        cls,
        log: RequestLog,
        fitted: FittedSchema,
        *,
        target: Target | None,
        folder: Path,
        history_length: int = 50,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Self:
        """Encode a request log into files, part by part, and map them into memory.

        The candidates of a request are put into an order that chance (``seed`` and the request's
        row) decides, once: logs list the best first, and a model that ties must not profit by it.

        Args:
            log: the data set.
            fitted: what was learnt from the training requests.
            target: what the labels are, see :mod:`cascaderank.data.labels`; ``None`` for no labels.
            folder: where the files go; made if it is not there. It must outlive what is returned.
            history_length: how many entries of a history are kept, the latest.
            seed: of the order of candidates.
            progress: hears how many requests were encoded since it last heard.

        Raises:
            SchemaError: if the log does not have the features that the schema was fitted to.
            DataError: if the log is damaged, or lacks what the target is made of.
            ConfigError: if there is no such target, or ``history_length`` is not positive.

        Examples:
            >>> import tempfile
            >>> from cascaderank.data.encoding import fit_schema
            >>> from cascaderank.data.request_log import RequestLogWriter
            >>> from cascaderank.schema import Schema
            >>> schema = Schema(features=({"name": "ad", "role": "item", "kind": "categorical"},))
            >>> frame = pl.DataFrame({"request_id": [1], "ad": [[8, 5]], "label": [[1, 0]]})
            >>> with tempfile.TemporaryDirectory() as name:
            ...     folder = Path(name)
            ...     with RequestLogWriter(folder / "log", name="shop", schema=schema) as writer:
            ...         writer.write(frame)
            ...     log = RequestLog.open(folder / "log")
            ...     fitted = fit_schema(log.schema, log.frames())
            ...     encoded = EncodedLog.build(
            ...         log, fitted, target="label", folder=folder / "columns"
            ...     )
            ...     dict(zip(encoded.items["ad"].tolist(), encoded.labels.tolist()))[2]
            1.0
        """
        parts, there = log.manifest.parts, log.manifest.columns
        check_same_features(fitted, log.schema, where=str(log.path))
        wanted = needs(target, there, where=str(log.path)) if target else ()
        if isinstance(target, Relabelling):
            target.check_levels(len(log.manifest.level_names), where=str(log.path))
        extra = [c for c in ("level", "feedback", *wanted) if c in there]
        columns = list(dict.fromkeys(["request_id", *fitted.names, *extra]))
        encoder = Encoder(fitted)
        chunks = (_from_part(log, part, columns, encoder, target, history_length) for part in parts)
        joined = _joined(chunks, folder, seed, progress or _nobody)
        return replace(joined, days=_days_of(parts))

    @classmethod
    def of_frame(
        cls,
        frame: pl.DataFrame,
        fitted: FittedSchema | Encoder,
        *,
        target: Target | None = None,
        history_length: int = 50,
    ) -> Self:
        """Encode some requests in memory; candidates keep their order.

        Args:
            frame: one row per request with the features of the fitted schema; ``request_id``,
                ``level``, ``position``, ``label`` and ``feedback`` if they are at hand.
            fitted: what was learnt from the training requests, or an encoder of it.
            target: what the labels are; ``None`` for no labels.
            history_length: how many entries of a history are kept, the latest.

        Raises:
            SchemaError: if a feature is missing or of another type.
            DataError: if lists of a request differ in length, if a value is null or not finite
                that must not be, or if the target is made of a column that is missing.
            ConfigError: if there is no such target, or ``history_length`` is not positive.
        """
        if history_length < 1:
            raise ConfigError(f"history_length must be at least 1; got {history_length}")
        encoder = fitted if isinstance(fitted, Encoder) else Encoder(fitted)
        return cls(**flat_columns(frame, encoder, target=target, history_length=history_length))


def _from_part(
    log: RequestLog,
    part: Part,
    columns: list[str],
    encoder: Encoder,
    target: Target | None,
    history_length: int,
) -> EncodedLog:
    frame = log.read(part, columns)
    try:
        chunk = EncodedLog.of_frame(frame, encoder, target=target, history_length=history_length)
    except DataError as error:
        raise type(error)(f"{log.path / part.path}: {error}") from None
    empty = np.flatnonzero(np.diff(chunk.offsets) == 0)
    if len(empty):
        raise DataError(
            f"{log.path / part.path}: {len(empty)} requests have no candidates, first "
            f"'{chunk.request_ids[int(empty[0])]}'; leave them out"
        )
    return chunk


def _joined(
    chunks: Iterable[EncodedLog], folder: Path, seed: int, progress: Callable[[int], None]
) -> EncodedLog:
    """Append the columns of all chunks to files, candidates shuffled, and map them."""
    ids, rows = [], 0
    with ColumnFiles(folder) as files:
        for chunk in chunks:
            order = _chance_order(np.diff(chunk.offsets), rows, seed)
            tables = _tables(chunk)
            for key, values in _columns(chunk, tables).items():
                of_candidates = key.startswith(_OF_CANDIDATES)
                files.append(key, values[order] if of_candidates else values)
            ids.append(chunk.request_ids)
            rows += chunk.requests
            progress(chunk.requests)
        mapped = {key: files.mapped(key) for key in _columns(chunk, tables)}

    def table(what: str) -> Table:
        of = tables[what]
        return Table({names: mapped[_key(what, names)] for names in of.blocks}, tuple(of))

    return EncodedLog(
        request_ids=pl.concat(ids),
        offsets=offsets_of(mapped["lengths:"]),
        items=table("items"),
        request=table("request"),
        history=table("history"),
        history_offsets={
            name: offsets_of(mapped[f"entries:{name}"]) for name in chunk.history_offsets
        },
        sequences=chunk.sequences,
        labels=mapped.get("labels:"),
        levels=mapped.get("levels:"),
        feedback=mapped.get("feedback:"),
    )


_OF_CANDIDATES = ("items:", "labels:", "levels:", "feedback:")


def _tables(chunk: EncodedLog) -> dict[str, Table]:
    return {
        "items": Table.of(chunk.items),
        "request": Table.of(chunk.request),
        "history": Table.of(chunk.history, chunk.sequences),
    }


def _columns(chunk: EncodedLog, tables: Mapping[str, Table]) -> dict[str, Column]:
    """All that goes into files, by what it is, a colon, and its name."""
    columns: dict[str, Column] = {"lengths:": np.diff(chunk.offsets)}
    for what, table in tables.items():
        columns |= {_key(what, names): block for names, block in table.blocks.items()}
    columns |= {f"entries:{name}": np.diff(of) for name, of in chunk.history_offsets.items()}
    for what in ("labels", "levels", "feedback"):
        values = getattr(chunk, what)
        if values is not None:
            columns[f"{what}:"] = values
    return columns


def _key(what: str, names: tuple[str, ...]) -> str:
    return f"{what}:{','.join(names)}"


def _days_of(parts: Sequence[Part]) -> NDArray[np.int32] | None:
    """The day of each request; a part has requests of one day."""
    days = [part.day for part in parts if part.day is not None]
    if len(days) < len(parts):
        return None
    since = np.array(days, dtype="datetime64[D]").astype(np.int32)
    return np.repeat(since, [part.requests for part in parts])


def _chance_order(lengths: NDArray[np.int64], first: int, seed: int) -> NDArray[np.int64]:
    """Order that shuffles the candidates inside each request, as seed and row decide.

    Args:
        lengths: of the requests.
        first: row of the first of them.
        seed: of the order.
    """
    rows = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths).view(np.uint64)
    keys = mix((rows + np.uint64(first)) ^ seeded(seed))
    keys = mix(keys ^ positions_within(lengths).view(np.uint64))
    # The row leads, so that candidates stay in their request; 32 bits of chance follow it.
    return ((rows << np.uint64(32)) | (keys >> np.uint64(32))).argsort(kind="stable")


def _nobody(requests: int) -> None:
    """Hear nothing."""
