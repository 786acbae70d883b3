"""A data set is read however well it compresses, if its columns fit into the memory."""

import polars as pl
import pytest

from cascaderank import expansion, limits
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import ConfigError
from cascaderank.schema import Schema


def zeros(requests, candidates):
    """Requests with values that compress to almost nothing."""
    columns = {"price": pl.List(pl.Float64), "a.b": pl.List(pl.Float64), "label": pl.List(pl.Int8)}
    return pl.DataFrame(
        {"request_id": range(requests)}
        | {
            name: pl.Series([[0] * candidates] * requests, dtype=dtype)
            for name, dtype in columns.items()
        }
    )


@pytest.fixture
def sparse(tmp_path):
    """A data set of a few KB with 2 columns of 960 kB and one of 480 kB, and a list of items."""
    features = [{"name": name, "role": "item", "kind": "numeric"} for name in ("price", "a.b")]
    with RequestLogWriter(tmp_path / "log", name="s", schema=Schema(features=features)) as writer:
        writer.write(zeros(300, 400))
        writer.write_catalogue(pl.DataFrame({"price": [0.0] * 150_000}))
    return RequestLog.open(tmp_path / "log")


def test_a_data_set_may_be_compressed_to_any_degree(sparse, monkeypatch):
    monkeypatch.setattr(expansion, "_ALWAYS_ALLOWED_TABLE", 0)
    monkeypatch.setattr(expansion, "_RATIO", 1)
    (part,) = sparse.manifest.parts
    assert part.bytes < 30_000
    frame = sparse.read(part)
    assert frame["price"].list.len().to_list() == [400] * 300
    assert sparse.catalogue().height == 150_000


def test_columns_that_do_not_fit_into_memory_are_not_read(sparse, monkeypatch):
    monkeypatch.setattr(limits, "machine_memory", lambda: 2**20)
    (part,) = sparse.manifest.parts
    for column in ("price", "a.b", "label", "request_id"):
        assert sparse.read(part, [column]).height == 300
    told = r"part-00000.parquet: reading price, a.b needs about .* features, or use a machine with"
    with pytest.raises(ConfigError, match=told):
        sparse.read(part, ["price", "a.b"])
    with pytest.raises(ConfigError, match=r"items.parquet: reading it needs about 0.0011 GiB"):
        sparse.catalogue()
