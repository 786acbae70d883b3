"""Long tables with nulls, repeated candidates, short requests and local days."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import CascadeRankError, ConfigError, DataError

NAN = float("nan")
ROWS = pl.DataFrame(
    {
        "request_id": ["a", "a", "a", "b", "b", "c"],
        "video": [1, 2, 3, 1, 4, 5],
        "level": ["seen", None, "recalled", "seen", "recalled", None],
        "position": [2.0, None, NAN, 1.0, None, None],
        "label": [1.0, NAN, 0.5, None, 0.0, None],
        "feedback": [True, None, False, True, None, None],
    }
)
OPTIONS = {"item_features": ("video",), "level_names": ("recalled", "seen")}
LENIENT = {"null_level": "lowest", "null_label": "zero", "null_feedback": "zero"}


@pytest.fixture
def read(tmp_path):
    def run(frame=ROWS, **options):
        frame.write_parquet(tmp_path / "rows.parquet")
        SOURCES["long"](tmp_path / "rows.parquet", tmp_path / "log", **OPTIONS | options,
                        overwrite=True)  # fmt: skip
        log = RequestLog.open(tmp_path / "log")
        return pl.concat(log.frames()), log.manifest.extra["notes"]

    return run


def test_nulls_are_refused_with_the_options_that_accept_them(read):
    expected = {
        "level": r"'level' \(level\) is null in 2 of 6 rows, first in request 'a'.*null_level=low",
        "label": r"'label' \(label\) is null in 3 of 6 rows, first in request 'a'.*null_label=zero",
        "feedback": r"\(feedback\) is null in 3 of 6 rows.*null_feedback=zero .*null_feedback=drop",
    }
    for name, message in expected.items():
        options = {k: v for k, v in LENIENT.items() if k != f"null_{name}"}
        with pytest.raises(DataError, match=message):
            read(**options)


def test_nulls_become_the_lowest_level_zero_or_an_unknown_position_and_are_counted(read):
    frame, notes = read(**LENIENT)
    assert frame["level"].to_list() == [[1, 0, 0], [1, 0], [0]]
    assert frame["label"].to_list() == [[1, 0, 0.5], [0, 0], [0]]
    assert frame["feedback"].to_list() == [[1, 0, 0], [1, 0], [0]]
    assert frame["position"].to_list() == [[2, 0, 0], [1, 0], [0]]
    assert {name: count for name, count in notes.items() if name.startswith("null_")} == {
        "null_levels_taken_as_lowest": 2,
        "null_labels_taken_as_0": 3,
        "null_feedbacks_taken_as_0": 3,
        "null_positions_taken_as_0": 4,
    }


def test_candidates_with_nulls_are_left_out_and_counted(read):
    frame, notes = read(**LENIENT | {"null_level": "drop", "null_label": "drop"})
    assert frame.select("request_id", "video").rows() == [("a", [1, 3]), ("b", [4])]
    assert notes["candidates_left_out_level_null"] == 2
    assert notes["candidates_left_out_label_null"] == 1
    assert notes["requests_left_out_without_candidates"] == 1


def test_a_column_that_is_null_in_every_row_follows_the_rules_too(read):
    nothing = ROWS.with_columns(level=None, position=None, label=None, feedback=None)
    frame, _ = read(nothing, **LENIENT)
    for name in ("level", "position", "label", "feedback"):
        assert frame[name].to_list() == [[0, 0, 0], [0, 0], [0]]


@pytest.mark.parametrize("levels", [[1, 0, 0, 1, 0, 0], [1.0, None, NAN, 1.0, 0.0, None]])
def test_levels_can_be_integers_or_whole_numbers(read, levels):
    frame, _ = read(ROWS.with_columns(level=pl.Series(levels)), **LENIENT)
    assert frame["level"].to_list() == [[1, 0, 0], [1, 0], [0]]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "level",
            [0, 1, 0, 2, 3, 0],
            r"expected 0 to 1 \(recalled, seen\), found 2 in request 'b'",
        ),
        ("level", [0.5] * 6, r"'level' \(level\): expected integers, found 0.5 in request 'a'"),
        ("level", [date(2026, 1, 1)] * 6, "expected integers or names, found Date"),
        ("level", ["seen"] * 5 + ["sen"], r"found 'sen' \(did you mean 'seen'.*in request 'c'"),
        ("position", [1.5] * 6, r"'position' \(position\): expected integers, found 1.5"),
        ("feedback", ["yes"] * 6, r"'feedback' \(feedback\): expected numbers, found String"),
    ],
)
def test_invalid_values_are_named_with_their_request(read, column, values, message):
    with pytest.raises(DataError, match=message):
        read(ROWS.with_columns(pl.Series(column, values)), **LENIENT)


def test_true_and_false_are_feedback_in_csv_too(read, tmp_path):
    (tmp_path / "rows.csv").write_text(
        "request_id,video,feedback\na,1,True\na,2,false\na,3,\nb,1,TRUE\n"
    )
    SOURCES["long"](tmp_path / "rows.csv", tmp_path / "log", item_features=("video",),
                    null_feedback="drop")  # fmt: skip
    frame = pl.concat(RequestLog.open(tmp_path / "log").frames())
    assert frame["feedback"].to_list() == [[1, 0], [1]]


def test_nulls_of_features_are_refused_together_with_the_option_that_accepts_them(read):
    frame = ROWS.with_columns(
        price=pl.Series([1.0, NAN, 2.0, 3.0, 4.0, 5.0]), shop=pl.Series([1, 2, 3, None, None, 4])
    )
    features = {"item_features": ("video", "price", "shop")}
    message = (
        r"price \(1 of 6\), shop \(2 of 6\); set missing=\[\"price\", \"shop\"\].*in request 'a'"
    )
    with pytest.raises(DataError, match=message):
        read(frame, **LENIENT, **features)
    out, _ = read(frame, **LENIENT, **features, missing=("price", "shop"))
    assert out["price"].to_list() == [[1, None, 2], [3, 4], [5]]
    assert out["shop"].to_list() == [[1, 2, 3], [None, None], [4]]
    kept = features | {"item_features": ("video", "shop")}
    out, _ = read(frame, **LENIENT | {"null_label": "drop"}, **kept, missing=("shop",))
    assert out["shop"].to_list() == [[1, 3], [None]]


def test_integers_that_pandas_wrote_as_floats_are_categories(read):
    frame = ROWS.with_columns(shop=pl.Series([1.0, NAN, 2.0, 1.0, None, 3.0]))
    options = {"item_features": ("video", "shop"), "categorical": ("shop",), "missing": ("shop",)}
    out, _ = read(frame, **LENIENT, **options)
    assert out["shop"].dtype == pl.List(pl.Int64)
    assert out["shop"].to_list() == [[1, None, 2], [1, None], [3]]


COPIES = pl.DataFrame(
    {
        "request_id": ["a", "a", "b", "a", "a"],
        "video": ["x", "y", "x", "x", "x"],
        "label": [0, 0, 0, 1, 1],
        "price": [1, 1, 1, 1, 1],
    }
)
KEYS = {"item_features": ("price",), "item_key": "video", "level_names": ()}


def test_repeated_candidates_are_refused_unless_an_option_says_which_to_use(read):
    message = r"2 of 5 rows repeat .* candidate 'x' of column 'video' \(item_key\) in request 'a'"
    with pytest.raises(DataError, match=message):
        read(COPIES, **KEYS)
    expected = {
        "keep": (["x", "y", "x", "x"], [0, 0, 1, 1], "repeated_candidates_kept"),
        "first": (["x", "y"], [0, 0], "repeated_candidates_left_out"),
        "last": (["y", "x"], [0, 1], "repeated_candidates_left_out"),
    }
    for rule, (keys, labels, note) in expected.items():
        frame, notes = read(COPIES, **KEYS, repeated=rule)
        assert frame["item_key"].to_list() == [keys, ["x"]]
        assert frame["label"].to_list() == [labels, [0]]
        assert notes[note] == 2


def test_rows_that_are_equal_in_all_columns_are_counted_without_item_keys(read):
    options = {"item_features": ("video", "price"), "level_names": ()}
    frame, notes = read(COPIES, **options)
    assert frame["video"].to_list() == [["x", "y", "x", "x"], ["x"]]
    assert notes["equal_rows_kept"] == 1
    frame, notes = read(COPIES, **options, repeated="first")
    assert frame["video"].to_list() == [["x", "y", "x"], ["x"]]
    assert notes["equal_rows_left_out"] == 1
    with pytest.raises(DataError, match=r"first the row equal in the columns label, video, price"):
        read(COPIES, **options, repeated="error")


def test_counts_cover_all_shares_of_the_rows(read):
    frame, notes = read(COPIES, **KEYS, repeated="first", rows_at_once=1)
    assert frame["item_key"].list.len().sum() == 3
    assert notes["repeated_candidates_left_out"] == 2


def test_item_keys_are_stored_and_may_also_be_a_feature(read):
    frame, notes = read(COPIES, **KEYS | {"item_features": ("*",)}, repeated="first")
    assert frame.columns == ["request_id", "video", "price", "label", "item_key"]
    assert frame["video"].to_list() == frame["item_key"].to_list()
    assert notes["columns_not_used"] == []
    named = COPIES.rename({"video": "item_key"})
    options = KEYS | {"item_features": ("*",), "item_key": ""}
    frame, _ = read(named, **options, repeated="first")
    assert frame.columns == ["request_id", "price", "label", "item_key"]


def test_item_keys_that_are_no_keys_are_refused(read):
    with pytest.raises(DataError, match=r"'video' \(item_key\) is null in 1 of 5 rows, .*'b'"):
        read(COPIES.with_columns(video=pl.Series(["x", "y", None, "z", "u"])), **KEYS)
    with pytest.raises(DataError, match=r"'price' \(item_key\): .*integers or strings, found Fl"):
        read(COPIES.cast({"price": pl.Float64}), **KEYS | {"item_key": "price"})
    with pytest.raises(ConfigError, match="'label' has two purposes"):
        read(COPIES, **KEYS | {"item_key": "label"})


def test_short_requests_are_left_out_and_counted(read):
    frame, notes = read(**LENIENT, min_candidates=2)
    assert frame["request_id"].to_list() == ["a", "b"]
    assert notes["requests_left_out_below_2_candidates"] == 1
    message = r"found none that is left \(.*3 requests left out below 4 candidates\); change min_"
    with pytest.raises(DataError, match=message):
        read(**LENIENT, min_candidates=4)
    with pytest.raises(ConfigError, match="min_candidates must be at least 1; got 0"):
        read(**LENIENT, min_candidates=0)


def test_categories_that_are_rare_are_declared_by_min_count(read, tmp_path):
    read(ROWS.with_columns(other=pl.col("video")), **LENIENT | {"item_features": ("video", "other")},
         vocabulary={"other": "video"}, min_count={"video": 3})  # fmt: skip
    schema = RequestLog.open(tmp_path / "log").schema
    assert [f.min_count for f in schema.features] == [3, 3]


def zoned(*times):
    return pl.DataFrame(
        {"request_id": range(len(times)), "video": range(len(times)), "when": times}
    )


LOCAL = {"timestamp": "when", "time_zone": "Asia/Shanghai", "level_names": ()}


def test_days_are_those_of_the_time_zone(read, tmp_path):
    moments = [datetime(2026, 1, 1, 15, 59, tzinfo=UTC), datetime(2026, 1, 1, 16, tzinfo=UTC)]
    frame, notes = read(zoned(*moments), **LOCAL)
    assert frame["timestamp"].to_list() == moments
    parts = RequestLog.open(tmp_path / "log").manifest.parts
    assert [part.day for part in parts] == [date(2026, 1, 1), date(2026, 1, 2)]
    assert notes["time_zone"] == "Asia/Shanghai"


MIDNIGHT = datetime(2026, 1, 2, tzinfo=UTC).replace(tzinfo=None)


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (MIDNIGHT, ""),
        (date(2026, 1, 2), ""),
        ("2026-01-02T00:00", ""),
        ("2026-01-02", ""),
        (20260102, "yyyymmdd"),
        ("20260102", "yyyymmdd"),
        ("2026-01-01T16:00:00Z", ""),
    ],
)
def test_times_without_a_zone_are_in_the_time_zone(read, tmp_path, value, unit):
    frame, _ = read(zoned(value), **LOCAL, timestamp_unit=unit)
    assert frame["timestamp"].to_list() == [datetime(2026, 1, 1, 16, tzinfo=UTC)]
    assert RequestLog.open(tmp_path / "log").manifest.parts[0].day == date(2026, 1, 2)


def test_days_of_a_log_that_are_no_days_and_times_that_no_clock_shows_are_refused(read):
    with pytest.raises(DataError, match="expected days such as 20260101, found '20261301'"):
        read(zoned(20261301), **LOCAL, timestamp_unit="yyyymmdd")
    berlin = LOCAL | {"time_zone": "Europe/Berlin"}
    with pytest.raises(DataError, match="2026-03-29 02:30:00 and 0 more times do not exist in Eur"):
        read(zoned("2026-03-29 02:30"), **berlin)
    frame, _ = read(zoned("2026-10-25 02:30"), **berlin)
    assert frame["timestamp"].to_list() == [datetime(2026, 10, 25, 0, 30, tzinfo=UTC)]
    with pytest.raises(CascadeRankError, match=r"time_zone: .*did you mean 'Asia/Shanghai'"):
        read(zoned(date(2026, 1, 1)), **LOCAL | {"time_zone": "Asia/Shanghi"})


def test_times_that_differ_within_a_request_are_refused_with_the_right_remedy(read):
    frame = zoned(1, 2).with_columns(request_id=1)
    with pytest.raises(DataError, match=r"found 1 and 2 in request 1.*set several_times=earliest"):
        read(frame, **LOCAL, timestamp_unit="s")


@pytest.mark.parametrize(
    ("late", "early", "unit"),
    [
        (1_767_225_600, 1_767_225_599, "s"),
        ("2026-01-01T00:00:00Z", "2026-01-01T00:59:59+01:00", ""),
        ("2026-01-01T02:00:00+01:00", "2025-12-31T23:59:59", ""),
    ],
)
def test_a_request_with_several_times_is_at_the_earliest_on_request(read, late, early, unit):
    frame = zoned(late, early, late).with_columns(request_id=pl.Series([1, 1, 2]))
    options = LOCAL | {"time_zone": "UTC", "timestamp_unit": unit, "several_times": "earliest"}
    out, notes = read(frame, **options)
    assert out["timestamp"][0] == datetime(2025, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert out["timestamp"][0] < out["timestamp"][1]
    assert out["video"].to_list() == [[0, 1], [2]]
    assert notes["requests_with_several_times_at_the_earliest"] == 1


def test_weights_of_candidates_and_requests_have_a_rule_for_nulls(read):
    rows = ROWS.with_columns(
        w=pl.Series([0.5, None, NAN, 2.0, 1.0, 0.0]), of_request=pl.Series([2.0] * 3 + [None] * 3)
    )
    options = LENIENT | {"candidate_weight": "w", "request_weight": "of_request"}
    with pytest.raises(DataError, match=r"'w' \(candidate_weight\): .* null in 2 of 6 candidates, "
                       r"first in request 'a'; write 1 .*null_weight=one or null_weight=zero"):  # fmt: skip
        read(rows, **options)
    with pytest.raises(DataError, match=r"'of_request' \(request_weight\): .* null in 2 of 3 req.*"
                       r"first in request 'b'; .*, or set null_weight=one"):  # fmt: skip
        read(rows.with_columns(w=pl.lit(1)), **options)
    for rule, value in {"one": 1, "zero": 0}.items():
        frame, notes = read(rows, **options, null_weight=rule)
        assert frame["candidate_weight"].to_list() == [[0.5, value, value], [2, 1], [0]]
        assert frame["request_weight"].to_list() == [2, value, value]
        assert notes[f"null_candidate_weights_taken_as_{value}"] == 2
        assert notes[f"null_request_weights_taken_as_{value}"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidate_weight": "w"}, r"'w' \(candidate_weight\): .*found -0.5 in 1 of 6 candidates"),
        ({"request_weight": "w"}, "'w': expected one value per request, .*; correct the rows, or "
         "set candidate_weight to the column if it has weights of candidates"),
        ({"request_weight": "v", "candidate_weight": "v"}, "column 'v' has two purposes"),
    ],
)  # fmt: skip
def test_weights_that_are_none_are_refused_with_a_remedy(read, options, message):
    rows = ROWS.with_columns(w=pl.Series([0.5, 1.0, 1.0, 1.0, 1.0, -0.5]), v=pl.lit(1.0))
    with pytest.raises((DataError, ConfigError), match=message):
        read(rows, **LENIENT | options)


def test_weights_are_true_and_false_too(read, tmp_path):
    rows = ROWS.with_columns(w=pl.Series([True, False, True, True, True, False]))
    expected = [[1, 0, 1], [1, 1], [0]]
    assert read(rows, **LENIENT, candidate_weight="w")[0]["candidate_weight"].to_list() == expected
    rows.select("request_id", "video", "w").write_csv(tmp_path / "rows.csv")
    SOURCES["long"](tmp_path / "rows.csv", tmp_path / "log", item_features=("video",),
                    candidate_weight="w", overwrite=True)  # fmt: skip
    frame = pl.concat(RequestLog.open(tmp_path / "log").frames())
    assert frame["candidate_weight"].to_list() == expected
