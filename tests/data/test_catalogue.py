import json

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Schema

SCHEMA = Schema(
    features=(
        Feature(name="item", role="item", kind="categorical"),
        Feature(name="x", role="item", kind="numeric", missing=True),
    )
)


def write(path, *frames, items=None):
    with RequestLogWriter(path, name="shop", schema=SCHEMA) as writer:
        for frame in frames:
            writer.write(frame)
        if items is not None:
            writer.write_catalogue(items)
    return RequestLog.open(path)


def requests(first, count):
    return pl.DataFrame(
        {
            "request_id": range(first, first + count),
            "item": [[1, 2]] * count,
            "x": [[0.5, None]] * count,
        }
    )


def test_a_catalogue_is_read_with_the_types_of_the_log(tmp_path):
    items = pl.DataFrame({"x": [1, None, 3], "item": pl.Series([7, 8, 9], dtype=pl.Int16)})
    log = write(tmp_path / "log", requests(0, 1), items=items)
    found = log.catalogue()
    assert found.to_dict(as_series=False) == {"item": [7, 8, 9], "x": [1.0, None, 3.0]}
    assert found.schema == {"item": pl.Int64, "x": pl.Float64}
    other = write(tmp_path / "other", requests(0, 1), items=items[:2])
    assert other.fingerprint != log.fingerprint
    assert write(tmp_path / "none", requests(0, 1)).catalogue() is None


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"itme": [1]}, r"expected item features, found itme \(did you mean 'item'\?\)"),
        ({"item": ["a"]}, "column 'item': expected integers; found String"),
        ({"item": [1, None]}, r"null values: item \(1 of 2\)"),
        ({"item": [1], "x": [float("inf")]}, r"NaN or infinite numbers: x \(1 of 1\)"),
    ],
)
def test_a_wrong_catalogue_leaves_nothing_behind(tmp_path, items, message):
    with pytest.raises(DataError, match=message):
        write(tmp_path / "log", requests(0, 1), items=pl.DataFrame(items))
    assert not (tmp_path / "log").exists()


def test_a_damaged_catalogue_is_refused(tmp_path):
    log = write(tmp_path / "log", requests(0, 1), items=pl.DataFrame({"item": [1]}))
    file = tmp_path / "log" / "items.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(DataError, match="checksum does not match"):
        log.catalogue()
    manifest = json.loads((tmp_path / "log" / "manifest.json").read_text())
    assert manifest["catalogue"]["items"] == 1
