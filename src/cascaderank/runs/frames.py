"""Frames of raw columns: from polars, pandas or Arrow, one row per request or per candidate."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast, final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cascaderank.data.ragged import depth_of, flattened
from cascaderank.errors import DataError, SchemaError, did_you_mean
from cascaderank.schema import Feature, FittedSchema, Kind, Role, abridged, selects_columns

Frame = TypeVar("Frame")
"""A polars or pandas frame, or an Arrow table; functions return the type that they are given."""

_UNREADABLE = (TypeError, ValueError, OverflowError, pa.ArrowException, pl.exceptions.PolarsError)
"""Errors of polars and pyarrow for a frame that they cannot convert."""


@final
@dataclass(frozen=True, kw_only=True)
class RequestRows:
    """Requests of a frame, one row per request, ready to be encoded."""

    frame: pl.DataFrame
    """``request_id`` and the features; values of candidates and histories are lists."""
    places: NDArray[np.int64] | None
    """``[candidates]`` row of each candidate in a frame with one row per candidate; ``None`` if
    the frame has one row per request."""


def as_polars(frame: Any) -> pl.DataFrame:
    """Return a frame as a polars frame; pandas and Arrow are read without a copy where possible.

    Args:
        frame: polars frame, or any object with the Arrow interface ``__arrow_c_stream__``, such as
            a pandas frame (2.2 or later) or an Arrow table.

    Raises:
        DataError: if it is none of these, column names are not distinct or are patterns of polars,
            or a column has values of several types.

    Examples:
        >>> import pyarrow as pa
        >>> as_polars(pa.table({"price": [1.0, 2.0]})).columns
        ['price']
    """
    table = frame if isinstance(frame, pl.DataFrame) else _read(frame)
    patterns = [name for name in table.columns if selects_columns(name)]
    if patterns:
        raise DataError(
            f"the frame has columns with names that stand for several columns in Polars: "
            f"{abridged(patterns)}; rename or drop them"
        )
    return table


def free_name(name: str, taken: Collection[str]) -> str:
    """Return the name of a further column of a frame, with underscores until no column has it.

    Examples:
        >>> free_name("row", ["row", "price"])
        'row_'
    """
    while name in taken:
        name += "_"
    return name


def _read(frame: Any) -> pl.DataFrame:
    """Return a frame of another library as a polars frame."""
    if not hasattr(frame, "__arrow_c_stream__") or isinstance(frame, pl.Series):
        raise DataError(
            "expected a polars frame, a pandas frame (2.2 or later) or an Arrow table; got "
            f"{type(frame).__module__}.{type(frame).__name__}; collect or convert it first"
        )
    try:
        return pl.DataFrame(frame)
    except _UNREADABLE as error:
        raise DataError(_unusable(frame, error)) from error


def _unusable(frame: Any, error: Exception) -> str:
    """Return a message on a frame that polars cannot read."""
    names = [str(name) for name in getattr(frame, "columns", ())]
    copies = sorted({name for name in names if names.count(name) > 1})
    if copies:
        return (
            f"the frame has several columns called {abridged(copies)}; expected distinct names; "
            "rename or drop columns"
        )
    for name in getattr(frame, "columns", ()):
        try:
            pl.DataFrame(frame[[name]])
        except _UNREADABLE:
            found = abridged(sorted({type(value).__name__ for value in frame[name]}))
            return (
                f"column '{name}': expected values of one type that Arrow has, found {found}; "
                "convert the column, or drop it if no stage reads it"
            )
    return f"the frame cannot be read: {str(error).splitlines()[0]}; convert it to polars first"


def like(frame: pl.DataFrame, given: Frame, *, same_rows: bool = False) -> Frame:
    """Return a polars frame in the type of another frame; an unknown type becomes polars.

    Args:
        frame: frame to convert.
        given: frame of the type to return.
        same_rows: whether the rows are those of ``given``, whose pandas index is then kept.

    Examples:
        >>> import pyarrow as pa
        >>> type(like(pl.DataFrame({"price": [1.0]}), pa.table({"x": [2]}))).__name__
        'Table'
    """
    package = type(given).__module__.partition(".")[0]
    convert = {"pandas": "to_pandas", "pyarrow": "to_arrow"}.get(package)
    result: Any = frame if convert is None else getattr(frame, convert)()
    if package == "pandas" and same_rows:
        result.index = given.index  # type: ignore[attr-defined]
    return cast("Frame", result)


def request_rows(
    frame: pl.DataFrame, schema: FittedSchema, readers: Mapping[str, Sequence[str]]
) -> RequestRows:
    """Return one row per request with the features of a schema, from either layout.

    A frame whose item features are all lists has one row per request. Any other frame has one row
    per candidate: the rows of one ``request_id`` are a request, and need not be adjacent.

    Args:
        frame: raw columns; columns that are not in the schema are ignored.
        schema: features to read.
        readers: names of the stages that read each feature, for messages.

    Raises:
        SchemaError: if a feature is missing, or has another layout; the message names it.
        DataError: if rows of a request differ in a feature of the request.
    """
    _check_features(frame, schema, readers)
    frame = frame.with_columns(_cleaned(f, frame[f.name]) for f in schema.features)
    items = [f.name for f in schema.of(Role.ITEM)]
    history = [f.name for f in schema.of(Role.HISTORY)]
    for name in history:
        if not isinstance(frame.schema[name], pl.List):
            raise SchemaError(
                f"history feature '{name}' must be a list per request; found {frame.schema[name]}"
            )
    listed = {f.name: depth_of(frame.schema[f.name])[0] >= f.depth for f in schema.of(Role.ITEM)}
    if any(listed.values()) and not all(listed.values()):
        lists = next(name for name in items if listed[name])
        single = next(name for name in items if not listed[name])
        raise SchemaError(
            f"feature '{single}' has one value per row, but '{lists}' has a list; expected lists "
            "in all item features, one row per request, or single values, one row per candidate"
        )
    if all(listed.values()):
        nulls = [name for name in items if frame[name].null_count()]
        if nulls:
            raise SchemaError(
                f"feature '{nulls[0]}': the lists of {frame[nulls[0]].null_count()} requests are "
                "null; expected a list of values, one per candidate"
            )
        ids = ["request_id"] if "request_id" in frame.columns else []
        return RequestRows(frame=frame.select(*ids, *schema.names), places=None)
    return _grouped(frame, items, [n for n in schema.names if n not in items])


def _grouped(frame: pl.DataFrame, items: list[str], whole: list[str]) -> RequestRows:
    """Return one row per request from one row per candidate."""
    if "request_id" not in frame.columns:
        raise SchemaError(
            "a frame with one row per candidate needs a column 'request_id'; found "
            f"{abridged(frame.columns)}; add it, with one value for the candidates of a request"
        )
    nulls = frame["request_id"].null_count()
    if nulls:
        raise DataError(f"request_id is null in {nulls} of {frame.height} rows; fill it")
    rows = frame.select("request_id", *whole, *items)
    place = free_name("place", rows.columns)
    differs = {c: free_name(f"differs {i}", rows.columns) for i, c in enumerate(whole)}
    requests = (
        rows.with_row_index(place)
        .group_by("request_id", maintain_order=True)
        .agg(
            pl.col(place),
            *(pl.col(c).first() for c in whole),
            *(pl.col(c) for c in items),
            *(pl.col(c).ne_missing(pl.col(c).first()).any().alias(differs[c]) for c in whole),
        )
    )
    for name in whole:
        mixed = requests.filter(pl.col(differs[name]))
        if mixed.height:
            raise DataError(
                f"feature '{name}': expected one value per request, found several in "
                f"{mixed.height} requests, first {mixed['request_id'][0]!r}; the rows of a "
                "request must have equal features of the request"
            )
    places = flattened(requests[place]).to_numpy().astype(np.int64)
    return RequestRows(frame=requests.select("request_id", *whole, *items), places=places)


def _check_features(
    frame: pl.DataFrame, schema: FittedSchema, readers: Mapping[str, Sequence[str]]
) -> None:
    missing = [name for name in schema.names if name not in frame.columns]
    if missing:
        of_stages = [f"'{name}' (read by {', '.join(readers[name])})" for name in missing]
        raise SchemaError(
            f"the frame has no {abridged(of_stages)}{did_you_mean(missing[0], frame.columns)}; "
            f"found {abridged(frame.columns)}; add the column"
        )


def _cleaned(feature: Feature, column: pl.Series) -> pl.Series:
    """Return the column of a feature with the conventions of polars for missing values.

    NaN is null in numbers that may be missing, a null history is empty, and categories that are
    stored as whole floats, as pandas stores integers with missing values, are integers.
    """
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if feature.role is Role.HISTORY and isinstance(column.dtype, pl.List):
        column = column.to_frame().select(pl.all().fill_null([])).to_series()
    depth, inner = depth_of(column.dtype)
    if not inner.is_float() or depth > 1:
        return column
    known = column.list.eval(pl.element().fill_nan(None)) if depth else column.fill_nan(None)
    if feature.kind is Kind.CATEGORICAL:
        whole_type = pl.List(pl.Int64()) if depth else pl.Int64()
        whole = known.cast(whole_type, strict=False)
        return whole if whole.cast(known.dtype).equals(known, null_equal=True) else column
    return known if feature.missing and not feature.several else column
