"""Served requests as rows of a request log."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any, Final, final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import JsonValue

from cascaderank.data.log.manifest import ITEM
from cascaderank.data.log.validation import ITEM_KEY, FrameCheck
from cascaderank.data.ragged import depth_of, offsets_of
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Role, Schema
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.exploration import Exploration
from cascaderank.serving.logged_candidates import LoggedCandidates
from cascaderank.serving.served import Served

PLACE: Final = "served/place"
"""Key of candidates without an identity: their position in the request, from 0."""

SERVED: Final = "served"
"""Name of the highest level."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ServedRow:
    """One request with its logged candidates."""

    served: Served
    logged: LoggedCandidates
    exploration: Exploration | None = None
    """Noise of the answer; ``None`` without exploration."""
    propensities: NDArray[np.float64] | None = None
    """``[logged]`` probability of each candidate to be served, given random noise."""


@final
class ServedFormat:
    """Columns of the log of a bundle, and the conversion of requests to rows.

    The features are those that the stages read, and the key of the items. Types of columns are
    those of the log that the run was trained on.

    Args:
        bundle: a bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        read = bundle.stage_schema.names
        items = bundle.items
        key = items.key if items is not None else None
        self.schema = Schema(
            features=tuple(f for f in bundle.schema.plain().features if f.name in {*read, key})
        )
        self.stages = bundle.cascade.stage_names
        self.level_names = (*(f"{name}_neg" for name in self.stages), SERVED)
        self.identity: dict[str, JsonValue] = {}
        """Entry of ``extra`` with the feature that identifies items, if one does."""
        self._dtypes = {n: t for n, t in bundle.log_types.items() if n in self.schema.names}
        self._key_type: pl.DataType = pl.Int64()
        if key is None or items is None:
            self.key = PLACE
        elif key in self.schema.names:
            self.key, self.identity = key, {ITEM: key}
        else:
            self.key, self._key_type = ITEM_KEY, items.raw.schema[key]
        self._check = FrameCheck(self.schema, self.level_names)

    def same_as(self, other: "ServedFormat") -> bool:
        """Return whether both have the same features, levels and columns."""
        return (self.schema, self.level_names, self.columns) == (
            other.schema,
            other.level_names,
            other.columns,
        )

    def catalogue(self, bundle: Bundle) -> pl.DataFrame | None:
        """Return all items of a bundle with their features; ``None`` without an identity."""
        if not self.identity or bundle.items is None:
            return None
        names = [n for n in bundle.items.raw.columns if n in self.schema.names]
        return bundle.items.raw.select(pl.col(n).cast(self._dtypes[n].inner) for n in names)  # type: ignore[attr-defined]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the data set."""
        own = ["request_id", "timestamp", *self.schema.names, "level", "position", "feedback"]
        return (*own, *([ITEM_KEY] if self.key == ITEM_KEY else []))

    def frame(self, rows: Sequence[ServedRow]) -> pl.DataFrame:
        """Return requests as rows of a log, with further columns that begin with ``served/``.

        Raises:
            DataError: if a value does not fit the log.
        """
        times = [row.served.time.astimezone(UTC) for row in rows]
        columns = [
            pl.Series("request_id", [row.served.request_id for row in rows], dtype=pl.String),
            pl.Series("timestamp", times, dtype=pl.Datetime("us", "UTC")),
        ]
        own_key = self.key not in self.schema.names
        try:
            given = [_given(row, self.schema) for row in rows]
            columns += [self._feature(feature, rows, given) for feature in self.schema.features]
            if own_key:
                keys = [_plain(row.logged.keys, self._key_type) for row in rows]
                key = pl.Series(self.key, keys, dtype=pl.List(self._key_type), strict=True)
        except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
            raise DataError(str(error).partition("\n")[0]) from None
        columns += [
            _lists("level", [row.logged.levels for row in rows]),
            _lists("position", [row.logged.positions for row in rows]),
            _lists("feedback", [np.zeros(len(row.logged.keys), np.float32) for row in rows]),
        ]
        if self.key == ITEM_KEY:
            columns.append(key)
        frame = self._check(pl.DataFrame(columns)).select(self.columns)
        return frame.with_columns(*([key] if self.key == PLACE else []), *self._notes(rows))

    def _notes(self, rows: Sequence[ServedRow]) -> list[pl.Series]:
        """Return what is known of the answers beyond the data set."""
        degraded = [[*row.served.answer.degraded] for row in rows]
        noise = [row.exploration for row in rows]
        return [
            pl.Series("served/bundle", [row.served.bundle for row in rows], dtype=pl.String),
            pl.Series("served/variant", [row.served.variant for row in rows], dtype=pl.String),
            pl.Series("served/degraded", degraded, dtype=pl.List(pl.String)),
            _lists("served/rate", [row.logged.rates for row in rows]),
            *(
                _lists(f"served/score/{stage}", [row.logged.scores[stage] for row in rows])
                for stage in self.stages
            ),
            pl.Series(
                "served/team",
                [None if row.served.teams is None else [*row.served.teams] for row in rows],
                dtype=pl.List(pl.String),
            ),
            pl.Series("served/exploration", [n and n.scale for n in noise], dtype=pl.Float64),
            pl.Series("served/exploration_seed", [n and n.seed for n in noise], dtype=pl.Int64),
            pl.Series(
                "served/propensity",
                [None if row.propensities is None else row.propensities.tolist() for row in rows],
                dtype=pl.List(pl.Float64),
            ),
        ]

    def _feature(
        self, feature: Feature, rows: Sequence[ServedRow], given: Sequence[Mapping[str, Any]]
    ) -> pl.Series:
        name, dtype = feature.name, self._dtypes[feature.name]
        if feature.role is not Role.ITEM:
            listed = feature.role is Role.HISTORY
            values = [row.served.request.get(name) for row in rows]
            values = [_plain([] if v is None and listed else v, dtype) for v in values]
            return pl.Series(name, values, dtype=dtype, strict=True)
        inner = dtype.inner  # type: ignore[attr-defined]
        logged = [row.logged for row in rows]
        if not any(name in replaced for replaced in given) and _one_bundle(logged):
            flat = _of_catalogue(name, logged, inner)  # one look-up for all requests
            return _in_lists(name, flat, [len(each.keys) for each in logged]).cast(dtype)
        parts = [
            pl.Series(name, _plain(replaced[name], inner), dtype=inner, strict=True)
            if name in replaced
            else _of_catalogue(name, [each], inner)
            for each, replaced in zip(logged, given, strict=True)
        ]
        return pl.Series(name, parts, dtype=dtype, strict=True)


def _one_bundle(logged: Sequence[LoggedCandidates]) -> bool:
    return all(each.bundle is logged[0].bundle for each in logged)


def _given(row: ServedRow, schema: Schema) -> Mapping[str, Any]:
    """Return the features that replace those of the catalogue: of rows, else of the source."""
    logged, source = row.logged, row.logged.source
    provided = [
        name
        for name in (source.features if source is not None else ())
        if name in schema.names and name not in logged.given
    ]
    if source is None or not provided:
        return logged.given
    try:
        return {**source.values(row.served.request, logged.keys, provided), **logged.given}
    except OSError:  # as in the answer: values of the catalogue
        return logged.given


def _of_catalogue(name: str, logged: Sequence[LoggedCandidates], dtype: pl.DataType) -> pl.Series:
    """Return the values of all candidates of some requests of one bundle, one after another."""
    items = logged[0].bundle.items
    if items is None or name not in items.raw.columns:
        return pl.Series(name, [None] * sum(len(each.keys) for each in logged), dtype=dtype)
    places = pl.Series(np.concatenate([each.places for each in logged]))
    return items.raw[name].gather(places.set(places < 0, None)).cast(dtype)


def _lists(name: str, arrays: Sequence[NDArray[Any]]) -> pl.Series:
    """Return a column of lists; NaN is null."""
    flat = pl.Series(np.concatenate(arrays))
    flat = flat.fill_nan(None) if flat.dtype.is_float() else flat
    return _in_lists(name, flat, [len(array) for array in arrays])


def _in_lists(name: str, flat: pl.Series, lengths: Sequence[int]) -> pl.Series:
    offsets = pa.array(offsets_of(np.array(lengths)))
    return pl.Series(name, pa.LargeListArray.from_arrays(offsets, flat.to_arrow()))


def _plain(values: Any, dtype: pl.DataType) -> Any:
    """Return values as Polars accepts them: whole floats and booleans as integers, NaN as null."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, list | tuple):
        return [_plain(value, dtype) for value in values]
    if isinstance(values, float | np.floating) and values != values:
        return None
    inner = depth_of(dtype)[1]
    if inner.is_integer() and isinstance(values, float | bool | np.floating | np.bool_):
        return int(values) if float(values).is_integer() else values
    if inner.is_float() and isinstance(values, int | np.integer | np.bool_):
        return float(values)
    return values.item() if isinstance(values, np.generic) else values
