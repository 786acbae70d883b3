"""Damaged Parquet files, at some of which Polars panics, and columns of other types."""

from datetime import date

import polars as pl
import pytest

from cascaderank.data.sources import SOURCES
from cascaderank.data.unreadable import UNREADABLE
from cascaderank.errors import DataError
from tests.data.sources.short_videos import histories, rand_exposures, write_rand

LAST = 620  # bytes, from the end: the metadata of columns and the footer


@pytest.mark.parametrize("bit", [0, 5, 6])
def test_a_damaged_parquet_file_is_refused_or_read(tmp_path, bit):
    path = tmp_path / "rows.parquet"
    table = {"request_id": [1, 1, 2], "item": ["a", "b", "c"], "label": [1.0, 0.0, 1.0]}
    pl.DataFrame(table).write_parquet(path)
    good = path.read_bytes()
    refused, panics = 0, 0
    for place in range(len(good) - LAST, len(good) - LAST + 40):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
        try:
            pl.scan_parquet(path, glob=False).collect()
        except UNREADABLE as error:
            panics += isinstance(error, pl.exceptions.PanicException)
        try:
            SOURCES["long"](path, tmp_path / "log", item_features=("item",), overwrite=True)
        except DataError:
            refused += 1
    assert refused
    assert panics, "no panic of Polars any more: choose other bytes"


KINDS = {
    "lists": pl.concat_list(pl.first()),
    "structs": pl.struct(pl.first()),
    "bytes": pl.lit(b"\xff"),
    "dates": pl.lit(date(2024, 5, 1)),
    "lists of text": pl.lit(["x"]),
    "nulls": pl.lit(None),
}


@pytest.mark.parametrize("kind", KINDS)
def test_columns_of_kuairand_of_any_type_are_read_or_refused(tmp_path, kind):
    folder = write_rand(tmp_path / "files", rand_exposures(rows=9), before=histories())
    refused = set()
    for path in sorted(folder.glob("*.parquet")):
        good = pl.read_parquet(path)
        for column in good.columns:
            values = good.select(pl.col(column), KINDS[kind].alias("new"))["new"]
            good.with_columns(values.alias(column)).write_parquet(path)
            try:
                SOURCES["kuairand"](folder, tmp_path / "log", overwrite=True)
            except DataError:
                refused.add(column)
        good.write_parquet(path)
    assert {"user_id", "video_id", "time_ms", "last_time_ms"} <= refused
