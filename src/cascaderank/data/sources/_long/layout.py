"""Which column of a long table is what: ids, times, labels and features with their kinds."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from cascaderank.data.sources._shared.long_table import LongTable
from cascaderank.data.validation import CANDIDATE_COLUMNS
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Kind, Role, Schema


@dataclass(frozen=True)
class Layout:
    """What the columns of a long table are."""

    request_id: str
    timestamp: str | None
    candidates: dict[str, str]
    """Columns by what they become: ``level``, ``position``, ``label`` or ``feedback``."""
    schema: Schema

    @property
    def taken(self) -> dict[str, str]:
        """Columns that are no features, and what they are."""
        taken = {self.request_id: "request_id"}
        if self.timestamp:
            taken[self.timestamp] = "timestamp"
        return taken | {column: what for what, column in self.candidates.items()}


def columns_that_are_no_features(
    table: LongTable, *, request_id: str, timestamp: str, candidates: Mapping[str, str]
) -> Layout:
    """Return a layout without features.

    Args:
        table: where the columns are.
        request_id: a column.
        timestamp: a column; empty for the one called ``timestamp``, if there is one.
        candidates: columns by what they become; empty as with ``timestamp``.

    Raises:
        ConfigError: if one column is to be two things.
        DataError: if a column is not there.
    """

    def named(what: str, column: str) -> str | None:
        if column:
            return table.check(column, what=what)
        return what if what in table.types else None

    ids = table.check(request_id, what="request_id")
    found = {what: named(what, candidates[what]) for what in CANDIDATE_COLUMNS}
    layout = Layout(
        ids,
        named("timestamp", timestamp),
        {what: column for what, column in found.items() if column},
        Schema(features=()),
    )
    used = [ids, *([layout.timestamp] if layout.timestamp else []), *layout.candidates.values()]
    twice = [c for c in used if used.count(c) > 1]
    if twice:
        raise ConfigError(f"column '{twice[0]}' is named for two things; name one column for each")
    return layout


def typed_columns(table: LongTable, layout: Layout) -> dict[str, pl.DataType]:
    """Return the columns to read, with the types to read them as.

    Raises:
        ConfigError: if a column is of two uses.
        DataError: if a column is missing or its values are not of the kind that they must be; of
            CSV files, the line of the first such value is told.
    """
    types: dict[str, pl.DataType] = {}
    for column, what in layout.taken.items():
        dtype = types[column] = table.types[column]
        if what == "request_id" and table.is_csv and dtype != pl.Int64:
            types[column] = pl.String()
        if dtype.is_nested():
            raise DataError(f"column '{column}' ({what}) must have one value a row; found {dtype}")
        if what in ("label", "feedback", "position") and not dtype.is_numeric():
            wrong = _not_integer if what == "position" else _not_number
            raise DataError(
                f"column '{column}' ({what}): expected numbers, found {dtype}"
                f"{table.first(column, wrong)}"
            )
    for feature in layout.schema.features:
        name = feature.name
        dtype = table.types[table.check(name, what=f"{feature.role.value} feature")]
        if name in layout.taken:
            raise ConfigError(
                f"column '{name}' is the {layout.taken[name]}, and cannot be a feature too"
            )
        if feature.role is Role.HISTORY and not isinstance(dtype, pl.List | pl.Array):
            hint = "CSV has no lists, use Parquet" if table.is_csv else "write a list on every row"
            raise DataError(f"history feature '{name}': expected lists, found {dtype}; {hint}")
        if feature.role is not Role.HISTORY and dtype.is_nested():
            raise DataError(
                f"{feature.role.value} feature '{name}': expected one value a row, found {dtype}; "
                "name it in history_features if it is a history"
            )
        inner = inner_type(dtype)
        if feature.kind is Kind.NUMERIC and not (inner.is_numeric() or inner == pl.Boolean):
            raise DataError(
                f"numeric feature '{name}': expected numbers, found {inner}"
                f"{table.first(name, _not_number)}"
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
    """Tell whether values of a type can be categories: text, integers and booleans."""
    text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    return text or dtype.is_integer() or isinstance(dtype, pl.Boolean)


def inner_type(dtype: pl.DataType) -> pl.DataType:
    """Return the type of the values of lists; of what is no list, its own."""
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    return inner() if isinstance(inner, type) else inner


def _not_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return True
    return False


def _not_integer(text: str) -> bool:
    return bool(text) and not text.removeprefix("-").isdigit()
