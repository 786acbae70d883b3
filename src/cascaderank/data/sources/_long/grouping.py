"""Grouping of rows, one per candidate, into requests."""

from collections.abc import Iterator, Sequence

import polars as pl

from cascaderank.data.sources._long.layout import Layout
from cascaderank.data.sources._shared.long_table import LongTable
from cascaderank.data.sources._shared.timestamps import TimestampUnit, utc_timestamps
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.schema import Kind, Role, abridged

_DIFFERS = "differs: "


def shares(
    table: LongTable, types: dict[str, pl.DataType], layout: Layout, rows_at_once: int
) -> Iterator[pl.DataFrame]:
    """Partition the rows of a table by request, in the order of the files.

    All rows of a request are in the same frame.

    Args:
        table: table to read.
        types: data types to read columns as, by column.
        layout: purpose of the columns.
        rows_at_once: approximate maximum number of rows in a frame.

    Raises:
        DataError: if the files cannot be read, or a row has no request id.
    """
    rows = table.scan(types)
    ids = pl.col(layout.request_id)
    empty = int(table.collect(rows.select(ids.null_count())).item())
    if empty:
        raise DataError(
            f"column '{layout.request_id}' (request_id) is empty in {empty:,} of "
            f"{table.rows:,} rows{table.first(layout.request_id, lambda text: not text)}; "
            "fill it, or leave the rows out"
        )
    count = -(-table.rows // rows_at_once)
    for share in range(count):
        own = rows if count == 1 else rows.filter(ids.hash(seed=0) % count == share)
        yield table.collect(own)


def gathered(
    rows: pl.DataFrame, layout: Layout, level_names: Sequence[str], unit: TimestampUnit
) -> pl.DataFrame:
    """Return one row per request, for a request log, in the order of their first rows.

    Args:
        rows: one row per candidate, with all rows of each request.
        layout: purpose of the columns.
        level_names: names of levels, lowest first; empty if the table has no levels.
        unit: unit of timestamps that are numbers.

    Raises:
        ConfigError: if levels have no names, or numeric timestamps no unit.
        DataError: if rows of a request differ in a column of the request, or a timestamp or a
            level is invalid.
    """
    rows = rows.rename(
        {column: what for column, what in layout.taken.items() if column != what}, strict=False
    ).with_columns(_cleaned(layout))
    if "level" in layout.candidates:
        rows = rows.with_columns(_levels(rows["level"], level_names))
    items = [*layout.candidates, *(f.name for f in layout.schema.of(Role.ITEM))]
    whole = [c for c in rows.columns if c not in items and c != "request_id"]
    requests = rows.group_by("request_id", maintain_order=True).agg(
        *(pl.col(c).first() for c in whole),
        *(pl.col(c) for c in items),
        *(pl.col(c).ne_missing(pl.col(c).first()).any().alias(_DIFFERS + c) for c in whole),
    )
    column_of = {what: column for column, what in layout.taken.items()}
    for name in whole:
        differs = requests.filter(pl.col(_DIFFERS + name))
        if differs.height:
            request = differs["request_id"][0]
            values = rows.filter(pl.col("request_id") == request)[name].unique(maintain_order=True)
            raise DataError(
                f"column '{column_of.get(name, name)}': expected one value per request, found "
                f"{' and '.join(str(v) for v in values[:2].to_list())} in request {request!r}, and "
                f"{differs.height - 1:,} more such requests; correct the rows, or put the column "
                "in item_features if it describes the candidates"
            )
    requests = requests.select("request_id", *whole, *items)
    if layout.timestamp:
        times = utc_timestamps(requests["timestamp"], unit, column=layout.timestamp)
        requests = requests.with_columns(times)
    return requests


def _cleaned(layout: Layout) -> Iterator[pl.Expr]:
    """Replace NaN by null in features that may be missing, and null histories by empty ones."""
    for feature in layout.schema.features:
        column = pl.col(feature.name)
        history = feature.role is Role.HISTORY
        if history:
            column = column.fill_null([])
        if feature.missing and feature.kind is Kind.NUMERIC:
            element = pl.element() if history else column
            known = element.cast(pl.Float64).fill_nan(None)
            column = column.list.eval(known) if history else known
        yield column


def _levels(levels: pl.Series, level_names: Sequence[str]) -> pl.Series:
    if not level_names:
        values = levels.unique().sort().to_list()
        raise ConfigError(
            f"expected names of the levels {abridged(map(str, values))}, found none; set "
            "level_names=[...], lowest first"
        )
    if levels.dtype.is_integer():
        return levels
    if not isinstance(levels.dtype, pl.String | pl.Categorical | pl.Enum):
        raise DataError(f"level: expected integers or names, found {levels.dtype}")
    text = levels.cast(pl.String)
    unknown = text.drop_nulls().filter(~text.drop_nulls().is_in(list(level_names)))
    if len(unknown):
        raise DataError(
            f"level: expected one of {', '.join(level_names)}, found '{unknown[0]}'"
            f"{did_you_mean(unknown[0], level_names)} and {len(unknown) - 1:,} more rows with "
            "other names; add them to level_names"
        )
    return text.replace_strict(
        list(level_names), list(range(len(level_names))), return_dtype=pl.Int8
    )
