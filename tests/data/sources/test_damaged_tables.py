"""Damaged Parquet files, at some of which Polars panics, are refused."""

import polars as pl
import pytest

from cascaderank.data.sources import SOURCES
from cascaderank.data.unreadable import UNREADABLE
from cascaderank.errors import DataError

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
