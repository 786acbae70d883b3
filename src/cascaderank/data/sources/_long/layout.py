"""Purpose of each column of a long table: request id, timestamp, labels and features."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from cascaderank.data.log.validation import CANDIDATE_COLUMNS
from cascaderank.data.sources._shared.long_table import LongTable
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Kind, Role, Schema


@dataclass(frozen=True)
class Layout:
    """Mapping of the columns of a long table to those of a request log."""

    request_id: str
    """Column of the request id."""
    timestamp: str | None
    """Column of the timestamp; ``None`` if the table has none."""
    candidates: dict[str, str]
    """Columns by their purpose: ``level``, ``position``, ``label`` or ``feedback``."""
    schema: Schema
    """Features."""

    @property
    def taken(self) -> dict[str, str]:
        """Columns that are not features, each with its purpose."""
        taken = {self.request_id: "request_id"}
        if self.timestamp:
            taken[self.timestamp] = "timestamp"
        return taken | {column: what for what, column in self.candidates.items()}


def columns_that_are_no_features(
    table: LongTable, *, request_id: str, timestamp: str, candidates: Mapping[str, str]
) -> Layout:
    """Return a layout without features.

    Args:
        table: table of the columns.
        request_id: column of the request id.
        timestamp: column of the timestamp; if empty, the column named ``timestamp`` if the table
            has one.
        candidates: columns by purpose; if empty, the column of that name, as with ``timestamp``.

    Raises:
        ConfigError: if one column has two purposes.
        DataError: if a column does not exist.
    """

    def named(what: str, column: str) -> str | None:
        if column:
            return table.check(column, what=what)
        return what if what in table.types else None

    ids = table.check(request_id, what="request_id")
    columns = {what: named(what, candidates[what]) for what in CANDIDATE_COLUMNS}
    layout = Layout(
        ids,
        named("timestamp", timestamp),
        {what: column for what, column in columns.items() if column},
        Schema(features=()),
    )
    used = [ids, *([layout.timestamp] if layout.timestamp else []), *layout.candidates.values()]
    repeated = [c for c in used if used.count(c) > 1]
    if repeated:
        raise ConfigError(
            f"column '{repeated[0]}' has two purposes; set a different column for each"
        )
    return layout


def typed_columns(table: LongTable, layout: Layout) -> dict[str, pl.DataType]:
    """Return the data types to read the used columns as, by column.

    Raises:
        ConfigError: if a column has two purposes.
        DataError: if a column is missing or has values of a wrong type; for CSV, the message names
            the line of the first such value.
    """
    types: dict[str, pl.DataType] = {}
    for column, what in layout.taken.items():
        dtype = types[column] = table.types[column]
        if what == "request_id" and table.is_csv and dtype != pl.Int64:
            types[column] = pl.String()
        if dtype.is_nested():
            raise DataError(
                f"column '{column}' ({what}): expected one value per row, found {dtype}"
            )
        if what in ("label", "feedback", "position") and not dtype.is_numeric():
            is_invalid = _is_not_integer if what == "position" else _is_not_number
            raise DataError(
                f"column '{column}' ({what}): expected numbers, found {dtype}"
                f"{table.first(column, is_invalid)}"
            )
    for feature in layout.schema.features:
        name = feature.name
        dtype = table.types[table.check(name, what=f"{feature.role.value} feature")]
        if name in layout.taken:
            raise ConfigError(
                f"column '{name}' is the {layout.taken[name]}, so it cannot be a feature"
            )
        if feature.role is Role.HISTORY and not isinstance(dtype, pl.List | pl.Array):
            hint = "use Parquet, CSV has no lists" if table.is_csv else "write a list in every row"
            raise DataError(f"history feature '{name}': expected lists, found {dtype}; {hint}")
        if feature.role is not Role.HISTORY and dtype.is_nested():
            raise DataError(
                f"{feature.role.value} feature '{name}': expected one value per row, found "
                f"{dtype}; put it in history_features if it is a history"
            )
        inner = inner_type(dtype)
        if feature.kind is Kind.NUMERIC and not (inner.is_numeric() or inner == pl.Boolean):
            raise DataError(
                f"numeric feature '{name}': expected numbers, found {inner}"
                f"{table.first(name, _is_not_number)}"
            )
        if feature.kind is Kind.CATEGORICAL and table.is_csv:
            dtype = dtype if dtype == pl.Int64 else pl.String()
        elif feature.kind is Kind.CATEGORICAL and not is_category(inner):
            raise DataError(
                f"categorical feature '{name}': expected integers or strings, found {inner}; "
                "cast the column, or declare it numeric"
            )
        types[name] = dtype
    return types


def is_category(dtype: pl.DataType) -> bool:
    """Return whether a type can be categorical: text, integers and booleans."""
    text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    return text or dtype.is_integer() or isinstance(dtype, pl.Boolean)


def inner_type(dtype: pl.DataType) -> pl.DataType:
    """Return the element type of a list type; any other type is returned as it is."""
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    return inner() if isinstance(inner, type) else inner


def _is_not_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return True
    return False


def _is_not_integer(text: str) -> bool:
    return bool(text) and not text.removeprefix("-").isdigit()
