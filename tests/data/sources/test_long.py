"""Long tables: rows gathered into requests, kinds inferred and told, mistakes by file and line."""

import gzip
from datetime import UTC, datetime

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Kind, Role, Schema

ROWS = pl.DataFrame(
    {
        "session": ["b", "a", "b", "a", "b"],
        "time": [1_700_000_000_000] * 3 + [1_700_000_000_000] * 2,
        "age": [30, 41, 30, 41, 30],
        "video": [7, 8, 9, 7, 5],
        "price": [0.5, 1.5, 2.5, 3.5, 4.5],
        "stage": ["seen", "recalled", "recalled", "clicked", "seen"],
        "rank": [2, 1, 0, 1, 1],
        "click": [0, 0, 0, 1, 0],
        "unused": [1, 2, 3, 4, 5],
    }
)
OPTIONS = {
    "request_id": "session",
    "timestamp": "time",
    "timestamp_unit": "ms",
    "level": "stage",
    "level_names": ("recalled", "seen", "clicked"),
    "position": "rank",
    "label": "click",
    "request_features": ("age",),
    "item_features": ("video", "price"),
}
PLAIN = {"request_id": "session", "item_features": ("video", "price")}


def read(tmp_path, *paths, **options):
    SOURCES["long"](paths, tmp_path / "log", **options)
    return pl.concat(RequestLog.open(tmp_path / "log").frames())


def log(tmp_path):
    return RequestLog.open(tmp_path / "log")


@pytest.fixture
def parquet(tmp_path):
    def write(frame=ROWS, name="rows.parquet"):
        frame.write_parquet(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def csv(tmp_path):
    def write(text=None, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes((ROWS.write_csv() if text is None else text).encode())
        return path

    return write


def test_rows_of_a_request_are_gathered_in_the_order_of_the_file(parquet, tmp_path):
    frame = read(tmp_path, parquet(), **OPTIONS)
    assert frame["request_id"].to_list() == ["b", "a"]
    first = frame.row(0, named=True)
    assert first == {
        "request_id": "b",
        "timestamp": datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC),
        "age": 30,
        "video": [7, 9, 5],
        "price": [0.5, 2.5, 4.5],
        "level": [1, 0, 1],
        "position": [2, 0, 1],
        "label": [0.0, 0.0, 0.0],
    }
    assert frame["level"][1].to_list() == [0, 2]
    assert log(tmp_path).manifest.level_names == ("recalled", "seen", "clicked")


def test_csv_gives_the_same_log_as_parquet(parquet, csv, tmp_path):
    frame = read(tmp_path, parquet(), **OPTIONS)
    assert read(tmp_path, csv(), **OPTIONS, overwrite=True).equals(frame)
    packed = tmp_path / "rows.csv.gz"
    packed.write_bytes(gzip.compress(ROWS.write_csv().encode()))
    assert read(tmp_path, packed, **OPTIONS, overwrite=True).equals(frame)
    tabs = csv(ROWS.write_csv(separator="\t"), "rows.tsv")
    assert read(tmp_path, tabs, **OPTIONS, separator="\t", overwrite=True).equals(frame)


def test_rows_scattered_over_files_are_gathered(parquet, tmp_path):
    whole = read(tmp_path, parquet(), **OPTIONS)
    halves = parquet(ROWS[:2], "a.parquet"), parquet(ROWS[2:], "b.parquet")
    assert read(tmp_path, *halves, **OPTIONS, overwrite=True).equals(whole)


@pytest.mark.parametrize("rows_at_once", [1, 2, 3, 5, 100])
def test_gathering_in_shares_gives_the_same_requests(parquet, tmp_path, rows_at_once):
    whole = read(tmp_path, parquet(), **OPTIONS).sort("request_id")
    calls = []
    parts = read(
        tmp_path,
        tmp_path / "rows.parquet",
        **OPTIONS,
        rows_at_once=rows_at_once,
        overwrite=True,
        progress=lambda *told: calls.append(told),
    )
    assert parts.sort("request_id").equals(whole)
    assert calls[-1] == (5, 5)


def test_kinds_are_inferred_from_types_and_told(csv, tmp_path):
    read(tmp_path, csv(), **PLAIN | {"item_features": ("video", "price", "stage", "rank")})
    schema = log(tmp_path).schema
    kinds = {f.name: f.kind for f in schema.features}
    assert kinds == {
        "video": Kind.CATEGORICAL,
        "price": Kind.NUMERIC,
        "stage": Kind.CATEGORICAL,
        "rank": Kind.CATEGORICAL,
    }
    notes = log(tmp_path).manifest.extra["notes"]
    assert notes["taken_as_categorical"] == ["video", "stage", "rank"]
    assert notes["taken_as_numeric"] == ["price"]
    assert notes["columns_not_used"] == ["time", "age", "click", "unused"]


def test_kinds_that_are_declared_are_taken_and_not_told(parquet, tmp_path):
    read(tmp_path, parquet(), **PLAIN, numeric=("vid*", "price"))
    assert {f.kind for f in log(tmp_path).schema.features} == {Kind.NUMERIC}
    assert "taken_as_numeric" not in log(tmp_path).manifest.extra["notes"]


def test_columns_named_like_those_of_a_log_are_taken_unasked(parquet, tmp_path):
    frame = ROWS.rename({"session": "request_id", "click": "label", "unused": "feedback"})
    out = read(tmp_path, parquet(frame), item_features=("video",))
    assert out.columns == ["request_id", "video", "label", "feedback"]


def test_patterns_choose_features_but_not_what_is_something_else(parquet, tmp_path):
    out = read(tmp_path, parquet(), **OPTIONS | {"item_features": ("*e*",), "request_features": ()})
    # "time" and "stage" match, but are the timestamp and the level.
    assert log(tmp_path).schema.names == ("age", "video", "price", "unused")
    assert "label" in out.columns


def test_buckets_vocabularies_and_missing_values_reach_the_schema(parquet, tmp_path):
    frame = ROWS.with_columns(
        seen=pl.Series([[1, 2], None, [1, 2], None, [1, 2]]),
        price=pl.Series([0.5, float("nan"), None, 3.5, 4.5]),
    )
    out = read(
        tmp_path,
        parquet(frame),
        **PLAIN,
        history_features=("seen",),
        vocabulary={"seen": "video"},
        buckets={"video": 100},
        missing=("price",),
    )
    schema = log(tmp_path).schema
    assert (schema["seen"].role, schema["seen"].vocabulary) == (Role.HISTORY, "video")
    assert (schema["seen"].buckets, schema["video"].buckets) == (100, 100)
    assert out["price"].to_list() == [[0.5, None, 4.5], [None, 3.5]]
    assert out["seen"].to_list() == [[1, 2], []]


def test_a_schema_file_says_it_all(parquet, tmp_path):
    features = (
        {"name": "price", "role": "item", "kind": "numeric", "transform": "log1p"},
        {"name": "video", "role": "item", "kind": "categorical", "min_count": 2},
    )
    (tmp_path / "schema.json").write_text(Schema(features=features).model_dump_json())
    read(tmp_path, parquet(), request_id="session", schema=tmp_path / "schema.json")
    assert log(tmp_path).schema == Schema(features=features)


def test_quotes_line_ends_empty_fields_and_blank_lines_of_csv(csv, tmp_path):
    text = '\ufeffsession,"video"\r\n1,"a ""b"", c"\r\n\r\n2,\r\n1,"x\ny"\r\n"2",""\r\n'
    out = read(
        tmp_path, csv(text), request_id="session", item_features=("video",), missing=("video",)
    )
    assert out["request_id"].to_list() == [1, 2]
    assert out["video"].to_list() == [['a "b", c', "x\ny"], [None, None]]


def test_text_that_is_not_how_an_integer_is_written_stays_text(csv, tmp_path):
    out = read(
        tmp_path,
        csv("session,video\n007,1\n07,2\n"),
        request_id="session",
        item_features=("video",),
    )
    assert out["request_id"].to_list() == ["007", "07"]


def test_a_type_is_inferred_from_all_lines_not_the_first_ones(csv, tmp_path):
    lines = "".join(f"{i},{i}\n" for i in range(20_000))
    out = read(
        tmp_path,
        csv("session,video\n" + lines + "x,last\n"),
        request_id="session",
        item_features=("video",),
    )
    assert out["video"][0].to_list() == ["0"]
    assert out["video"][-1].to_list() == ["last"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("session,video\n1,2\n1,3,4\n", "line 3: expected 2 fields as in the header, found 3"),
        ("session,video\n1,2\n\n1\n", "line 4: expected 2 fields as in the header, found 1"),
        ("session,video\n1,2\n,\n", "line 3: expected 2 fields .*found only empty fields"),
        ('session,video\n1,2\n1,"3\n', "line 3: invalid CSV: unexpected end of data"),
        ('session,video\n1,"2"x\n', "line 2: invalid CSV"),
        ("session,session\n1,2\n", "line 1: expected a header of unique names"),
        ("session,\n1,2\n", "line 1: expected a header of unique names"),
        ("session,video\n", "expected candidates, found no rows"),
        ("", "found an empty file"),
        ("session,video\n1,2\n,3\n", r"is empty in 1 of 2 rows, first in .*rows.csv, line 3"),
    ],
)
def test_broken_csv_is_refused_by_file_and_line(csv, tmp_path, text, told):
    with pytest.raises(DataError, match=told) as error:
        read(tmp_path, csv(text), request_id="session", item_features=("video",))
    assert "rows.csv" in str(error.value)
    assert not (tmp_path / "log").exists()


def test_csv_that_is_not_utf8_is_refused_by_line(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("session,video\n1,a\n2,\xe9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin.csv, line 3: expected UTF-8"):
        read(tmp_path, path, request_id="session", item_features=("video",))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"numeric": ("video",)}, r"numeric feature 'video': .*line 3: 'x'"),
        ({"label": "video"}, r"column 'video' \(label\): expected numbers.*line 3: 'x'"),
        ({"position": "video"}, r"column 'video' \(position\): expected numbers.*line 3: 'x'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_by_line(csv, tmp_path, change, told):
    path = csv("session,video,price\n1,2,3\n1,x,4\n")
    item = ("price",) if "numeric" not in change else ("video", "price")
    with pytest.raises(DataError, match=told):
        read(tmp_path, path, request_id="session", item_features=item, **change)


def test_a_request_feature_that_changes_within_a_request_is_refused(parquet, tmp_path):
    with pytest.raises(DataError, match=r"'price': expected one value per request") as error:
        read(tmp_path, parquet(), request_id="session", request_features=("price",),
             item_features=("video",))  # fmt: skip
    assert "found 0.5 and 2.5 in request 'b', and 1 more such requests" in str(error.value)


def test_a_time_and_a_history_that_change_within_a_request_are_refused(parquet, tmp_path):
    times = ROWS.with_columns(time=pl.Series([1, 2, 3, 2, 1]))
    with pytest.raises(DataError, match=r"'time': expected one value per request, found 1 and 3"):
        read(tmp_path, parquet(times), **OPTIONS)
    histories = ROWS.with_columns(seen=pl.Series([[1], [1], [1], [1, 2], [1]]))
    with pytest.raises(DataError, match=r"'seen': expected one value per request.*request 'a'"):
        read(tmp_path, parquet(histories), **PLAIN, history_features=("seen",))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"request_id": "sesion"}, r"expected a column 'sesion'.*did you mean 'session'"),
        ({"label": "clic"}, r"expected a column 'clic' \(label\) \(did you mean 'click'"),
        ({"item_features": ("vidoe",)}, r"item_features: no column matches 'vidoe' \(did you mean"),
        ({"item_features": ("click",)}, r"column 'click' is the label, so it cannot be a feature"),
        ({"item_features": ("age",)}, r"'age' is in both request_features and item_features"),
        ({"feedback": "click"}, r"column 'click' has two purposes"),
        ({"item_features": (), "request_features": ()}, r"set item_features=.*video, price"),
        ({"categorical": ("price",)}, r"categorical feature 'price': expected integers or str"),
        ({"categorical": ("video",), "numeric": ("v*",)}, r"'video' is in both categorical and"),
        ({"numeric": ("colour",)}, r"numeric: no column matches 'colour'"),
        ({"missing": ("pricee",)}, r"missing: no column matches 'pricee' \(did you mean 'price'"),
        ({"buckets": {"price": 9}}, r"buckets: no categorical feature 'price'"),
        ({"buckets": {"video": 0}}, r"buckets: Input should be greater than or equal to 1"),
        ({"vocabulary": {"vide": "v"}}, r"vocabulary: no categorical feature 'vide'"),
        ({"history_features": ("unused",)}, r"history feature 'unused': expected lists"),
        ({"timestamp_unit": ""}, r"'time' holds numbers.*expected timestamp_unit 's' or 'ms'"),
        (
            {"timestamp_unit": "s"},
            r"found 1700000000000 s and 1 more outside; set timestamp_unit=ms, with which all",
        ),
        ({"level_names": ()}, r"levels clicked, recalled, seen, found none; set level_names="),
        ({"level_names": ("recall", "seen", "clicked")}, r"found 'recalled' \(did you mean 'recal"),
        ({"rows_at_once": 0}, "rows_at_once must be at least 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(parquet, tmp_path, change, told):
    with pytest.raises((ConfigError, DataError), match=told):
        read(tmp_path, parquet(), **OPTIONS | change)
    assert not (tmp_path / "log").exists()


def test_a_schema_file_that_is_none_or_comes_with_options_is_refused(parquet, tmp_path):
    path = tmp_path / "schema.json"
    path.write_text('{"features": [{"name": "video", "role": "items", "kind": "numeric"}]}')
    with pytest.raises(DataError, match=r"schema.json: not a schema: features.0.role"):
        read(tmp_path, parquet(), request_id="session", schema=path)
    with pytest.raises(DataError, match=r"absent.json: cannot be read"):
        read(tmp_path, parquet(), request_id="session", schema=tmp_path / "absent.json")
    with pytest.raises(ConfigError, match="schema=FILE or the options of features, found both"):
        read(tmp_path, parquet(), **PLAIN, schema=path)
    path.write_text('{"features": [{"name": "vidoe", "role": "item", "kind": "categorical"}]}')
    with pytest.raises(DataError, match=r"column 'vidoe' \(item feature\) \(did you mean 'video'"):
        read(tmp_path, parquet(), request_id="session", schema=path)


def test_a_schema_file_that_makes_a_feature_of_the_label_is_refused(parquet, tmp_path):
    path = tmp_path / "schema.json"
    path.write_text('{"features": [{"name": "click", "role": "item", "kind": "categorical"}]}')
    with pytest.raises(ConfigError, match="column 'click' is the label, so it cannot be a feature"):
        read(tmp_path, parquet(), request_id="session", label="click", schema=path)


def test_lists_where_values_belong_and_lists_in_csv_are_refused(parquet, csv, tmp_path):
    frame = ROWS.with_columns(
        seen=pl.Series([[1]] * 5), when=pl.lit(datetime(2024, 1, 1, tzinfo=UTC))
    )
    path = parquet(frame)
    one = {"features": [{"name": "seen", "role": "item", "kind": "categorical"}]}
    with pytest.raises(DataError, match=r"'seen': expected one value per row, .*multiple=true"):
        read(tmp_path, path, request_id="session", schema=one)
    with pytest.raises(DataError, match=r"'seen' \(label\): expected one value per row"):
        read(tmp_path, path, **PLAIN, label="seen")
    with pytest.raises(
        ConfigError, match="expected integers, numbers, strings or booleans, found Datetime"
    ):
        read(tmp_path, path, request_id="session", item_features=("when",))
    with pytest.raises(DataError, match="use Parquet, CSV has no lists"):
        read(tmp_path, csv(), **PLAIN, history_features=("age",))


def test_columns_of_lists_are_features_with_several_values(parquet, tmp_path):
    path = parquet(
        ROWS.with_columns(
            genres=pl.Series([["x", "y"], ["z"], [], None, ["x"]]),
            vector=pl.Series([[float(i), 1.0] for i in range(5)]),
            tags=pl.Series([[1], [2, 3], [1], [2, 3], [1]]),
        )
    )
    features = {"item_features": ("genres", "vector"), "request_features": ("tags",)}
    frame = read(tmp_path, path, request_id="session", **features)
    rows = {row["request_id"]: row for row in frame.to_dicts()}
    assert rows["b"]["genres"] == [["x", "y"], [], ["x"]]
    assert rows["a"]["genres"] == [["z"], []]
    assert rows["a"]["vector"] == [[1.0, 1.0], [3.0, 1.0]]
    assert (rows["a"]["tags"], rows["b"]["tags"]) == ([2, 3], [1])
    of = {f.name: (f.multiple, f.width) for f in log(tmp_path).schema.features}
    assert of == {"genres": (True, None), "vector": (False, 2), "tags": (True, None)}


def test_vectors_of_different_lengths_are_refused(parquet, tmp_path):
    path = parquet(ROWS.with_columns(vector=pl.Series([[1.0], [2.0, 3.0], [1.0], [1.0], [1.0]])))
    with pytest.raises(DataError, match=r"'vector': expected vectors of one length, found lists of "
                       r"1, 2 numbers; write equal lengths"):  # fmt: skip
        read(tmp_path, path, request_id="session", item_features=("vector",))


def test_weights_of_requests_are_kept_and_constant_within_a_request(parquet, tmp_path):
    path = parquet(ROWS.with_columns(w=pl.Series([2.0, 0.5, 2.0, 0.5, 2.0])))
    frame = read(tmp_path, path, **PLAIN, request_weight="w")
    assert dict(frame.select("request_id", "request_weight").rows()) == {"b": 2.0, "a": 0.5}
    with pytest.raises(DataError, match="'price': expected one value per request"):
        read(tmp_path, path, request_id="session", item_features=("video",), overwrite=True,
             request_weight="price")  # fmt: skip


def test_files_that_do_not_go_together_are_refused(parquet, csv, tmp_path):
    first = parquet()
    with pytest.raises(DataError, match=r"rows.csv: expected Parquet"):
        read(tmp_path, first, csv(), **PLAIN)
    with pytest.raises(DataError, match=r"b.parquet: expected the columns .*without video.*with v"):
        read(tmp_path, first, parquet(ROWS.rename({"video": "v"}), "b.parquet"), **PLAIN)
    text = ROWS.with_columns(pl.col("video").cast(pl.String))
    with pytest.raises(DataError, match=r"c.parquet: expected column 'video' to hold Int64"):
        read(tmp_path, first, parquet(text, "c.parquet"), **PLAIN)
    narrow = ROWS.with_columns(pl.col("video").cast(pl.Int16))
    read(tmp_path, first, parquet(narrow, "d.parquet"), **PLAIN)
    assert log(tmp_path).manifest.candidates == 10


def test_a_truncated_parquet_file_is_refused_by_name(parquet, tmp_path):
    path = parquet()
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"rows.parquet: damaged Parquet file"):
        read(tmp_path, path, **PLAIN)


def test_a_value_that_is_null_without_leave_is_refused(parquet, tmp_path):
    frame = ROWS.with_columns(price=pl.Series([0.5, None, 2.5, 3.5, 4.5]))
    with pytest.raises(DataError, match=r"null values: price \(1 of 5\); set missing"):
        read(tmp_path, parquet(frame), **PLAIN)
    infinite = ROWS.with_columns(price=pl.Series([0.5, float("inf"), 2.5, 3.5, 4.5]))
    with pytest.raises(DataError, match=r"NaN or infinite numbers: price \(1 of 5\)"):
        read(tmp_path, parquet(infinite), **PLAIN, missing=("price",))


def test_the_separator_is_one_character(csv, tmp_path):
    with pytest.raises(DataError, match="separator must be one character"):
        read(tmp_path, csv(), **PLAIN, separator="")


def test_a_file_that_is_parquet_by_name_alone_is_damaged(tmp_path):
    (tmp_path / "rows.parquet").write_text("session,video,price\n1,2,3\n")
    with pytest.raises(DataError, match=r"rows.parquet: damaged Parquet file .* begin with PAR1"):
        read(tmp_path, tmp_path / "rows.parquet", **PLAIN)


def test_only_numbers_of_candidates_are_standardised_by_request(parquet, tmp_path):
    frame = ROWS.with_columns(pl.Series("place", [[0.5, 1.5]] * 5))
    options = {**OPTIONS, "item_features": ("video", "price", "place")}
    read(tmp_path, parquet(frame), **options, transform="standardise_by_request")
    found = {f.name: (f.transform.value, f.by_request) for f in log(tmp_path).schema.features}
    assert found["price"] == ("standardise_by_request", True)
    assert {found[name] for name in ("age", "video", "place")} == {("standardise", False)}
