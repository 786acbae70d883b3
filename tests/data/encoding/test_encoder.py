import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.data.encoding.encoder import Encoder, check_same_features, encode_column
from cascaderank.errors import DataError, SchemaError
from cascaderank.schema import Feature, FittedSchema, Schema
from tests.data.shops import SCHEMA

NAN, INF = float("nan"), float("inf")


def category(values=(), **more):
    feature = Feature(name="c", role="item", kind="categorical", **more)
    return FittedSchema(features=(feature,), vocabularies={"c": values})


def number(transform, *, missing=False, mean=None, deviation=1.0):
    feature = Feature(name="x", role="item", kind="numeric", transform=transform, missing=missing)
    moments = {} if mean is None else {"x": {"mean": mean, "deviation": deviation}}
    return FittedSchema(features=(feature,), moments=moments)


def encoded(fitted, values, dtype=None):
    return encode_column(fitted, fitted.features[0], pl.Series(values, dtype=dtype))


near = st.integers(-5, 30)
far = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=150, deadline=None)
@given(st.sets(near) | st.sets(near | far), st.lists(st.none() | near | far, max_size=20))
def test_the_code_of_an_integer_is_its_index_in_the_vocabulary_or_0(known, values):
    vocabulary = tuple(sorted(known))
    expected = [vocabulary.index(v) + 1 if v in known else 0 for v in values]
    assert encoded(category(vocabulary), values, pl.Int64).tolist() == expected
    assert encoded(category(vocabulary), vocabulary, pl.Int64).tolist() == [
        *range(1, len(vocabulary) + 1)
    ]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.text(max_size=3)), st.lists(st.none() | st.text(max_size=3), max_size=20))
def test_the_code_of_a_string_is_its_index_in_the_vocabulary_or_0(known, values):
    vocabulary = tuple(sorted(known))
    expected = [vocabulary.index(v) + 1 if v in known else 0 for v in values]
    codes = encoded(category(vocabulary), values, pl.String)
    assert codes.tolist() == expected
    assert codes.dtype == np.int32


def test_narrow_and_unsigned_integers_are_encoded():
    for dtype in (pl.Int8, pl.UInt8, pl.UInt64):
        assert encoded(category((3, 7)), [7, 3, 8], dtype).tolist() == [2, 1, 0]
    assert encoded(category((0, 1)), [True, False]).tolist() == [2, 1]


def test_an_integer_beyond_64_bits_is_out_of_vocabulary():
    assert encoded(category((0, 7)), [2**63, 7], pl.UInt64).tolist() == [0, 2]


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=20), st.integers(1, 9))
def test_a_hashed_value_is_in_1_to_buckets_and_a_null_is_0(values, buckets):
    codes = encoded(category(buckets=buckets), values, pl.Int64)
    assert codes.dtype == np.int32
    for value, code in zip(values, codes, strict=True):
        assert code == 0 if value is None else 1 <= code <= buckets


def test_hashed_codes_never_change():
    assert encoded(category(buckets=1000), [0, 1, 2, -1]).tolist() == [536, 466, 111, 937]
    assert encoded(category(buckets=1000), ["0", "a", "grün"]).tolist() == [765, 929, 786]


def test_hashed_codes_are_spread_evenly():
    counts = np.bincount(encoded(category(buckets=10), np.arange(10_000)), minlength=11)
    assert counts[0] == 0
    assert abs(counts[1:] - 1000).max() < 150  # five standard deviations


def test_very_many_buckets_have_64_bit_codes():
    codes = encoded(category(buckets=2**40), list(range(100)))
    assert codes.dtype == np.int64
    assert codes.max() > 2**32


def test_a_column_of_nulls_is_all_0():
    for fitted in (category((1, 2)), category(("a",)), category(buckets=4), category(())):
        assert encoded(fitted, [None, None]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("none", lambda x: x),
        ("log1p", lambda x: math.copysign(math.log(1 + abs(x)), x)),
        ("standardise", lambda x: (x - 2) / 4),
        ("log1p_standardise", lambda x: (math.copysign(math.log(1 + abs(x)), x) - 2) / 4),
    ],
)
def test_numbers_are_transformed_and_nulls_are_nan(transform, expected):
    values = [-3.5, 0.0, None, 100.0]
    mean = 2 if "standardise" in transform else None
    out = encoded(number(transform, missing=True, mean=mean, deviation=4), values)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, [NAN if x is None else expected(x) for x in values], rtol=1e-6)


def test_large_numbers_are_standardised_before_they_lose_digits():
    fitted = number("standardise", mean=1.7e9, deviation=1.0)
    assert encoded(fitted, [1.7e9 + 1, 1.7e9 + 2]).tolist() == [1.0, 2.0]


def test_numbers_that_are_not_finite_are_counted_and_named():
    with pytest.raises(DataError, match="feature 'x': 2 of 4 values are NaN or infinite"):
        encoded(number("none", missing=True), [NAN, 1.0, -INF, None])


def test_a_null_without_missing_is_refused():
    with pytest.raises(DataError, match="feature 'x': 1 of 2 values are null; fill them"):
        encoded(number("none"), [None, 1.0])


def test_a_number_too_large_for_float32_is_refused():
    with pytest.raises(DataError, match=r"1 of 2 values are too large for float32; .*log1p"):
        encoded(number("none"), [1e39, 1.0])


@pytest.mark.parametrize(
    ("fitted", "values", "message"),
    [
        (category((1, 2)), ["a"], "'c': the schema was fitted to integers; found String"),
        (category(("a",)), [1], "'c': the schema was fitted to strings; found Int64"),
        (category((1, 2)), [1.5], "'c' must be integers or strings; found Float64"),
        (category(buckets=3), [1.5], "'c' must be integers or strings; found Float64"),
        (number("none"), ["a"], "'x' must be numbers; found String"),
    ],
)
def test_values_of_another_type_are_refused(fitted, values, message):
    with pytest.raises(SchemaError, match=message):
        encoded(fitted, values)


def test_an_encoder_equals_encode_column():
    fitted = category(("a", "b"))
    values = pl.Series(["b", "x", "a"])
    encoder = Encoder(fitted)
    for _ in range(2):
        assert encoder(fitted["c"], values).tolist() == [2, 0, 1]


def changed(feature, **changes):
    features = [f.model_copy(update=changes) if f.name == feature else f for f in SCHEMA.features]
    return Schema(features=tuple(features))


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (changed("price", name="prise"), r"no 'price' \(did you mean 'prise'\?\)"),
        (changed("price", role="request"), "'price' has role request and not item"),
        (changed("price", kind="categorical"), "'price' has kind categorical and not numeric"),
        (changed("query", sequence="s"), "'query' has sequence s and not search"),
        (changed("hour", missing=True), "'hour' allows missing values and the model does not"),
    ],
)
def test_a_data_set_of_another_schema_is_refused(schema, message):
    with pytest.raises(SchemaError, match=f"shop: the schema differs .*: {message}"):
        check_same_features(FittedSchema(features=SCHEMA.features), schema, where="shop")


def test_all_differences_are_reported_at_once_and_further_features_are_ignored():
    fitted = FittedSchema(features=SCHEMA.features)
    with pytest.raises(SchemaError, match=r"no 'user'; no 'hour'; .*; no 'query'"):
        check_same_features(fitted, Schema(features=()), where="shop")
    more = Feature(name="more", role="item", kind="numeric")
    check_same_features(fitted, Schema(features=(*SCHEMA.features, more)), where="shop")
    check_same_features(fitted, changed("price", transform="log1p", missing=False), where="shop")
