"""Standardisation by request: the statistics are those of the candidates of one list."""

import math
import statistics

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.data.encoding.by_request import standardised_by_request
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import encode_column
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.item_catalogue import ItemCatalogue
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Feature, FittedSchema, Schema

X = Feature(name="x", role="item", kind="numeric", transform="standardise_by_request", missing=True)
SCHEMA = FittedSchema(features=(X,))

numbers = st.floats(-1e6, 1e6) | st.integers(-3, 3).map(float)
lists = st.lists(st.lists(st.none() | numbers, max_size=6), min_size=1, max_size=5)


def encoded(values):
    frame = pl.DataFrame({"x": values}, schema={"x": pl.List(pl.Float64)})
    return EncodedLog.of_frame(frame, SCHEMA).items["x"]


def by_loops(values):
    present = [v for v in values if v is not None]
    if len(set(present)) < 2:
        return [math.nan if v is None else 0.0 for v in values]
    mean, deviation = statistics.fmean(present), statistics.pstdev(present)
    return [math.nan if v is None else (v - mean) / deviation for v in values]


@settings(max_examples=200, deadline=None)
@given(lists)
def test_values_are_those_of_plain_loops(values):
    expected = [z for of_request in values for z in by_loops(of_request)]
    np.testing.assert_allclose(encoded(values), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("value", [0.1, -3e300, 5e-324])
def test_equal_values_and_single_ones_are_exactly_0(value):
    assert encoded([[value] * 7, [value, None], [value]])[[0, 6, 7, 9]].tolist() == [0, 0, 0, 0]


def test_a_list_without_any_value_stays_missing():
    assert np.isnan(encoded([[None, None], [1.0, 2.0]])).tolist() == [True, True, False, False]


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
@pytest.mark.parametrize("origin", [0.0, 1e3])
def test_scale_and_origin_of_the_scores_of_a_request_have_no_effect(scale, origin):
    values = [1.0, 2.0, 6.0, -4.0]
    expected = encoded([values])
    np.testing.assert_allclose(encoded([[scale * (v + origin) for v in values]]), expected, 1e-5)


def test_values_whose_difference_overflows_are_refused():
    with pytest.raises(DataError, match="'x': values of one request differ by more than"):
        encoded([[1e308, -1e308]])


def test_other_requests_and_the_training_requests_have_no_effect():
    frame = pl.DataFrame({"x": [[1.0, 2.0, 4.0], [50.0, 60.0]]})
    fitted = fit_schema(Schema(features=(X,)), [frame])
    assert fitted.moments == {}
    alone = EncodedLog.of_frame(frame[:1], fitted).items["x"]
    assert encoded([[1.0, 2.0, 4.0], [50.0, 60.0]])[:3].tolist() == alone.tolist()


def test_the_transform_equals_the_normalisation_of_runs(tmp_path):
    chance = np.random.default_rng(0)
    for system in ("a", "b"):
        lines = [
            f"q{q} Q0 d{d} 0 {chance.normal(10 * q, q):.4f} t\n"
            for q in (1, 2, 3)
            for d in chance.permutation(20)[:12]
        ]
        (tmp_path / f"{system}.run").write_text("".join(lines))
    (tmp_path / "qrels").write_text("".join(f"q{q} 0 d3 1\n" for q in (1, 2, 3)))
    logs = []
    for name, options in (
        ("by_model", {"transform": "standardise_by_request"}),
        ("prepared", {"transform": "none", "normalise": "z_score"}),
    ):
        SOURCES["trec"](tmp_path, tmp_path / name, **options)
        log = RequestLog.open(tmp_path / name)
        fitted = fit_schema(log.schema, log.frames())
        logs.append(EncodedLog.of_frame(pl.concat(list(log.frames())), fitted).items)
    for system in ("a_score", "b_score"):
        assert 0.2 < np.isnan(logs[0][system]).mean() < 0.6
        np.testing.assert_allclose(logs[0][system], logs[1][system], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("feature", "found"),
    [
        ({"role": "request"}, "a feature of the request"),
        ({"role": "history"}, "a feature of the history"),
        ({"role": "item", "width": 3}, "several values"),
    ],
)
def test_only_numbers_of_candidates_can_be_standardised_by_request(feature, found):
    with pytest.raises(ValueError, match=f"needs a number per candidate; found {found}; set"):
        Feature(name="x", kind="numeric", transform="standardise_by_request", **feature)


def test_values_without_a_request_are_refused():
    with pytest.raises(ConfigError, match="single values reads x, standardised by request"):
        encode_column(SCHEMA, X, pl.Series([1.0, 2.0]))


VIDEO = Feature(name="video", role="item", kind="categorical")
WITH_IDS = FittedSchema(features=(VIDEO, X), vocabularies={"video": (1, 2, 3)})


@pytest.mark.parametrize("table", [None, pl.DataFrame({"video": [1, 2, 3], "x": [1.0, 2.0, 3.0]})])
def test_an_item_outside_of_requests_has_no_value(table):
    frame = pl.DataFrame({"video": [[1, 2], [3]], "x": [[1.0, 2.0], [3.0]]})
    log = EncodedLog.of_frame(frame, WITH_IDS)
    catalogue = ItemCatalogue.build(log, WITH_IDS, item="video", train=np.arange(2), frame=table)
    with pytest.raises(ConfigError, match="'x', which depends on the request"):
        catalogue.check_has(["video", "x"], reader="stages.retrieval")


def test_a_large_number_of_requests_is_encoded_quickly():
    lengths = np.full(50_000, 40)
    values = np.random.default_rng(0).normal(size=lengths.sum())
    z = standardised_by_request(X, values, lengths).reshape(-1, 40)
    np.testing.assert_allclose(z.mean(1), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(1), 1)
