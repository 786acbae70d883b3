"""Encoded log: flat columns in files that are mapped into memory."""

import mmap
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.encoding.column_blocks import Table
from cascaderank.data.encoding.column_files import ColumnFiles, mapping_of
from cascaderank.data.encoding.encoder import Encoder, check_same_features
from cascaderank.data.encoding.flatten import flat_columns
from cascaderank.data.encoding.hashing import mix, seeded
from cascaderank.data.encoding.value_lists import ValueLists
from cascaderank.data.labels import Relabelling, Target, needs
from cascaderank.data.log.manifest import Part
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.log.validation import check_unique
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT
from cascaderank.data.ragged import offsets_of, positions_within
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import FittedSchema

Column = NDArray[Any]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedLog:
    """Encoded requests as flat columns: the candidates of all requests, concatenated.

    The candidates of request ``r`` are the slice ``offsets[r]:offsets[r + 1]`` of each column.
    :meth:`build` encodes a request log; :meth:`of_frame` encodes a few requests in memory.

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
    """``[requests]`` ids."""
    offsets: NDArray[np.int64]
    """``[requests + 1]`` index of the first candidate of each request, and the total at the end."""
    items: Mapping[str, Column]
    """Item features with one value by name, ``[candidates]`` each."""
    request: Mapping[str, Column] = field(default_factory=dict)
    """Request features with one value by name, ``[requests]`` each."""
    history: Mapping[str, Column] = field(default_factory=dict)
    """History features by name, ``[entries]`` each, oldest first."""
    history_offsets: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """``[requests + 1]`` index of the first entry of each request, by sequence."""
    sequences: Mapping[str, str] = field(default_factory=dict)
    """Sequence of each history feature."""
    labels: NDArray[np.float32] | None = None
    """``[candidates]`` training targets, higher is better."""
    levels: NDArray[np.int8] | None = None
    """``[candidates]`` funnel levels, 0 lowest."""
    feedback: NDArray[np.float32] | None = None
    """``[candidates]`` user feedback, such as 1 for a click."""
    item_lists: Mapping[str, ValueLists] = field(default_factory=dict)
    """Item features with several values by name, one list per candidate each."""
    request_lists: Mapping[str, ValueLists] = field(default_factory=dict)
    """Request features with several values by name, one list per request each."""
    weights: NDArray[np.float32] | None = None
    """``[requests]`` weights of the requests in training, at least 0."""
    candidate_weights: NDArray[np.float32] | None = None
    """``[candidates]`` weights of the candidates in training, at least 0."""
    days: NDArray[np.int32] | None = None
    """``[requests]`` days since 1970-01-01; ``None`` if the log has no timestamps."""

    @property
    def requests(self) -> int:
        """Number of requests."""
        return len(self.offsets) - 1

    @property
    def mapped_bytes(self) -> int:
        """Total size of the files that columns are mapped from; 0 if all columns are in memory."""
        return sum(len(mapping) for mapping in self._mappings())

    def release(self) -> None:
        """Release the resident pages of the mapped files.

        Pages that were read count as memory of the process until they are released. They stay in
        the page cache of the system and are mapped again on the next access. Has no effect on
        Windows.
        """
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            for mapping in self._mappings():
                mapping.madvise(mmap.MADV_DONTNEED)

    def _mappings(self) -> list[mmap.mmap]:
        columns = [*self.items.values(), *self.request.values(), *self.history.values()]
        for lists in (*self.item_lists.values(), *self.request_lists.values()):
            columns += [lists.offsets, lists.values]
        single = (getattr(self, name) for name in _SINGLE)
        columns += [column for column in single if column is not None]
        # By identity, because all columns of a block share one mapping.
        mappings = {id(mapping): mapping for mapping in map(mapping_of, columns)}
        return [mapping for mapping in mappings.values() if mapping is not None]

    @classmethod
    def build(
        cls,
        log: RequestLog,
        fitted: FittedSchema,
        *,
        target: Target | None,
        folder: str | os.PathLike[str],
        history_length: int = 50,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> Self:
        """Encode a request log into files, part by part, and map them into memory.

        The candidates of each request are shuffled once, in an order that depends on ``seed`` and
        the row of the request only. Logs list the best candidates first, and a model with tied
        scores must not profit from that order.

        Args:
            log: the data set.
            fitted: schema fitted to the training requests.
            target: definition of the labels, see :mod:`cascaderank.data.labels`; ``None`` for no
                labels.
            folder: folder of the files, a string or a path; created if it does not exist. It must
                exist as long as the returned log is used.
            history_length: maximum number of history entries per request, at least 1; the latest
                are kept.
            seed: seed of the order of candidates.
            progress: callback that receives the number of requests encoded since its last call.

        Raises:
            SchemaError: if the log does not have the features that the schema was fitted to.
            DataError: if the log is damaged or has a request twice, or a column of the target is
                missing.
            ConfigError: if the target does not exist, if a relabelling has another number of levels
                than the log, or if ``history_length`` is below 1.

        Examples:
            >>> import tempfile
            >>> from cascaderank.data.encoding.encoder import fit_schema
            >>> from cascaderank.data.log.request_log import RequestLogWriter
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
        parts, available = log.manifest.parts, log.manifest.columns
        check_same_features(fitted, log.schema, where=str(log.path))
        target_columns = needs(target, available, where=str(log.path)) if target else ()
        if isinstance(target, Relabelling):
            target.check_levels(len(log.manifest.level_names), where=str(log.path))
        extra = [REQUEST_WEIGHT, "level", "feedback", *target_columns, CANDIDATE_WEIGHT]
        extra = [column for column in extra if column in available]
        columns = list(dict.fromkeys(["request_id", *fitted.names, *extra]))
        encoder = Encoder(fitted)
        chunks = (_from_part(log, part, columns, encoder, target, history_length) for part in parts)
        joined = _joined(chunks, Path(folder), seed, progress or _ignore)
        try:
            check_unique(joined.request_ids)
        except DataError as error:
            raise DataError(f"{log.path}: {error}") from None
        return replace(joined, days=_days_of(parts))

    @classmethod
    def of_frame(
        cls,
        frame: pl.DataFrame,
        fitted: FittedSchema | Encoder,
        *,
        target: Target | None = None,
        history_length: int = 50,
        levels: int | None = None,
    ) -> Self:
        """Encode some requests in memory; candidates keep their order.

        Args:
            frame: one row per request with the features of the fitted schema, and optionally
                ``request_id``, ``request_weight``, ``level``, ``position``, ``label``,
                ``feedback`` and ``candidate_weight``.
            fitted: schema fitted to the training requests, or an encoder of it.
            target: definition of the labels; ``None`` for no labels.
            history_length: maximum number of history entries per request, at least 1; the latest
                are kept.
            levels: number of levels of the log, for targets that depend on it.

        Raises:
            SchemaError: if a feature is missing or has another type.
            DataError: if the lists of a request have unequal lengths, if values are infinite, NaN
                or null where the schema allows none, if a weight is negative, or if a column of
                the target is missing.
            ConfigError: if the target does not exist, or ``history_length`` is below 1.
        """
        if history_length < 1:
            raise ConfigError(f"history_length must be at least 1; got {history_length}")
        encoder = fitted if isinstance(fitted, Encoder) else Encoder(fitted)
        fields = flat_columns(
            frame, encoder, target=target, history_length=history_length, levels=levels
        )
        return cls(**fields)


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
        chunk = EncodedLog.of_frame(
            frame,
            encoder,
            target=target,
            history_length=history_length,
            levels=len(log.manifest.level_names),
        )
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
    """Append the columns of all chunks to files, with shuffled candidates, and map the files."""
    ids, rows = [], 0
    totals: dict[str, int] = {}
    with ColumnFiles(folder) as files:
        for chunk in chunks:
            numbers = np.arange(rows, rows + chunk.requests)
            order = shuffled_order(np.diff(chunk.offsets), numbers, seed=seed)
            tables = _tables(chunk)
            for key, values in _columns(chunk, tables).items():
                files.append(key, values[order] if key[0] in _OF_CANDIDATES else values)
            for name, of_candidates in chunk.item_lists.items():
                _append(files, name, of_candidates.taken(order), totals)
            for name, of_requests in chunk.request_lists.items():
                _append(files, name, of_requests, totals)
            ids.append(chunk.request_ids)
            rows += chunk.requests
            progress(chunk.requests)
        mapped = {key: files.mapped(key) for key in _columns(chunk, tables)}
        lists = {
            name: replace(
                of_chunk,
                offsets=files.mapped(("offsets", name)),
                values=files.mapped(("values", name)),
            )
            for name, of_chunk in (*chunk.item_lists.items(), *chunk.request_lists.items())
        }

    def table(group: str) -> Table:
        names = tables[group]
        return Table({block: mapped[group, *block] for block in names.blocks}, tuple(names))

    return EncodedLog(
        request_ids=pl.concat(ids),
        offsets=offsets_of(mapped["lengths",]),
        items=table("items"),
        request=table("request"),
        history=table("history"),
        history_offsets={
            name: offsets_of(mapped["entries", name]) for name in chunk.history_offsets
        },
        sequences=chunk.sequences,
        **{name: mapped.get((name,)) for name in _SINGLE},
        item_lists={name: lists[name] for name in chunk.item_lists},
        request_lists={name: lists[name] for name in chunk.request_lists},
    )


def _append(files: ColumnFiles, name: str, lists: ValueLists, totals: dict[str, int]) -> None:
    """Append the lists of a feature to its files; ``totals`` is the number of values by feature."""
    before = totals.get(name)
    offsets = lists.offsets if before is None else before + lists.offsets[1:]
    files.append(("offsets", name), offsets)
    files.append(("values", name), lists.values)
    totals[name] = (before or 0) + len(lists.values)


_SINGLE = ("labels", "levels", "feedback", "candidate_weights", "weights")
"""Fields of an encoded log with one column, which may be ``None``."""

_OF_CANDIDATES = ("items", "labels", "levels", "feedback", "candidate_weights")
"""Groups of columns with one row per candidate."""

_Key = tuple[str, ...]
"""Group of a column and the names of the features in it; no separator, as names have any text."""


def _tables(chunk: EncodedLog) -> dict[str, Table]:
    return {
        "items": Table.of(chunk.items),
        "request": Table.of(chunk.request),
        "history": Table.of(chunk.history, chunk.sequences),
    }


def _columns(chunk: EncodedLog, tables: Mapping[str, Table]) -> dict[_Key, Column]:
    """Arrays that are written to files, by group and names."""
    columns: dict[_Key, Column] = {("lengths",): np.diff(chunk.offsets)}
    for group, table in tables.items():
        columns |= {(group, *names): block for names, block in table.blocks.items()}
    columns |= {
        ("entries", name): np.diff(offsets) for name, offsets in chunk.history_offsets.items()
    }
    for name in _SINGLE:
        values = getattr(chunk, name)
        if values is not None:
            columns[name,] = values
    return columns


def _days_of(parts: Sequence[Part]) -> NDArray[np.int32] | None:
    """Return the day of each request; all requests of a part have the same day."""
    days = [part.day for part in parts if part.day is not None]
    if len(days) < len(parts):
        return None
    numbers = np.array(days, dtype="datetime64[D]").astype(np.int32)
    return np.repeat(numbers, [part.requests for part in parts])


def shuffled_order(
    lengths: NDArray[np.int64], rows: NDArray[np.int64], *, seed: int = 0
) -> NDArray[np.int64]:
    """Return the order in which :meth:`EncodedLog.build` stores the candidates of some requests.

    Candidates are shuffled inside each request, by seed and row.

    Args:
        lengths: ``[requests]`` number of candidates of each request.
        rows: ``[requests]`` row of each request in the log.
        seed: seed of the order.

    Returns:
        ``[candidates]``: index of the logged candidate at each place, requests one after another.

    Examples:
        >>> order = shuffled_order(np.array([3, 2]), np.array([7, 4]))
        >>> sorted(order[:3].tolist()), sorted(order[3:].tolist())
        ([0, 1, 2], [3, 4])
    """
    local = np.repeat(np.arange(len(lengths), dtype=np.int64), lengths).view(np.uint64)
    numbers = np.repeat(rows.astype(np.int64), lengths).view(np.uint64)
    keys = mix(mix(numbers ^ seeded(seed)) ^ positions_within(lengths).view(np.uint64))
    # Sort by request, so that candidates stay in theirs, and then by 32 random bits.
    return ((local << np.uint64(32)) | (keys >> np.uint64(32))).argsort(kind="stable")


def _ignore(requests: int) -> None:
    """Do nothing; default of the progress callback."""
