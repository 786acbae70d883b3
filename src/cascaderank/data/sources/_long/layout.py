"""Purpose of each column of a long table: request id, timestamp, labels and features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from cascaderank.data.log.validation import CANDIDATE_COLUMNS, ITEM_KEY
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT
from cascaderank.data.sources import Inputs
from cascaderank.data.sources._shared.csv_files import Decimal
from cascaderank.data.sources._shared.input_files import input_files
from cascaderank.data.sources._shared.long_table import LongTable, open_long_table
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import RESERVED, Kind, Role, Schema, abridged, selects_columns


@dataclass(frozen=True)
class Layout:
    """Mapping of the columns of a long table to those of a request log."""

    request_id: str
    """Column of the request id."""
    timestamp: str | None
    """Column of the timestamp; ``None`` if the table has none."""
    request_weight: str | None
    """Column of the weight of the request; ``None`` if the table has none."""
    candidates: dict[str, str]
    """Columns by their purpose: ``level``, ``position``, ``label``, ``feedback`` or
    ``candidate_weight``."""
    item_key: str | None
    """Column of the identity of the candidate, which can also be a feature."""
    schema: Schema
    """Features."""

    def refusal(self, column: str) -> str:
        """Return why a column that is not a feature cannot be one, and what to do."""
        what = self.taken[column]
        remedy = f"; set {what}={NONE} to use it as a feature" if what in _DECLINABLE else ""
        return f"column '{column}' is the {what}, so it cannot be a feature{remedy}"

    @property
    def taken(self) -> dict[str, str]:
        """Columns that are not features, each with its purpose."""
        taken = {self.request_id: "request_id"}
        if self.timestamp:
            taken[self.timestamp] = "timestamp"
        if self.request_weight:
            taken[self.request_weight] = REQUEST_WEIGHT
        if self.item_key == ITEM_KEY:  # reserved, so that no feature has this name
            taken[ITEM_KEY] = ITEM_KEY
        return taken | {column: what for what, column in self.candidates.items()}


MAYBE_BOOLEAN = ("label", "feedback", REQUEST_WEIGHT, CANDIDATE_WEIGHT)
"""Purposes of columns of numbers that may also be booleans."""

_PATTERNS = ("*.parquet", "*.pq", "*.csv", "*.tsv")
_DECLINABLE = ("timestamp", REQUEST_WEIGHT, *CANDIDATE_COLUMNS, CANDIDATE_WEIGHT, ITEM_KEY)
NONE = "none"
"""Value of an option of a column: no column has this purpose."""


def opened_table(
    from_: Inputs,
    *,
    separator: str | None,
    decimal: Decimal,
    request_id: str,
    timestamp: str,
    request_weight: str,
    candidates: Mapping[str, str],
    item_key: str,
    copies: bool = False,
) -> tuple[LongTable, Layout]:
    """Open files, and return the table and a layout without features.

    Args:
        from_: files, folders and globs.
        separator: character between the fields of CSV files; ``None`` to choose it by their names.
        decimal: decimal mark of the numbers of CSV files.
        request_id: column of the request id.
        timestamp: column of the timestamp; if empty, the column named ``timestamp`` if the table
            has one; if ``"none"``, and no column has this name, none. So for the following ones.
        request_weight: column of the weight of the request; if empty, as with ``timestamp``.
        candidates: columns by purpose; if empty, the column of that name, as with ``timestamp``.
        item_key: column of the identity of the candidate; if empty, as with ``timestamp``.
        copies: whether several files may have the same content.

    Returns:
        The table and the layout. A column with a name that is reserved for another purpose, such as
        ``level`` with ``level="none"``, is called ``level_feature`` in the table.

    Raises:
        ConfigError: if one column has two purposes.
        DataError: if a file or a column is missing, or a file is damaged.
    """
    files = input_files(from_, _PATTERNS, what="Parquet or CSV files", recursive=True)
    table = open_long_table(files, separator=separator, decimal=decimal, copies=copies)

    def named(what: str, column: str) -> str | None:
        if column == NONE and column not in table.types:
            return None
        if column:
            return table.check(column, what=what)
        return what if what in table.types else None

    if request_id == "request_id" not in table.types:
        raise DataError(
            f"{table.files[0]}: expected a column 'request_id', found {abridged(table.types)}; "
            "set request_id to the column with the id of the request"
        )
    ids = table.check(request_id, what="request_id")
    columns = {what: named(what, candidates[what]) for what in candidates}
    layout = Layout(
        ids,
        named("timestamp", timestamp),
        named(REQUEST_WEIGHT, request_weight),
        {what: column for what, column in columns.items() if column},
        named(ITEM_KEY, item_key),
        Schema(features=()),
    )
    used = [ids, *layout.candidates.values()]
    used += [c for c in (layout.timestamp, layout.request_weight, layout.item_key) if c]
    repeated = [c for c in used if used.count(c) > 1]
    if repeated:
        raise ConfigError(
            f"column '{repeated[0]}' has two purposes; set a different column for each"
        )
    if patterns := [c for c in used if selects_columns(c)]:
        raise DataError(
            f"{table.files[0]}: column '{patterns[0]}' stands for several columns in Polars; "
            "rename the column"
        )
    return table.with_names(_free_names(table, used)), layout


def _free_names(table: LongTable, used: Sequence[str]) -> dict[str, str]:
    """Return names, for features, of columns whose own names are reserved for another purpose."""
    names: dict[str, str] = {}
    for column in (c for c in RESERVED if c in table.types and c not in used):
        name = f"{column}_feature"
        while name in table.types:
            name += "_"
        names[column] = name
    return names


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
        if what == "request_id":
            types[column] = _id_type(table, column)
        elif column in table.numbers and what != "timestamp":  # 010224 is a day with a format
            dtype = types[column] = pl.Float64()
        if dtype.is_nested():
            raise DataError(
                f"column '{column}' ({what}): expected one value per row, found {dtype}"
            )
        if what in ("position", *MAYBE_BOOLEAN) and not (
            dtype.is_numeric()
            or dtype == pl.Null
            or (what != "position" and _is_true_or_false(table, column))
        ):
            place = table.first_not_number(column, whole=what == "position")
            raise DataError(
                f"column '{column}' ({what}): expected numbers, found {dtype}{place}; correct the "
                f"values, or set {what} to another column or to {NONE}"
            )
    if layout.item_key:
        dtype = types[layout.item_key] = _key_type(table, layout.item_key)
    for feature in layout.schema.features:
        name = feature.name
        dtype = table.types[table.check(name, what=f"{feature.role.value} feature")]
        if name in layout.taken:
            raise ConfigError(layout.refusal(name))
        if feature.role is Role.HISTORY and not isinstance(dtype, pl.List | pl.Array):
            hint = "use Parquet, CSV has no lists" if table.is_csv else "write a list in every row"
            raise DataError(f"history feature '{name}': expected lists, found {dtype}; {hint}")
        if feature.role is not Role.HISTORY and dtype.is_nested() != feature.several:
            expected = "lists" if feature.several else "one value per row"
            remedy = "write lists in every row" if feature.several else several_hint(feature.kind)
            raise DataError(
                f"{feature.role.value} feature '{name}': expected {expected}, found {dtype}; "
                f"{remedy}"
            )
        if feature.kind is Kind.NUMERIC and name in table.numbers:
            dtype = pl.Float64()
        inner = inner_type(dtype)
        if feature.kind is Kind.NUMERIC and not (inner.is_numeric() or inner == pl.Boolean):
            raise DataError(
                f"numeric feature '{name}': expected numbers, found {inner}"
                f"{table.first_not_number(name)}"
            )
        if feature.kind is Kind.CATEGORICAL and table.is_csv:
            dtype = dtype if dtype == pl.Int64 else pl.String()
        elif feature.kind is Kind.CATEGORICAL and not (
            is_category(inner) or (dtype.is_float() and feature.role is not Role.HISTORY)
        ):  # integers with nulls are floats if pandas wrote them
            raise DataError(
                f"categorical feature '{name}': expected integers or strings, found {inner}; "
                "cast the column, or declare it numeric"
            )
        types[name] = dtype
    _widen(table, layout, types)
    return types


def _widen(table: LongTable, layout: Layout, types: dict[str, pl.DataType]) -> None:
    """Read unsigned integers beyond 63 bits as text, with the features of their vocabulary."""
    ids = {layout.request_id: "", layout.item_key or layout.request_id: ""}
    categories = {
        f.name: f.vocabulary for f in layout.schema.features if f.kind is Kind.CATEGORICAL
    }
    wide = [
        name
        for name in {**ids, **categories}
        if inner_type(types[name]) == pl.UInt64 and table.exceeds(name, 2**63 - 1)
    ]
    vocabularies = {categories[name] for name in wide if name in categories}
    wide += [name for name, own in categories.items() if own in vocabularies]
    for name in wide:
        is_list = types[name].is_nested()
        types[name] = pl.List(pl.String()) if is_list else pl.String()


def several_hint(kind: Kind) -> str:
    """Return what to do with a column of lists that a schema does not declare as such."""
    setting = "width=N" if kind is Kind.NUMERIC else "multiple=true"
    return f"set {setting} for it in the schema, or make it a history if it lists events"


def _is_true_or_false(table: LongTable, column: str) -> bool:
    """Return whether a column holds booleans, in CSV as the words true and false in any case."""
    if table.is_csv:
        return not table.first(column, lambda text: text.lower() not in ("", "true", "false"))
    return isinstance(table.types[column], pl.Boolean)


def _id_type(table: LongTable, column: str) -> pl.DataType:
    dtype = table.types[column]
    return pl.String() if table.is_csv and dtype != pl.Int64 else dtype


def _key_type(table: LongTable, column: str) -> pl.DataType:
    dtype = _id_type(table, column)
    if table.is_csv:
        return dtype
    if not is_category(dtype) or isinstance(dtype, pl.Boolean):
        raise DataError(
            f"column '{column}' (item_key): expected integers or strings, found {dtype}; convert "
            "the column, or set item_key to another one"
        )
    return dtype


def is_category(dtype: pl.DataType) -> bool:
    """Return whether a type can be categorical: text, integers and booleans."""
    text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    return text or dtype.is_integer() or isinstance(dtype, pl.Boolean)


def inner_type(dtype: pl.DataType) -> pl.DataType:
    """Return the element type of a list type; any other type is returned as it is."""
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else dtype
    return inner() if isinstance(inner, type) else inner
