import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.errors import DataError, SchemaError
from cascaderank.schema import Feature, FittedSchema, Kind, Schema
from tests.data.shops import SCHEMA, shop_frame

NAN, INF = float("nan"), float("inf")

numbers = st.integers(-8000, 8000).map(lambda n: n / 8)
lists = st.lists(st.lists(st.none() | numbers, max_size=5), min_size=1, max_size=8)


def numeric(transform="standardise", **more):
    feature = Feature(name="x", role="item", kind="numeric", transform=transform, missing=True)
    return Schema(features=(feature.model_copy(update=more),))


def categorical(**more):
    return Schema(features=(Feature(name="c", role="item", kind="categorical", **more),))


def frame_of(lists, name="x", dtype=pl.Float64):
    return pl.DataFrame({name: lists}, schema={name: pl.List(dtype)})


def cut(frame, at):
    return [frame[:at], frame[at:]]


@settings(max_examples=100, deadline=None)
@given(lists, st.integers(0, 8), st.booleans())
def test_moments_equal_those_of_numpy_for_any_division_into_frames(lists, at, logs):
    schema = numeric("log1p_standardise" if logs else "standardise")
    moments = fit_schema(schema, cut(frame_of(lists), at)).moments["x"]
    values = np.array([v for values in lists for v in values if v is not None])
    if logs:
        values = np.sign(values) * np.log(1 + np.abs(values))
    if len(set(values)) == 0:
        assert (moments.mean, moments.deviation) == (0, 1)
    elif len(set(values)) == 1:
        assert moments.mean == pytest.approx(values[0], rel=1e-12)
        assert moments.deviation == 1
    else:
        assert moments.mean == pytest.approx(values.mean(), rel=1e-9, abs=1e-9)
        assert moments.deviation == pytest.approx(values.std(), rel=1e-9)


def test_moments_of_large_numbers_with_a_small_spread_are_exact():
    seconds = 1.7e9 + np.arange(1000.0)
    moments = fit_schema(numeric(), cut(frame_of([[s] for s in seconds]), 300)).moments["x"]
    assert moments.deviation == pytest.approx(np.arange(1000.0).std(), rel=1e-9)


def test_a_constant_has_deviation_1_in_spite_of_rounding():
    moments = fit_schema(numeric(), cut(frame_of([[0.1]] * 7), 3)).moments["x"]
    assert (moments.mean, moments.deviation) == (0.1, 1.0)


def test_numbers_without_a_deviation_in_float64_are_refused():
    with pytest.raises(
        DataError, match=r"'x': values range from -1e\+300 to 1e\+300, and their stand"
    ):
        fit_schema(numeric(), [frame_of([[1e300, -1e300]])])


@pytest.mark.parametrize("transform", ["none", "log1p"])
def test_features_that_are_not_standardised_have_no_moments(transform):
    assert fit_schema(numeric(transform), [frame_of([[1.0]])]).moments == {}


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.none() | st.integers(-3, 3), max_size=4), min_size=1, max_size=6),
    st.integers(0, 6),
    st.integers(1, 3),
)
def test_a_vocabulary_has_the_frequent_values_in_order(lists, at, min_count):
    frame = frame_of(lists, "c", pl.Int64)
    fitted = fit_schema(categorical(min_count=min_count, missing=True), cut(frame, at))
    seen = [v for values in lists for v in values if v is not None]
    often = sorted(v for v in set(seen) if seen.count(v) >= min_count)
    assert fitted.vocabularies["c"] == tuple(often)
    assert fitted.codes(fitted["c"]) == len(often) + 1


def test_strings_are_sorted_by_code_point():
    frame = frame_of([["b", "é", "a", "Z", "10", "9"]], "c", pl.String)
    assert fit_schema(categorical(), [frame]).vocabularies["c"] == ("10", "9", "Z", "a", "b", "é")


def test_features_of_one_vocabulary_share_it():
    fitted = fit_schema(SCHEMA, [shop_frame(3)])
    assert set(fitted.vocabularies) == {"user", "video"}
    videos = {v for name in ("video", "watched") for vs in shop_frame(3)[name] for v in vs}
    assert fitted.vocabularies["video"] == tuple(sorted(videos))


def test_a_hashed_feature_keeps_no_vocabulary():
    fitted = fit_schema(categorical(buckets=5), [frame_of([[1, 2]], "c", pl.Int64)])
    assert fitted.vocabularies == {}
    assert fitted.codes(fitted["c"]) == 6


@pytest.mark.parametrize("values", [(["1", "2"], pl.String), ([1, 2], pl.Int64)])
def test_a_fitted_schema_is_saved_and_loaded(tmp_path, values):
    fitted = fit_schema(categorical(), [frame_of([values[0]], "c", values[1])])
    fitted.save(tmp_path / "schema.json")
    assert FittedSchema.load(tmp_path / "schema.json") == fitted
    assert fitted.vocabularies["c"] == tuple(values[0])


def test_a_vocabulary_of_integers_and_strings_is_refused():
    frames = [frame_of([[1]], "c", pl.Int64), frame_of([["a"]], "c", pl.String)]
    with pytest.raises(SchemaError, match=r"'c': expected Int64, .* 'c'; found String"):
        fit_schema(categorical(), frames)


def test_no_training_requests_are_refused():
    with pytest.raises(DataError, match=r"needs training requests .* found none"):
        fit_schema(SCHEMA, [])
    with pytest.raises(DataError, match=r"needs training requests .* found none"):
        fit_schema(SCHEMA, [shop_frame(0)])


@pytest.mark.parametrize("transform", ["none", "standardise"])
def test_numbers_that_are_not_finite_are_counted_and_named(transform):
    frame = frame_of([[NAN, 1.0], [INF, None]])
    with pytest.raises(DataError, match="feature 'x': 2 of 4 values are NaN or infinite"):
        fit_schema(numeric(transform), [frame])


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (shop_frame().rename({"price": "prise"}), r"'price' is missing \(did you mean 'prise'\?\)"),
        (shop_frame().with_columns(price=1.0), "'price' must be one list per request; found"),
        (shop_frame().with_columns(hour="price"), "'hour' must be one value per request; found"),
        (shop_frame().with_columns(hour=pl.lit("a")), "'hour' must be numbers; found String"),
        (shop_frame().with_columns(user=1.5), "'user' must be integers or strings; found Float64"),
    ],
)
def test_frames_of_another_schema_are_refused(frame, message):
    with pytest.raises(SchemaError, match=message):
        fit_schema(SCHEMA, [frame])


def test_every_standardised_feature_has_moments():
    fitted = fit_schema(SCHEMA, [shop_frame(9)])
    standardised = {f.name for f in SCHEMA.features if f.kind is Kind.NUMERIC} - {"seconds"}
    assert set(fitted.moments) == standardised == {"hour", "price"}
    assert fitted.plain() == SCHEMA
