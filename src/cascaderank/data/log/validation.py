"""Validation of request frames before they enter a request log."""

from typing import final

import polars as pl

from cascaderank.data.log.label_precision import check_distinct
from cascaderank.data.log.manifest import vocabulary_mistake
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT, check_weights
from cascaderank.data.ragged import depth_of, flattened, lists_of
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import RESERVED, Feature, Kind, Role, Schema, abridged

CANDIDATE_COLUMNS = ("level", "position", "label", "feedback")
"""Candidate columns that targets are computed from, in the order of the log."""

ITEM_KEY = "item_key"
"""Candidate column with the identity of each candidate, such as a document id; not a feature."""

_MOST_POSITION = 32767
_SEVERAL = "; set multiple=true for a feature with several categories, or width for a vector"
_NUMBERS = (REQUEST_WEIGHT, *CANDIDATE_COLUMNS, CANDIDATE_WEIGHT, ITEM_KEY)
"""Reserved columns whose types are checked as those of features."""

_Types = dict[str, pl.DataType]


@final
class FrameCheck:
    """Validate the frames of one request log and cast them to the types on disk.

    The first frame fixes the columns and types that all later frames must have: which optional
    columns exist, whether a categorical feature holds integers or strings, and whether a numeric
    feature is stored as Float32 (if it is Float32 in the frame) or Float64 (otherwise).

    Args:
        schema: schema of the log.
        level_names: names of the funnel levels, lowest first; empty if the log has no levels.

    Examples:
        >>> schema = Schema(features=({"name": "price", "role": "item", "kind": "numeric"},))
        >>> check = FrameCheck(schema, ())
        >>> check(pl.DataFrame({"request_id": ["a"], "price": [[1, 2]]}))["price"].to_list()
        [[1.0, 2.0]]
        >>> check(pl.DataFrame({"request_id": ["b"], "price": [[float("nan")]]}))
        Traceback (most recent call last):
            ...
        cascaderank.errors.DataError: NaN or infinite numbers: price (1 of 1); correct them, or \
write null where the value of a feature is missing and set missing=true for the feature
    """

    def __init__(self, schema: Schema, level_names: tuple[str, ...]) -> None:
        mistake = vocabulary_mistake(schema)
        if mistake is not None:
            raise ConfigError(mistake)
        self._schema = schema
        self._features = {f.name: f for f in schema.features}
        self._level_names = level_names
        self._types: _Types = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the log, in order; empty before the first frame."""
        return tuple(self._types)

    @property
    def candidate_column(self) -> str:
        """Name of a column with one value per candidate."""
        return next(c for c in self._types if self._role(c) is Role.ITEM)

    def __call__(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the frame with the columns and types of the log.

        Args:
            frame: one row per request.

        Raises:
            DataError: if columns, types or values do not conform to the schema; the message names
                the column, the request or the number of values.
        """
        self._check_columns(frame)
        for name, found in frame.schema.items():
            if isinstance(found, pl.Array):
                frame = frame.with_columns(frame[name].arr.to_list())
        self._check_shapes(frame)
        self._check_requests(frame)
        types = self._types or self._inferred_types(frame)
        self._check_lengths(frame)
        cast = frame.select(self._cast(frame[name], dtype) for name, dtype in types.items())
        _check_weights(frame)
        self._check_values(cast)
        self._types = types
        return cast

    def of_catalogue(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return one row per item with the types of the log, in the order of the schema.

        Args:
            frame: some or all item features, one value per item each.

        Raises:
            DataError: if a column is not an item feature, or has values of another type, nulls or
                numbers that are not finite.
        """
        names = [f.name for f in self._schema.of(Role.ITEM)]
        strange = [c for c in frame.columns if c not in names]
        if strange or not frame.width:
            raise DataError(
                f"catalogue: expected item features, found {abridged(strange)}"
                f"{did_you_mean(strange[0], names) if strange else ''}; "
                f"the schema has {abridged(names)}"
            )
        types = {n: _inner(self._types[n]) for n in names if n in frame.columns}
        for name in types:
            check_depth(frame[name], depth_of(types[name])[0])
        frame = frame.select(self._cast(frame[name], dtype) for name, dtype in types.items())
        self._check_values(frame)
        return frame

    def _role(self, column: str) -> Role:
        if column in (*CANDIDATE_COLUMNS, CANDIDATE_WEIGHT, ITEM_KEY):
            return Role.ITEM
        return Role.REQUEST if column in RESERVED else self._features[column].role

    def _check_columns(self, frame: pl.DataFrame) -> None:
        optional = {"timestamp", *_NUMBERS}
        needed = ["request_id", *self._schema.names, *(["level"] if self._level_names else [])]
        if self._types:
            needed, optional = list(self._types), set()
        columns = frame.columns
        missing = sorted({*needed} - {*columns}, key=needed.index)
        extra = sorted({*columns} - {*needed} - optional, key=columns.index)
        if missing:
            hints = "".join(did_you_mean(n, extra) for n in missing[:1])
            expected = " that earlier frames have" if self._types else ""
            raise DataError(
                f"columns missing{expected}: {abridged(missing)}{hints}; "
                f"found {abridged(frame.columns)}"
            )
        if extra:
            raise DataError(
                f"columns that are neither features of the schema nor {', '.join(RESERVED)}"
                f"{' in earlier frames' if self._types else ''}: {abridged(extra)}"
                f"{did_you_mean(extra[0], [*needed, *optional])}; add a feature or drop the column"
            )

    def _check_shapes(self, frame: pl.DataFrame) -> None:
        several = [f.name for f in self._schema.features if f.several]
        for name in several:
            check_depth(frame[name], self._features[name].depth)
        for name, dtype in frame.schema.items():
            listed = isinstance(dtype, pl.List)
            if self._role(name) is Role.REQUEST and name not in several and dtype.is_nested():
                raise DataError(
                    f"column '{name}' must have one value per request; found {dtype}"
                    f"{_SEVERAL if listed else ''}"
                )
            if self._role(name) is not Role.REQUEST:
                if not listed:
                    entry = "candidate" if self._role(name) is Role.ITEM else "history entry"
                    raise DataError(
                        f"column '{name}' must be a list per request, one value per {entry}; "
                        f"found {dtype}"
                    )
                if depth_of(dtype)[0] > 1 and name not in several:
                    raise DataError(
                        f"column '{name}' must have one value per entry of its lists; found {dtype}"
                        f"{_SEVERAL if self._role(name) is Role.ITEM else ''}"
                    )
                if frame[name].null_count():
                    raise DataError(
                        f"column '{name}' has {frame[name].null_count()} null lists, first in "
                        f"request {_first(frame, frame[name].is_null())}; write an empty history, "
                        "or leave out a request without candidates"
                    )

    def _check_requests(self, frame: pl.DataFrame) -> None:
        ids = frame["request_id"]
        if not (ids.dtype == pl.String or ids.dtype.is_integer()):
            raise DataError(f"request_id must be strings or integers; found {ids.dtype}")
        if ids.null_count():
            raise DataError(f"request_id is null in {ids.null_count()} of {len(ids)} requests")
        check_unique(ids)
        if "timestamp" not in frame.columns:
            return
        times = frame["timestamp"]
        if not isinstance(times.dtype, pl.Datetime) or times.dtype.time_zone is None:
            raise DataError(
                f"timestamp must be Datetime with a time zone; found {times.dtype}; if it is UTC, "
                "set it with .dt.replace_time_zone('UTC')"
            )
        if times.null_count():
            raise DataError(
                f"timestamp is null in {times.null_count()} requests, first in "
                f"{_first(frame, times.is_null())}; leave these requests out, or drop the column"
            )

    def _inferred_types(self, frame: pl.DataFrame) -> _Types:
        """Return the types on disk, inferred from the first frame."""
        found = frame.schema  # once: it has every column
        strings = {
            f.vocabulary
            for f in self._schema.features
            if f.kind is Kind.CATEGORICAL and _is_text(depth_of(found[f.name])[1])
        }
        ids = pl.String() if found["request_id"] == pl.String else pl.Int64()
        types: _Types = {"request_id": ids}
        if "timestamp" in frame.columns:
            types["timestamp"] = pl.Datetime("us", "UTC")
        if REQUEST_WEIGHT in frame.columns:
            types[REQUEST_WEIGHT] = pl.Float32()
        for feature in self._schema.features:
            inner = depth_of(found[feature.name])[1]
            dtype: pl.DataType
            if feature.kind is Kind.CATEGORICAL:
                dtype = pl.String() if feature.vocabulary in strings else pl.Int64()
            else:
                dtype = pl.Float32() if inner == pl.Float32 else pl.Float64()
            for _ in range(feature.depth):
                dtype = pl.List(dtype)
            types[feature.name] = dtype
        inners = zip(
            CANDIDATE_COLUMNS, (pl.Int8(), pl.Int16(), pl.Float32(), pl.Float32()), strict=True
        )
        types |= {name: pl.List(inner) for name, inner in inners if name in frame.columns}
        if CANDIDATE_WEIGHT in frame.columns:
            types[CANDIDATE_WEIGHT] = pl.List(pl.Float32())
        if ITEM_KEY in frame.columns:
            text = _is_text(_inner(found[ITEM_KEY]))
            types[ITEM_KEY] = pl.List(pl.String() if text else pl.Int64())
        if all(self._role(name) is not Role.ITEM for name in types):
            raise DataError(
                "found no column of candidates; add an item feature to the schema, or one of "
                f"{', '.join((*CANDIDATE_COLUMNS, ITEM_KEY))} to the frame"
            )
        return types

    def _check_lengths(self, frame: pl.DataFrame) -> None:
        items = [c for c in frame.columns if self._role(c) is Role.ITEM]
        groups = [("candidates", items)]
        for sequence in {f.sequence for f in self._schema.of(Role.HISTORY)}:
            members = [f.name for f in self._schema.of(Role.HISTORY) if f.sequence == sequence]
            groups.append((f"history '{sequence}'", members))
        for group, columns in groups:
            lengths = frame.select(pl.col(c).list.len() for c in columns)
            unequal = lengths.select(pl.any_horizontal(pl.all() != pl.col(columns[0]))).to_series()
            if unequal.any():
                first = lengths.row(int(unequal.arg_true()[0]), named=True)
                details = ", ".join(f"{name} {length}" for name, length in first.items())
                raise DataError(
                    f"{group}: lists of unequal length in {unequal.sum()} requests, first in "
                    f"request {_first(frame, unequal)}: {details}; expected one value of each per "
                    "entry"
                )
        empty = frame[items[0]].list.len() == 0
        if empty.any():
            raise DataError(
                f"{empty.sum()} requests have no candidates, first {_first(frame, empty)}; "
                "leave them out"
            )

    def _cast(self, column: pl.Series, dtype: pl.DataType) -> pl.Series:
        found, expected, name = depth_of(column.dtype)[1], depth_of(dtype)[1], column.name
        if name not in RESERVED or name in _NUMBERS:
            fits = _fits(self._features[name] if name not in RESERVED else None, found, expected)
            if not fits:
                raise DataError(f"column '{name}': expected {_type_name(expected)}; found {found}")
        if name in ("level", "position"):
            self._check_range(column)
        try:
            narrow = column.cast(dtype, strict=True)
        except pl.exceptions.PolarsError as error:
            raise DataError(
                f"column '{name}': not every value fits into {expected}: {error}"
            ) from None
        if name in ("label", "feedback"):
            check_distinct(column, narrow)
        return narrow

    def _check_range(self, column: pl.Series) -> None:
        if column.name == "level" and not self._level_names:
            raise DataError("column 'level' needs level names; found none; set level_names")
        highest = _MOST_POSITION if column.name == "position" else len(self._level_names) - 1
        values = flattened(column)
        outside = values.filter((values < 0) | (values > highest))
        if len(outside):
            names = f" ({', '.join(self._level_names)})" if column.name == "level" else ""
            raise DataError(
                f"column '{column.name}': expected 0 to {highest}{names}; found {outside[0]} and "
                f"{len(outside) - 1} more values outside"
            )

    def _check_values(self, frame: pl.DataFrame) -> None:
        nulls, broken = [], []
        for name in frame.columns:
            if name == "request_id":
                continue
            feature = self._features[name] if name not in RESERVED else None
            values = frame[name]
            if feature and feature.several:
                lists = flattened(values) if depth_of(values.dtype)[0] > 1 else values
                values = lists_of(lists, feature)[1]
            elif values.dtype == pl.List:
                values = flattened(values)
            if values.null_count() and not (feature and feature.missing):
                nulls.append(f"{name} ({values.null_count()} of {len(values)})")
            if values.dtype.is_float():
                count = int((~values.is_finite()).sum())
                if count:
                    broken.append(f"{name} ({count} of {len(values)})")
        if broken:
            raise DataError(
                f"NaN or infinite numbers: {abridged(broken)}; correct them, or write null where "
                "the value of a feature is missing and set missing=true for the feature"
            )
        if nulls:
            raise DataError(
                f"null values: {abridged(nulls)}; fill them, or set missing=true if it is a feature"
            )


def check_depth(column: pl.Series, depth: int) -> None:
    """Check that a column has lists of the expected depth.

    A column of nulls and empty lists only may have less.

    Args:
        column: column of a frame.
        depth: levels of lists: 0 for plain values, 2 for lists of lists.

    Raises:
        DataError: if the column has another depth.

    Examples:
        >>> check_depth(pl.Series("genres", [[["drama"], []]]), 2)
    """
    found, inner = depth_of(column.dtype)
    if found == depth or (found < depth and isinstance(inner, pl.Null)):
        return
    shape = ("one value per row", "a list of values per row", "a list of lists per request")[depth]
    raise DataError(f"column '{column.name}' must be {shape}; found {column.dtype}")


def check_unique(ids: pl.Series) -> None:
    """Check that request ids are unique.

    Args:
        ids: ids of all requests.

    Raises:
        DataError: if an id occurs more than once; the message names the first one.

    Examples:
        >>> check_unique(pl.Series([1, 2, 3]))
    """
    repeated = ids.is_duplicated()
    if repeated.any():
        raise DataError(
            f"request_id must be unique; {ids.filter(repeated).n_unique()} are not, first "
            f"{ids.filter(repeated)[0]!r}; write one row per request, with its candidates in lists"
        )


def _check_weights(frame: pl.DataFrame) -> None:
    ids = frame["request_id"]
    if REQUEST_WEIGHT in frame.columns:
        check_weights(frame[REQUEST_WEIGHT], ids, name=REQUEST_WEIGHT)
    if CANDIDATE_WEIGHT in frame.columns:
        rows = frame.select("request_id", CANDIDATE_WEIGHT).explode(CANDIDATE_WEIGHT)
        check_weights(rows[CANDIDATE_WEIGHT], rows["request_id"], name=CANDIDATE_WEIGHT)


def _first(frame: pl.DataFrame, where: pl.Series) -> str:
    return repr(frame["request_id"].filter(where)[0])


def _inner(dtype: pl.DataType) -> pl.DataType:
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    return inner() if isinstance(inner, type) else inner


def _is_text(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def _fits(feature: Feature | None, found: pl.DataType, expected: pl.DataType) -> bool:
    if isinstance(found, pl.Null):  # a column of nulls or of empty lists only
        return True
    if isinstance(expected, pl.String):
        return _is_text(found)
    if expected.is_integer():
        whole = found.is_integer()
        return whole or (feature is not None and isinstance(found, pl.Boolean))
    return found.is_numeric() or isinstance(found, pl.Boolean)


def _type_name(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.String):
        return "strings"
    return "integers" if dtype.is_integer() else "numbers"
