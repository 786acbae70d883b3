from datetime import UTC, datetime

import polars as pl
import pytest

from cascaderank.data.log.validation import FrameCheck
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Schema
from tests.data.shops import LEVELS, SCHEMA, shop_frame

NAN, INF = float("nan"), float("inf")


def checked(frame, *, schema=SCHEMA, levels=LEVELS):
    return FrameCheck(schema, levels)(frame)


def with_column(name, values, dtype=None):
    return shop_frame().with_columns(pl.Series(name, values, dtype=dtype, strict=False))


BAD_VALUES = {
    "NaN and infinite numbers are counted by feature": (
        with_column("price", [[NAN], [INF, -INF], [1.0, 2.0, 3.0]]),
        r"NaN or infinite numbers: price \(3 of 6\); correct them, or write null where .* missing=true",
    ),
    "an infinite request feature": (
        with_column("hour", [1.0, INF, 2.0]),
        r"hour \(1 of 3\)",
    ),
    "a NaN label": (
        with_column("label", [[NAN], [1, 2], [1, 2, 3]]),
        r"label \(1 of 6\)",
    ),
    "a label beyond float32": (
        with_column("label", [[1e39], [1, 2], [1, 2, 3]]),
        r"label \(1 of 6\)",
    ),
    "nulls in a feature that is never missing": (
        with_column("video", [[None], [1, None], [1, 2, 3]]),
        r"null values: video \(2 of 6\); fill them, or set missing=true if it is a feature",
    ),
    "a null level": (
        with_column("level", [[None], [1, 0], [1, 2, 0]]),
        r"null values: level \(1 of 6\)",
    ),
    "lists of unequal length name the request, the columns and the lengths": (
        with_column("price", [[1.0], [1.0], [1.0, 2.0, 3.0]]),
        r"candidates: lists of unequal length in 1 requests, first in request 'r0001': "
        r"video 2, price 1, level 2",
    ),
    "histories of one sequence that differ in length": (
        with_column("seconds", [[], [1.0, 2.0], [1.0, 2.0]]),
        r"history 'history': lists of unequal length in 1 requests, first in request 'r0001': "
        r"watched 1, seconds 2",
    ),
    "a request without candidates": (
        shop_frame().with_columns(
            pl.when(pl.col("request_id") == "r0001")
            .then(pl.col(name).list.head(0))
            .otherwise(pl.col(name))
            .alias(name)
            for name in ("video", "price", "level", "position", "label", "feedback")
        ),
        r"1 requests have no candidates, first 'r0001'; leave them out",
    ),
    "a repeated request": (
        with_column("request_id", ["a", "b", "a"]),
        r"request_id must be unique; 1 are not, first 'a'",
    ),
    "a null request": (
        with_column("request_id", ["a", None, "b"]),
        r"request_id is null in 1 of 3 requests",
    ),
    "a request that is a number with a fraction": (
        with_column("request_id", [1.0, 2.0, 3.0]),
        r"request_id must be strings or integers; found Float64",
    ),
    "labels that become equal": (
        with_column("label", [[2**24], [1700000001, 3], [1700000001, 1700000002, 1700000001]]),
        r"'label': expected values that differ as float32.*; found 1700000001 and 1700000002 in "
        r"one request, which are both 1700000000 as float32; subtract a constant",
    ),
    "numbers of feedback that become equal": (
        with_column("feedback", [[0.0], [-1e9, -1e9 - 1], [1.0, 1.0, 1.0]]),
        r"'feedback': expected values that differ as float32",
    ),
    "a level without a name": (
        with_column("level", [[0], [1, 3], [-1, 2, 0]]),
        r"'level': expected 0 to 2 \(lost, ranked, shown\); found 3 and 1 more values outside",
    ),
    "a position that does not fit": (
        with_column("position", [[0], [1, 2], [32768, 1, 2]]),
        r"'position': expected 0 to 32767; found 32768 and 0 more",
    ),
    "a negative position": (
        with_column("position", [[0], [1, -2], [1, 1, 2]]),
        r"'position': expected 0 to 32767; found -2",
    ),
    "a level with a fraction": (
        with_column("level", [[0.5], [1, 2], [0, 1, 2]]),
        r"column 'level': expected integers; found Float64",
    ),
    "a category with a fraction": (
        with_column("video", [[0.5], [1, 2], [0, 1, 2]]),
        r"column 'video': expected integers; found Float64",
    ),
    "a number that is text": (
        with_column("hour", ["1", "2", "3"]),
        r"column 'hour': expected numbers; found String",
    ),
    "a vocabulary of integers and strings": (
        with_column("watched", [[], ["a"], ["a", "b"]]),
        r"column 'video': expected strings; found Int64",
    ),
    "an integer beyond 64 bits": (
        with_column("video", [[2**63], [1, 2], [1, 2, 3]], pl.List(pl.UInt64)),
        r"column 'video': not every value fits into Int64",
    ),
    "an item feature that is no list": (
        with_column("price", [1.0, 2.0, 3.0]),
        r"column 'price' must be a list per request, one value per candidate; found Float64",
    ),
    "a history that is no list": (
        with_column("watched", [1, 2, 3]),
        r"column 'watched' must be a list per request, one value per history entry",
    ),
    "a request feature that is a list": (
        with_column("hour", [[1.0], [2.0], [3.0]]),
        r"column 'hour' must have one value per request; found List",
    ),
    "a history that is null": (
        with_column("watched", [[], None, [1, 2]]),
        r"column 'watched' has 1 null lists, first in request 'r0001'; write an empty history",
    ),
    "a timestamp without a time zone": (
        shop_frame().with_columns(timestamp=datetime(2024, 1, 1)),  # noqa: DTZ001 - the mistake
        r"timestamp must be Datetime with a time zone; .*replace_time_zone\('UTC'\)",
    ),
    "a timestamp that is a number": (
        with_column("timestamp", [1, 2, 3]),
        r"timestamp must be Datetime with a time zone; found Int64",
    ),
    "a null timestamp": (
        with_column("timestamp", [datetime(2024, 1, 1, tzinfo=UTC), None, None]),
        r"timestamp is null in 2 requests, first in 'r0001'",
    ),
    "a missing feature": (
        shop_frame().drop("video").rename({"price": "prise"}),
        r"columns missing: video, price; found",
    ),
    "a misspelt feature": (
        shop_frame().rename({"price": "prise"}),
        r"columns missing: price \(did you mean 'prise'\?\)",
    ),
    "a missing level": (
        shop_frame().drop("level"),
        r"columns missing: level",
    ),
    "a column that is no feature": (
        shop_frame().with_columns(prices=1),
        r"neither features .*: prices \(did you mean 'price'\?\); add a feature or drop",
    ),
}


@pytest.mark.parametrize(("frame", "message"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_bad_frame_is_refused(frame, message):
    with pytest.raises(DataError, match=message):
        checked(frame)


def test_levels_without_names_are_refused():
    with pytest.raises(DataError, match="'level' needs level names; found none; set level_names"):
        checked(shop_frame(), levels=())


def test_a_log_without_candidate_columns_is_refused():
    schema = Schema(features=(Feature(name="user", role="request", kind="categorical"),))
    frame = pl.DataFrame({"request_id": [1], "user": [2]})
    with pytest.raises(DataError, match="found no column of candidates"):
        checked(frame, schema=schema, levels=())


def test_a_valid_frame_is_accepted_and_its_columns_are_ordered():
    frame = checked(shop_frame().select(reversed(shop_frame().columns)))
    assert frame.columns == [
        "request_id", *SCHEMA.names, "level", "position", "label", "feedback",
    ]  # fmt: skip


@pytest.mark.parametrize("column", ["timestamp", "label"])
def test_later_frames_must_have_the_columns_of_the_first(column):
    check = FrameCheck(SCHEMA, LEVELS)
    full = shop_frame(days=1)
    check(full)
    with pytest.raises(DataError, match=f"missing that earlier frames have: {column}"):
        check(full.drop(column))
    check = FrameCheck(SCHEMA, LEVELS)
    check(full.drop(column))
    with pytest.raises(DataError, match=f"nor .* in earlier frames: {column}"):
        check(full)


def test_later_frames_must_have_the_types_of_the_first():
    check = FrameCheck(SCHEMA, LEVELS)
    check(shop_frame())
    with pytest.raises(DataError, match="column 'user': expected strings; found Int64"):
        check(with_column("user", [1, 2, 3]))


def test_a_bad_first_frame_fixes_no_types():
    check = FrameCheck(SCHEMA, LEVELS)
    with pytest.raises(DataError):
        check(with_column("hour", [1.0, INF, 2.0]).with_columns(user=pl.lit(1)))
    assert check(shop_frame()).schema["user"] == pl.String


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (pl.Float32, pl.Float32),
        (pl.Float64, pl.Float64),
        (pl.Int16, pl.Float64),
        (pl.Boolean, pl.Float64),
    ],
)
def test_numbers_are_float32_only_if_they_are_in_the_frame(dtype, kept):
    frame = shop_frame().with_columns(pl.Series("hour", [0, 1, 1]).cast(dtype))
    out = checked(frame)
    assert out.schema["hour"] == kept
    assert out["hour"].to_list() == [0, 1, 1]


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["a", "b"])])
def test_categories_of_polars_are_strings(dtype):
    out = checked(with_column("user", ["a", "b", "a"], dtype))
    assert out["user"].to_list() == ["a", "b", "a"]
    assert out.schema["user"] == pl.String


def test_booleans_are_integer_categories():
    assert checked(with_column("user", [True, False, None]))["user"].to_list() == [1, 0, None]


def test_histories_that_are_all_empty_take_the_type_of_their_vocabulary():
    frame = shop_frame().with_columns(
        watched=pl.Series([[], [], []]), seconds=pl.Series([[], [], []])
    )
    out = checked(frame)
    assert out.schema["watched"] == pl.List(pl.Int64)
    assert out.schema["seconds"] == pl.List(pl.Float64)
    assert out["watched"].to_list() == [[], [], []]


def test_arrays_of_fixed_length_are_lists():
    frame = shop_frame(3).filter(pl.col("request_id") == "r0001")
    out = checked(frame.with_columns(pl.col("price").list.to_array(2)))
    assert out["price"].to_list() == frame["price"].to_list()


@pytest.mark.parametrize("keys", [["d1", "d2"], [7, 9]])
def test_item_keys_are_strings_or_integers_and_no_feature(keys):
    check = FrameCheck(Schema(features=()), ())
    frame = pl.DataFrame({"request_id": ["a"], "item_key": [keys]})
    assert check(frame)["item_key"].to_list() == [keys]
    with pytest.raises(DataError, match=r"null values: item_key \(1 of 2\)"):
        check(pl.DataFrame({"request_id": ["b"], "item_key": [[keys[0], None]]}))
