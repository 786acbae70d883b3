"""Requests are drawn in proportion to their weights."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.loading.request_order import resampled
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Schema

SCHEMA = Schema(features=({"name": "x", "role": "item", "kind": "numeric"},))
WEIGHTS = [0.0, 1.0, 1.0, 6.0]


@pytest.fixture
def encoded(tmp_path):
    frame = pl.DataFrame({"request_id": range(4), "x": [[1.0, 2.0]] * 4, "request_weight": WEIGHTS})
    with RequestLogWriter(tmp_path / "log", name="log", schema=SCHEMA) as writer:
        writer.write(frame)
    log = RequestLog.open(tmp_path / "log")
    fitted = fit_schema(log.schema, log.frames())
    return EncodedLog.build(log, fitted, target=None, folder=tmp_path / "columns")


@given(
    st.lists(st.floats(0, 100, width=32), min_size=1, max_size=30).filter(any),
    st.integers(0, 5),
)
def test_each_request_occurs_in_proportion_to_its_weight(weights, epoch):
    rows, weights = np.arange(len(weights)), np.array(weights, dtype=np.float32)
    drawn = resampled(rows, weights, seed=3, epoch=epoch)
    assert len(drawn) == len(rows)
    counts = np.bincount(drawn, minlength=len(rows))
    expected = weights.astype(float) * len(rows) / weights.astype(float).sum()
    assert (np.abs(counts - expected) < 1 + 1e-6).all()
    assert not counts[weights == 0].any()


def test_means_over_epochs_are_the_weights():
    weights = np.array([0.5, 1.0, 2.5], dtype=np.float32)
    draws = [resampled(np.arange(3), weights, seed=0, epoch=e) for e in range(400)]
    counts = np.bincount(np.concatenate(draws), minlength=3) / 400
    assert counts == pytest.approx(weights * 3 / weights.sum(), abs=0.06)


def test_the_loader_draws_by_the_weights_of_the_log(encoded):
    assert encoded.weights.tolist() == WEIGHTS
    loader = RequestLoader(encoded, np.arange(4), batch_size=2, seed=0, weighted=True)
    rows = [batch.rows.tolist() for batch in loader.epoch(1)]
    assert sorted(row for batch in rows for row in batch) == sorted(
        resampled(np.arange(4), encoded.weights, seed=0, epoch=1).tolist()
    )
    assert len(rows) == loader.batches_per_epoch == 2
    resumed = [batch.rows.tolist() for batch in loader.epoch(1, start=1)]
    assert resumed == rows[1:]
    plain = RequestLoader(encoded, np.arange(4), batch_size=4, seed=0)
    assert sorted(next(plain.epoch(0)).rows.tolist()) == [0, 1, 2, 3]


def test_equal_weights_change_nothing():
    rows = np.array([4, 1, 3])
    assert resampled(rows, np.ones(5, dtype=np.float32), seed=0, epoch=0).tolist() == [4, 1, 3]


def test_bad_weights_are_refused(encoded, tmp_path):
    with pytest.raises(DataError, match="all training requests have weight 0"):
        resampled(np.arange(1), np.zeros(1, dtype=np.float32), seed=0, epoch=0)
    with pytest.raises(ConfigError, match="weighted draws requests and needs a seed"):
        RequestLoader(encoded, np.arange(4), batch_size=2, weighted=True)
    frame = pl.DataFrame({"request_id": [1, 2], "x": [[1.0], [2.0]], "request_weight": [1.0, -2.0]})
    with (
        pytest.raises(DataError, match="request_weight: expected .* at least 0, found -2 in 1 of"),
        RequestLogWriter(tmp_path / "bad", name="log", schema=SCHEMA) as writer,
    ):
        writer.write(frame)
