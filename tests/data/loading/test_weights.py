"""Requests are drawn in proportion to their weights; weights of candidates reach the batch."""

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
        pytest.raises(DataError, match=r"request_weight: expected .* at least 0, found -2 in 1 of"),
        RequestLogWriter(tmp_path / "bad", name="log", schema=SCHEMA) as writer,
    ):
        writer.write(frame)


OF_CANDIDATES = [[0.5, 2.0, 0.0], [3.0], [0.25, 4.0]]


def candidate_frame(weights=OF_CANDIDATES, **more):
    ids = list(range(len(weights)))
    x = [[10.0 * i + j for j in range(len(of))] for i, of in zip(ids, weights, strict=True)]
    return pl.DataFrame({"request_id": ids, "x": x, "candidate_weight": weights, **more})


def encode(path, *frames):
    """Encode a log with one part per frame."""
    with RequestLogWriter(path / "log", name="log", schema=SCHEMA, rows_per_part=2) as writer:
        for frame in frames:
            writer.write(frame)
    log = RequestLog.open(path / "log")
    assert len(log.manifest.parts) > 1
    fitted = fit_schema(log.schema, log.frames())
    return EncodedLog.build(log, fitted, target=None, folder=path / "columns"), fitted


def test_weights_of_candidates_stay_with_them(tmp_path):
    """Candidates are shuffled when they are encoded, in several parts, and padded in batches."""
    encoded, _ = encode(tmp_path, candidate_frame())
    loader = RequestLoader(encoded, np.arange(3), batch_size=3)
    batch = next(loader.epoch(0))
    assert batch.weights.dtype.is_floating_point
    assert batch.weights.shape == batch.mask.shape
    number = batch.items["x"][batch.mask].sort()
    expected = [10.0 * i + j for i, of in enumerate(OF_CANDIDATES) for j in range(len(of))]
    deviation = np.std(expected)
    found = (number.values * deviation + np.mean(expected)).round().tolist()
    assert found == expected
    in_order = batch.weights[batch.mask][number.indices].tolist()
    assert in_order == [w for of in OF_CANDIDATES for w in of]
    assert not batch.weights[~batch.mask].any()
    assert encoded.mapped_bytes >= 4 * 6 * 2


def test_logs_without_weights_of_candidates_have_none(encoded):
    assert encoded.candidate_weights is None
    assert next(RequestLoader(encoded, np.arange(4), batch_size=4).epoch(0)).weights is None


def test_a_frame_in_memory_has_its_weights_in_its_order(tmp_path):
    _, fitted = encode(tmp_path, candidate_frame())
    log = EncodedLog.of_frame(candidate_frame([[1.0, 0.0]]), fitted)
    assert log.candidate_weights.tolist() == [1.0, 0.0]
    with pytest.raises(
        DataError, match=r"candidate_weight: .* found -1 in 1 of 2 candidates; write"
    ):
        EncodedLog.of_frame(candidate_frame([[1.0, -1.0]]), fitted)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            [[1.0], [0.5, None]],
            "found null in 1 of 3 candidates, first in request 1; write 1 for a",
        ),
        ([[float("nan")], [1.0]], "found NaN in 1 of 2 candidates, first in request 0; write 1"),
        ([[1e39], [1.0]], "found infinity in 1 of 2 .*; write smaller numbers, such as 1"),
        ([[1.0, -1.0], [-0.5]], "found -1 and others below 0 in 2 of 3 candidates, first in reque"),
        ([[1.0, 2.0], ["x"]], "'candidate_weight': expected numbers; found String"),
    ],
)
def test_bad_weights_of_candidates_are_refused_with_a_remedy(tmp_path, weights, message):
    frame = candidate_frame(weights) if weights[-1] != ["x"] else candidate_frame([["1"], ["x"]])
    with (
        pytest.raises(DataError, match=message),
        RequestLogWriter(tmp_path / "bad", name="log", schema=SCHEMA) as writer,
    ):
        writer.write(frame)


def test_weights_of_candidates_are_one_per_candidate(tmp_path):
    frame = candidate_frame().with_columns(candidate_weight=pl.Series([[1.0], [1.0], [1.0]]))
    with (
        pytest.raises(DataError, match=r"unequal length .*: x 3, candidate_weight 1; expected"),
        RequestLogWriter(tmp_path / "bad", name="log", schema=SCHEMA) as writer,
    ):
        writer.write(frame)
