"""Values of one request are encoded as the loader of training encodes frames."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import DataError, SchemaError
from cascaderank.schema import Feature, FittedSchema
from cascaderank.serving import value_encoder
from cascaderank.serving.value_encoder import ValueEncoder
from tests.serving.conftest import MARKET, market_frame, request_of

FITTED = fit_schema(MARKET, [market_frame()])
ENCODER = ValueEncoder(FITTED, history_length=2)
REQUEST = request_of(market_frame(1).row(0, named=True))


def test_requests_are_those_of_the_loader():
    frame = market_frame(200)  # with users and videos that FITTED does not have
    log = EncodedLog.of_frame(frame, FITTED, history_length=2)
    loader = RequestLoader(log, np.arange(frame.height), batch_size=1)
    for row, expected in zip(frame.iter_rows(named=True), loader.epoch(0), strict=True):
        found = ENCODER.request(request_of(row))
        for part in ("request", "history", "history_mask"):
            ours, theirs = getattr(found, part), getattr(expected, part)
            assert ours.keys() == theirs.keys()
            for name in ours:
                torch.testing.assert_close(
                    ours[name], theirs[name], rtol=0, atol=0, equal_nan=True, msg=name
                )


def test_candidates_are_those_of_the_loader():
    frame = market_frame(60)
    log = EncodedLog.of_frame(frame, FITTED)
    loader = RequestLoader(log, np.arange(frame.height), batch_size=1)
    for row, expected in zip(frame.iter_rows(named=True), loader.epoch(0), strict=True):
        for feature in MARKET.features:
            if feature.role != "item":
                continue
            encode = ENCODER.lists if feature.several else ENCODER.column
            found = torch.from_numpy(encode(feature.name, row[feature.name]))[None]
            torch.testing.assert_close(
                found, expected.items[feature.name], rtol=0, atol=0, equal_nan=True
            )


def fitted(**options):
    feature = Feature(name="x", role="item", **options)
    categorical = feature.kind == "categorical" and feature.buckets is None
    moments = {"x": {"mean": 0.25, "deviation": 3.0}} if feature.kind == "numeric" else {}
    return lambda values: FittedSchema(
        features=(feature,), vocabularies={"x": values} if categorical else {}, moments=moments
    )


@given(
    st.lists(st.integers(-(2**63), 2**63 - 1), unique=True, min_size=1).map(sorted),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), min_size=1),
)
def test_integers_have_the_codes_of_the_encoder(vocabulary, values):
    for schema in (
        fitted(kind="categorical")(tuple(vocabulary)),
        fitted(kind="categorical", buckets=11)(()),
    ):
        values = [*values, vocabulary[0]]
        expected = Encoder(schema)(schema["x"], pl.Series(values, dtype=pl.Int64))
        encoder = ValueEncoder(schema, history_length=1)
        assert encoder.column("x", values).tolist() == expected.tolist()


@given(
    st.lists(st.text(), unique=True, min_size=1).map(sorted),
    st.lists(st.one_of(st.none(), st.text()), min_size=1),
)
def test_strings_have_the_codes_of_the_encoder(vocabulary, values):
    for schema in (
        fitted(kind="categorical")(tuple(vocabulary)),
        fitted(kind="categorical", buckets=11)(()),
    ):
        values = [*values, vocabulary[-1]]
        expected = Encoder(schema)(schema["x"], pl.Series(values, dtype=pl.String))
        encoder = ValueEncoder(schema, history_length=1)
        assert encoder.column("x", values).tolist() == expected.tolist()


@given(st.lists(st.one_of(st.none(), st.floats(-1e30, 1e30)), min_size=1))
@pytest.mark.parametrize("transform", ["none", "log1p", "standardise", "log1p_standardise"])
def test_numbers_are_those_of_the_encoder(transform, values):
    schema = fitted(kind="numeric", missing=True, transform=transform)(())
    expected = Encoder(schema)(schema["x"], pl.Series(values, dtype=pl.Float64))
    found = ValueEncoder(schema, history_length=1).column("x", values)
    np.testing.assert_array_equal(found, expected)


def test_whole_floats_nan_and_booleans_are_what_frames_make_of_them():
    schema = fitted(kind="categorical")((0, 1, 7))
    encoder = ValueEncoder(schema, history_length=1)
    values = [7.0, math.nan, True, np.int32(7), np.bool_(False), 2**70]
    assert encoder.column("x", values).tolist() == [3, 0, 2, 3, 1, 0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"user": 7}, SchemaError, "'user': expected strings, .* fitted to, found 7"),
        ({"user": 7.5}, SchemaError, "'user' must be integers or strings; found 7.5"),
        ({"watched": ["7"], "seconds": [1.0]}, SchemaError, "expected integers, .* found '7'"),
        ({"hour": "noon"}, SchemaError, "'hour' must be numbers; found 'noon'"),
        ({"age": None}, DataError, "'age': expected a number, found none"),
        ({"age": math.inf}, DataError, "'age': expected a finite number"),
        ({"age": 10**400}, DataError, "'age': expected a finite number"),
        ({"age": [1.0]}, SchemaError, "'age' must be numbers"),
        ({"watched": 3}, SchemaError, "'watched': expected a list, found 3"),
        ({"watched": [103], "seconds": []}, DataError, "found 1 values of 'watched' and 0 of"),
        ({"seconds": [None], "watched": [103]}, DataError, "'seconds': expected a number"),
        ({"likes": "film"}, SchemaError, "'likes': expected a list, found 'film'"),
        ({"likes": ["film", None]}, DataError, "'likes': expected a list without missing"),
        ({"place": [1.0]}, DataError, r"expected 2 numbers \(width=2\), found 1"),
        ({"device": [1]}, SchemaError, r"'device' must be integers or strings; found \[1\]"),
        ({"device": 2**64}, DataError, "expected an integer of 64 bits"),
        ({"user": {}}, SchemaError, "'user' must be integers or strings"),
    ],
)
def test_wrong_values_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        ENCODER.request({**REQUEST, **changes})


@pytest.mark.parametrize("values", [[[1.0], 1.0], [1.0, [1.0]], [[1.0], [1.0, 2.0]], [1.0, {}]])
def test_numbers_among_lists_are_named(values):
    with pytest.raises(SchemaError, match=r"'distance' must be numbers; found [\[{]"):
        ENCODER.column("distance", values)


def test_hashed_integers_and_texts_can_be_mixed():
    schema = fitted(kind="categorical", buckets=10**9)(())
    encoder, values = ValueEncoder(schema, history_length=1), [3, "3", None, -1, 2**64 - 1, 3.0]
    together = encoder.column("x", values).tolist()
    assert together == [encoder.column("x", [value]).tolist()[0] for value in values]
    signed = Encoder(schema)(schema["x"], pl.Series([3, -1], dtype=pl.Int64)).tolist()
    texts = Encoder(schema)(schema["x"], pl.Series(["3"])).tolist()
    assert together == [signed[0], *texts, 0, signed[1], signed[1], signed[0]]


def test_many_integers_are_hashed_together(monkeypatch):
    calls, mix = [], value_encoder.mix
    monkeypatch.setattr(value_encoder, "mix", lambda given: (calls.append(given), mix(given))[1])
    schema = fitted(kind="categorical", buckets=10**9)(())
    ValueEncoder(schema, history_length=1).column("x", range(1_000))
    assert [len(given) for given in calls] == [1_000]


def test_a_missing_feature_is_named():
    request = {name: value for name, value in REQUEST.items() if name != "device"}
    with pytest.raises(SchemaError, match=r"the request has no 'device' \(did you mean 'devise'"):
        ENCODER.request({**request, "devise": 3})
    with pytest.raises(DataError, match="expected a request as values by name, found list"):
        ENCODER.request([])
