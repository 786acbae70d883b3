"""Grouping of rows, one per candidate, into requests."""

from collections import Counter
from collections.abc import Iterator, Sequence

import polars as pl

from cascaderank.data.log.validation import ITEM_KEY
from cascaderank.data.log.weight_columns import REQUEST_WEIGHT
from cascaderank.data.sources._long.layout import Layout
from cascaderank.data.sources._long.row_rules import (
    RowRules,
    SeveralTimes,
    integers,
    ruled_rows,
    ruled_weights,
)
from cascaderank.data.sources._shared.long_table import LongTable
from cascaderank.data.sources._shared.timestamps import TimeRange, TimestampUnit, utc_timestamps
from cascaderank.errors import DataError
from cascaderank.schema import Kind, Role, abridged


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
            f"{table.rows:,} rows{table.first_null(layout.request_id)}; "
            "fill it, or leave the rows out"
        )
    count = -(-table.rows // rows_at_once)
    for share in range(count):
        own = rows if count == 1 else rows.filter(ids.hash(seed=0) % count == share)
        yield table.collect(own)


def gathered(
    rows: pl.DataFrame,
    layout: Layout,
    rules: RowRules,
    *,
    unit: TimestampUnit,
    time_zone: str,
    pattern: str,
    time_range: TimeRange,
    several_times: SeveralTimes,
    min_candidates: int,
    counts: Counter[str],
) -> pl.DataFrame:
    """Return one row per request, for a request log, in the order of their first rows.

    Args:
        rows: one row per candidate, with all rows of each request.
        layout: purpose of the columns.
        rules: what to do with null values and repeated candidates.
        unit: unit of timestamps that are numbers.
        time_zone: zone of timestamps without one.
        pattern: format of timestamps that are text; empty for ISO 8601.
        time_range: range that timestamps must be in.
        several_times: what to do with requests whose rows have different timestamps.
        min_candidates: requests with fewer candidates are left out.
        counts: receives the number of rows and requests that were changed or left out.

    Raises:
        ConfigError: if levels have no names, or numeric timestamps no unit.
        DataError: if rows of a request differ in a column of the request, a timestamp or a level is
            invalid, a value is null, or a candidate is repeated and its rule is ``"error"``.
    """
    rows = rows.rename(
        {column: what for column, what in layout.taken.items() if column != what}, strict=False
    ).with_columns(_cleaned(layout))
    if layout.item_key and layout.item_key != ITEM_KEY:
        rows = rows.with_columns(pl.col(layout.item_key).alias(ITEM_KEY))
        if layout.item_key not in layout.schema.names:
            rows = rows.drop(layout.item_key)
    if isinstance(rows["request_id"].dtype, pl.Categorical | pl.Enum):
        rows = rows.with_columns(pl.col("request_id").cast(pl.String))

    def with_times(frame: pl.DataFrame) -> pl.DataFrame:
        times = utc_timestamps(
            frame["timestamp"],
            unit,
            column=layout.timestamp or "",
            time_zone=time_zone,
            pattern=pattern,
            time_range=time_range,
        )
        return frame.with_columns(times)

    earliest = several_times == "earliest"
    if layout.timestamp and earliest:
        rows = with_times(rows)
        several = pl.col("timestamp").n_unique().over("request_id") > 1
        if count := rows.filter(several)["request_id"].n_unique():
            counts["requests_with_several_times_at_the_earliest"] += count
        rows = rows.with_columns(pl.col("timestamp").min().over("request_id"))
    requests_read = rows["request_id"].n_unique()
    rows = ruled_rows(rows, layout, rules, counts)
    _check_nulls(rows, layout)
    rows = rows.with_columns(_categories(rows, layout))
    items = [*layout.candidates, *(f.name for f in layout.schema.of(Role.ITEM))]
    items += [ITEM_KEY] if layout.item_key else []
    whole = [c for c in rows.columns if c not in items and c != "request_id"]
    _check_constant(rows, whole, layout)
    requests = rows.group_by("request_id", maintain_order=True).agg(
        *(pl.col(c).first() for c in whole),
        *(pl.col(c) for c in items),
    )
    if layout.request_weight:
        column = layout.request_weight
        requests = ruled_weights(requests, REQUEST_WEIGHT, column, rules, counts)
    if gone := requests_read - requests.height:
        counts["requests_left_out_without_candidates"] += gone
    if min_candidates > 1 and items:
        requests = requests.filter(pl.col(items[0]).list.len() >= min_candidates)
        if short := requests_read - gone - requests.height:
            counts[f"requests_left_out_below_{min_candidates}_candidates"] += short
    # Times of requests are fewer than those of rows; they are parsed once.
    return with_times(requests) if layout.timestamp and not earliest else requests


def _check_constant(rows: pl.DataFrame, columns: Sequence[str], layout: Layout) -> None:
    """Check that the columns of requests have one value in all rows of a request."""
    numbers = rows.select("request_id").with_row_index("row")
    first = numbers.select(pl.col("row").first().over("request_id")).to_series()
    column_of = {what: column for column, what in layout.taken.items()}
    for name in columns:
        differs = rows[name].ne_missing(rows[name].gather(first))
        if not differs.any():
            continue
        requests = first.filter(differs).unique()  # by the number of their first row
        request = rows["request_id"][int(requests.to_numpy().min())]
        values = rows.filter(pl.col("request_id") == request)[name].unique(maintain_order=True)
        remedy = "put the column in item_features if it describes the candidates"
        if name == "timestamp":
            remedy = (
                "set several_times=earliest, timestamp to another column, or timestamp=none to "
                "leave the times out"
            )
        elif name == REQUEST_WEIGHT:
            remedy = "set candidate_weight to the column if it has weights of candidates"
        raise DataError(
            f"column '{column_of.get(name, name)}': expected one value per request, found "
            f"{' and '.join(str(v) for v in values[:2].to_list())} in request {request!r}, and "
            f"{len(requests) - 1:,} more such requests; correct the rows, or {remedy}"
        )


def _check_nulls(rows: pl.DataFrame, layout: Layout) -> None:
    """Check that features without leave to be missing have a value in every row."""
    names = [
        f.name
        for f in layout.schema.features
        if not f.missing and f.role is not Role.HISTORY and not f.multiple
    ]
    is_null = {
        name: pl.col(name).is_null() | pl.col(name).is_nan()
        if rows[name].dtype.is_float()
        else pl.col(name).is_null()
        for name in names
    }
    counts = rows.select(c.sum().alias(n) for n, c in is_null.items()).row(0) if names else ()
    found = {name: count for name, count in zip(names, counts, strict=True) if count}
    if found:
        request = rows.filter(is_null[next(iter(found))])["request_id"][0]
        shares = [f"{name} ({count} of {rows.height})" for name, count in found.items()]
        options = ", ".join(f'"{name}"' for name in found)
        raise DataError(
            f"null values: {abridged(shares)}; set missing=[{options}] (in a schema: missing=true) "
            f"to give models an indicator of it, or fill them; first in request {request!r}"
        )


def _categories(rows: pl.DataFrame, layout: Layout) -> Iterator[pl.Series]:
    """Cast categorical features that are floats to integers, as integers with nulls of pandas."""
    for feature in layout.schema.features:
        if feature.kind is Kind.CATEGORICAL and rows[feature.name].dtype.is_float():
            what = f"categorical feature '{feature.name}'"
            remedy = "cast the column, or declare it numeric"
            yield integers(rows, feature.name, f"{what}: expected integers or strings", remedy)


def _cleaned(layout: Layout) -> Iterator[pl.Expr]:
    """Replace NaN by null in features that may be missing, and null histories by empty ones."""
    for feature in layout.schema.features:
        column = pl.col(feature.name)
        if feature.several:
            yield column.fill_null([]) if feature.multiple else column
            continue
        history = feature.role is Role.HISTORY
        if history:
            column = column.fill_null([])
        if feature.missing and feature.kind is Kind.NUMERIC:
            element = pl.element() if history else column
            known = element.cast(pl.Float64).fill_nan(None)
            column = column.list.eval(known) if history else known
        yield column
