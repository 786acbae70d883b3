"""Raw features of all items: from the item table of a log, its requests, or a file."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import polars as pl

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.ragged import flattened
from cascaderank.data.unreadable import UNREADABLE
from cascaderank.errors import ConfigError, DataError, SchemaError, counted, did_you_mean
from cascaderank.regular_files import check_path, check_regular
from cascaderank.schema import Feature, Schema, abridged, matching


@final
@dataclass(frozen=True, kw_only=True)
class RawItems:
    """Items with the features that describe them alone."""

    frame: pl.DataFrame
    """One row per item, sorted by key: the key and the features."""
    key: str
    """Column that identifies an item."""
    features: tuple[str, ...]
    """Features of the item alone, in the order of the schema."""
    source: str
    """Origin of the items, in words."""


def items_of_log(
    log: RequestLog, key: str, schema: Schema, *, latest: Sequence[str] = ()
) -> RawItems:
    """Return all items of a log.

    A log with an item table states which features describe an item alone: those of the table. In
    any other log, these are the features that have one value for each item in all requests. A
    feature with several values belongs to request and item together, unless ``latest`` names it:
    then it changes over time, and its last value in the log counts.

    Args:
        log: a request log.
        key: column of candidates that identifies an item.
        schema: item features that the stages read.
        latest: names or shell patterns of features that change over time.

    Raises:
        SchemaError: if a pattern of ``latest`` matches no item feature.
        DataError: if the log is damaged, or has no item.
    """
    names = [name for name in schema.names if name != key]
    changing = set(matching(schema.names, latest)) if latest else set()
    table = log.catalogue()
    if table is not None and key in table.columns:
        known = [name for name in names if name in table.columns]
        frame = table.select(key, *known).filter(pl.col(key).is_not_null())
        _check_keys(frame, key, str(log.path))
        source = f"item table of {log.path}"
    else:
        frame, varying = _last_values(log, key, [f for f in schema.features if f.name != key])
        known = [name for name in names if name not in varying or name in changing]
        frame, source = frame.select(key, *known), f"requests of {log.path}"
    if not frame.height:
        raise DataError(f"{log.path}: no item has a '{key}'; choose another feature with --item")
    return RawItems(
        frame=frame.sort(key),
        key=key,
        features=tuple(n for n in schema.names if n in known or n == key),
        source=source,
    )


def items_of_file(path: str | os.PathLike[str], like: RawItems) -> RawItems:
    """Read items from a file, to replace those of a log.

    Args:
        path: Parquet file, or JSON lines, with one row per item.
        like: items of the log; the file must have their key and features, other columns are
            ignored.

    Raises:
        ConfigError: if the suffix is not that of a format.
        DataError: if the file cannot be read, or an item is missing its key or occurs twice.
        SchemaError: if a column is missing.
    """
    path = check_path(path, DataError)
    kinds: dict[str, Callable[[bytes], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".jsonl": pl.read_ndjson,
        ".ndjson": pl.read_ndjson,
    }
    read = kinds.get(path.suffix.lower())
    if read is None:
        raise ConfigError(
            f"--items: the name of the file must end with {', '.join(kinds)}; got '{path}'"
        )
    try:
        check_regular(path)
        frame = read(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UNREADABLE as error:
        kind = "a Parquet file" if path.suffix.lower() == ".parquet" else "JSON lines"
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: expected {kind}: {reason}; write the file again") from None
    columns = list(dict.fromkeys([like.key, *like.features]))
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise SchemaError(
            f"{path}: no column {abridged(missing)}{did_you_mean(missing[0], frame.columns)}; "
            f"found {abridged(frame.columns)}; an item needs {abridged(columns)}"
        )
    frame = frame.select(columns)
    if not frame.height:
        raise DataError(f"{path}: expected one row per item, found none")
    if frame[like.key].null_count():
        raise DataError(f"{path}: '{like.key}' is null in {frame[like.key].null_count()} rows")
    _check_keys(frame, like.key, str(path))
    return RawItems(
        frame=frame.sort(like.key), key=like.key, features=like.features, source=str(Path(path))
    )


def _last_values(
    log: RequestLog, key: str, features: Sequence[Feature]
) -> tuple[pl.DataFrame, set[str]]:
    """Return the last values of each item in a log, and the features that have several."""
    merged, varying = pl.DataFrame(), set[str]()
    for frame in log.frames([key, *(f.name for f in features)]):
        flat = pl.DataFrame({name: flattened(frame[name]) for name in frame.columns})
        flat = flat.filter(pl.col(key).is_not_null())
        together = pl.concat([merged, flat]) if merged.height else flat
        for feature in features:
            if feature.name not in varying and not _one_value(together, key, feature):
                varying.add(feature.name)
        merged = together.unique(key, keep="last", maintain_order=True)
    return merged, varying


def _one_value(frame: pl.DataFrame, key: str, feature: Feature) -> bool:
    """Return whether a feature has one value for each item; null is a value, too."""
    column = pl.col(feature.name)
    if feature.multiple:  # their order has no meaning, and null is an empty list
        column = column.list.sort().fill_null([])
    pairs = frame.select(key, column.hash().alias(f"hash of {feature.name}"))
    return pairs.n_unique() == pairs[key].n_unique()


def _check_keys(frame: pl.DataFrame, key: str, where: str) -> None:
    copies = frame.height - frame[key].n_unique()
    if copies:
        first = frame.filter(frame[key].is_duplicated())[key][0]
        raise DataError(
            f"{where}: {counted(copies, 'row')} repeat the '{key}' of another, first {first!r}; "
            "expected one row per item"
        )
