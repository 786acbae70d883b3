"""Mutations of the columns and rows of a Parquet or Arrow file."""

import io
from random import Random

import polars as pl


def change_a_table(random: Random, content: bytes, other: bytes) -> bytes:
    """Change a column of a Parquet or Arrow file, or its rows."""
    is_arrow = content.startswith(b"ARROW1")
    read, write = (pl.read_ipc, "write_ipc") if is_arrow else (pl.read_parquet, "write_parquet")
    try:
        table = read(io.BytesIO(content))
    except Exception:  # noqa: BLE001 - mutated before
        return content
    changed = io.BytesIO()
    try:
        getattr(random.choice(TABLE_CHANGES)(random, table), write)(changed)
    except pl.exceptions.PolarsError:  # such as a cast that is not possible
        return content
    return changed.getvalue()


def _column(random: Random, table: pl.DataFrame) -> str:
    return random.choice(table.columns)


def _cast(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    name = _column(random, table)
    kinds = [
        pl.String,
        pl.Float64,
        pl.Float32,
        pl.Int8,
        pl.Int64,
        pl.UInt64,
        pl.Boolean,
        pl.Categorical,
        pl.Null,
    ]
    kinds += [
        pl.Binary,
        pl.Date,
        pl.Datetime("ns"),
        pl.Duration,
        pl.Decimal(38, 3),
        pl.List(pl.String),
    ]
    return table.with_columns(pl.col(name).cast(random.choice(kinds), strict=False))


def _fill(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    name = _column(random, table)
    value = random.choice(
        [None, 0, -1, 1e38, float("nan"), float("inf"), "", "x", 10**18, True, [], [1.0], [None]]
    )
    return table.with_columns(pl.lit(pl.Series([value] * table.height)).alias(name))


def _set(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    name, row = _column(random, table), random.randrange(max(1, table.height))
    value = random.choice([None, 0, -1, 1e38, float("nan"), float("inf"), 10**18, 2**63])
    number = pl.int_range(pl.len()) == row
    return table.with_columns(
        pl.when(number).then(pl.lit(value)).otherwise(pl.col(name)).alias(name)
    )


def _rename(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    return table.rename(
        {_column(random, table): random.choice(["x", "", "*", "^.*$", "label", "level", "owner"])}
    )


def _exchange(random: Random, table: pl.DataFrame) -> pl.DataFrame:
    a, b = _column(random, table), _column(random, table)
    return table if a == b else table.rename({a: b, b: a})


TABLE_CHANGES = (
    _cast, _cast, _fill, _set, _set, _rename, _exchange,
    lambda random, table: table.drop(_column(random, table)),
    lambda random, table: table.select(random.sample(table.columns, len(table.columns))),
    lambda random, table: table[random.sample(range(table.height), table.height)],
    lambda random, table: table.sample(table.height, with_replacement=True, seed=random.randrange(99)),
    lambda random, table: pl.concat([table, table]),
    lambda random, table: table.head(random.randrange(2)),
    lambda random, table: table.select(pl.struct(pl.all()).alias(_column(random, table))),
    lambda random, table: table.with_columns(pl.concat_list(pl.col(_column(random, table)))),
)  # fmt: skip
