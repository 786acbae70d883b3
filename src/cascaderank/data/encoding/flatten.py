"""Conversion of a frame of requests to flat, encoded columns."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.encoding.value_lists import ValueLists
from cascaderank.data.labels import Target, labels_of
from cascaderank.data.log.validation import CANDIDATE_COLUMNS
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT, check_weights
from cascaderank.data.ragged import flattened, lengths_of, lists_of, nested, offsets_of
from cascaderank.errors import DataError, SchemaError
from cascaderank.schema import Feature, Role, abridged


def flat_columns(
    frame: pl.DataFrame,
    encoder: Encoder,
    *,
    target: Target | None,
    history_length: int,
    levels: int | None = None,
) -> dict[str, Any]:
    """Encode a frame and return the fields of an ``EncodedLog``.

    Args:
        frame: one row per request.
        encoder: encoder of the fitted schema.
        target: definition of the labels; ``None`` for no labels.
        history_length: maximum number of history entries per request; the latest are kept.
        levels: number of levels of the log, for targets that depend on it.

    Raises:
        SchemaError: if a feature is missing or has another type.
        DataError: if the lists of a request have unequal lengths, or if values are null or not
            finite.
        ConfigError: if the target does not exist.
    """
    fitted = encoder.fitted
    missing = [n for n in fitted.names if n not in frame.columns]
    if missing:
        raise SchemaError(
            f"features are missing: {abridged(missing)}; found {abridged(frame.columns)}"
        )
    extra = [c for c in (*CANDIDATE_COLUMNS, CANDIDATE_WEIGHT) if c in frame.columns]
    of_items = [*(f.name for f in fitted.of(Role.ITEM)), *extra]
    if not of_items:
        raise SchemaError(
            "found no column of candidates; add an item feature to the schema, or one of "
            f"{', '.join(CANDIDATE_COLUMNS)} to the frame"
        )
    frame = frame.with_columns(nested(frame[f.name], f) for f in fitted.features if f.several)
    lengths = _common_lengths(frame, of_items, "candidates")
    sequences = {f.name: f.sequence for f in fitted.of(Role.HISTORY)}
    tails = frame.select(pl.col(name).list.tail(history_length) for name in sequences)
    plain = {name: _without_nulls(frame[name]) for name in extra if name != CANDIDATE_WEIGHT}
    return {
        "request_ids": frame["request_id"]
        if "request_id" in frame.columns
        else pl.Series("request_id", range(frame.height)),
        "offsets": offsets_of(lengths),
        "items": {
            f.name: encoder(f, flattened(frame[f.name]), lengths)
            for f in fitted.of(Role.ITEM)
            if not f.several
        },
        "item_lists": {
            f.name: encoded_lists(encoder, f, flattened(frame[f.name]))
            for f in fitted.of(Role.ITEM)
            if f.several
        },
        "request": {
            f.name: encoder(f, frame[f.name]) for f in fitted.of(Role.REQUEST) if not f.several
        },
        "request_lists": {
            f.name: encoded_lists(encoder, f, frame[f.name])
            for f in fitted.of(Role.REQUEST)
            if f.several
        },
        "history": {f.name: encoder(f, flattened(tails[f.name])) for f in fitted.of(Role.HISTORY)},
        "history_offsets": {
            sequence: offsets_of(
                _common_lengths(
                    tails, [n for n in sequences if sequences[n] == sequence], "history"
                )
            )
            for sequence in dict.fromkeys(sequences.values())
        },
        "sequences": sequences,
        "labels": None if target is None else labels_of(target, plain, levels=levels),
        "levels": plain["level"].astype(np.int8) if "level" in plain else None,
        "weights": _weights(frame, REQUEST_WEIGHT),
        "candidate_weights": _weights(frame, CANDIDATE_WEIGHT),
        "feedback": plain["feedback"].astype(np.float32) if "feedback" in plain else None,
    }


def encoded_lists(encoder: Encoder, feature: Feature, column: pl.Series) -> ValueLists:
    """Encode a column with a list of values per candidate or request.

    Args:
        encoder: encoder of the fitted schema.
        feature: a feature with several values.
        column: lists; null is an empty list.

    Raises:
        SchemaError: if the values have another type than those that the schema was fitted to.
        DataError: if a list contains a null or is no vector of its width, or if numbers are not
            finite.

    Examples:
        >>> from cascaderank.schema import FittedSchema
        >>> feature = {"name": "tags", "role": "request", "kind": "categorical", "multiple": True}
        >>> fitted = FittedSchema(features=(feature,), vocabularies={"tags": ("a", "b")})
        >>> tags = pl.Series("tags", [["b", "other"], None])
        >>> encoded_lists(Encoder(fitted), fitted["tags"], tags).values.tolist()
        [2, 0]
    """
    offsets, values = lists_of(column, feature)
    return ValueLists(offsets=offsets, values=encoder(feature, values), width=feature.width or 1)


def _common_lengths(frame: pl.DataFrame, columns: list[str], group: str) -> NDArray[np.int64]:
    """Return the lengths of the lists of each request, equal for all columns of a group."""
    for name in columns:
        if not isinstance(frame.schema[name], pl.List) or frame[name].null_count():
            raise SchemaError(
                f"column '{name}' must be a list per request; found {frame.schema[name]}"
                f"{' with nulls' if frame[name].null_count() else ''}"
            )
    lengths = {name: lengths_of(frame[name]) for name in columns}
    first = lengths[columns[0]]
    for name in columns[1:]:
        unequal = np.flatnonzero(lengths[name] != first)
        if len(unequal):
            row = int(unequal[0])
            raise DataError(
                f"{group}: lists of unequal length in {len(unequal)} requests, first in row {row}: "
                f"{columns[0]} {first[row]}, {name} {lengths[name][row]}; expected one value of "
                "each per entry"
            )
    return first


def _weights(frame: pl.DataFrame, name: str) -> NDArray[np.float32] | None:
    """Return the weights of requests or candidates; ``None`` if the frame has none."""
    if name not in frame.columns:
        return None
    values = flattened(frame[name]) if name == CANDIDATE_WEIGHT else frame[name]
    check_weights(values, name=name)
    return values.to_numpy().astype(np.float32)


def _without_nulls(column: pl.Series) -> NDArray[Any]:
    values = flattened(column)
    if values.null_count():
        raise DataError(f"column '{column.name}' has {values.null_count()} null values; fill them")
    return values.to_numpy()
