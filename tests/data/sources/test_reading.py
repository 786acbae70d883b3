"""What is in a file is what is in the log: names, encodings, ids, numbers, times, and purposes."""

import gzip
import json
from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.cli.prepare import source_options
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES, propose
from cascaderank.data.sources._short_video.official_tables import first_two
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Feature, Kind, Schema
from cascaderank.settings.files import read_as
from cascaderank.settings.run import RunSettings
from cascaderank.text_files import other_encoding
from tests.data.sources.short_videos import write_rand, write_rec

HEADER = "request_id,item,label\n"
ROWS = HEADER + "1,5,1\n1,6,0\n"
BOM = b"\xef\xbb\xbf"
QRELS = "q1 0 d1 1\nq2 0 d2 1\n"
RUN = "q1 Q0 d1 1 3.0 bm25\nq2 Q0 d2 1 2.0 bm25\n"
LETOR = "2 qid:1 1:0.5 # docid = a\n0 qid:1 1:0.25 # docid = b\n"


@pytest.fixture
def file(tmp_path):
    def write(content, name="rows.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pl.DataFrame):
            content.write_parquet(path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(tmp_path, *paths, source="long", **options):
    if source == "long":
        options.setdefault("item_features", ("item",))
    SOURCES[source](paths, tmp_path / "log", overwrite=True, **options)
    return pl.concat(RequestLog.open(tmp_path / "log").frames())


def values(tmp_path, *paths, column="item", **options):
    return read(tmp_path, *paths, **options)[column].explode().to_list()


def manifest(tmp_path):
    return RequestLog.open(tmp_path / "log").manifest


# Names and patterns


def test_a_path_that_exists_is_never_a_glob(file, tmp_path):
    own = file(HEADER + "1,11,1\n1,12,0\n", "rows[1].csv")
    file(HEADER + "9,91,1\n9,92,0\n", "rows1.csv")
    assert values(tmp_path, own) == [11, 12]
    file(ROWS, "a[1]/x1.csv")
    file(HEADER + "9,91,1\n", "a1/x1.csv")
    assert values(tmp_path, tmp_path / "a[1]" / "x*.csv") == [5, 6]
    folder = file(ROWS, "a[1]*^ %20/user=007/x.csv").parent.parent
    file(HEADER + "2,7,1\n", "a[1]*^ %20/user=7/x.csv")
    frame = read(tmp_path, folder, request_features=("user",))
    assert frame["user"].to_list() == ["007", "7"]  # two values, not the number 7 twice


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (("tag[0]",), ["tag[0]"]),
        (("price[usd]",), ["price[usd]"]),
        (("tag*",), ["tag[0]", "tag0"]),
        (("*", "!tag[0]"), ["tag0", "price[usd]", "!x"]),
        (("*", "!!x"), ["tag[0]", "tag0", "price[usd]"]),
        (("!x",), ["!x"]),
        (("tag[0-9]",), ["tag0"]),
    ],
)
def test_the_name_of_a_column_is_never_a_pattern(file, tmp_path, asked, found):
    names = ["tag[0]", "tag0", "price[usd]", "!x"]
    frame = pl.DataFrame({"request_id": [1, 1]} | {n: [i, i + 1] for i, n in enumerate(names)})
    read(tmp_path, file(frame, "a.parquet"), item_features=asked)
    assert [*manifest(tmp_path).schema_.names] == found
    schema = Schema(features=tuple(Feature(name=n, role="item", kind="numeric") for n in names))
    assert [f.name for f in schema.select(asked)] == found


@given(st.lists(st.text("ab[]!*?-0", min_size=1, max_size=5), min_size=1, max_size=6, unique=True))
@settings(max_examples=40)
def test_each_feature_is_selected_by_its_name(names):
    schema = Schema(
        features=tuple(Feature(name=n, role="item", kind="numeric") for n in names if n != "*")
    )
    for name in schema.names:
        assert [f.name for f in schema.select([name])] == [name]


@pytest.mark.parametrize("name", ["*", "^it.*$"])
def test_names_that_are_patterns_of_polars_are_refused_if_they_are_used(file, tmp_path, name):
    path = file(pl.DataFrame({"request_id": [1, 1], "item": [5, 6], name: [1, 2]}), "a.parquet")
    assert values(tmp_path, path) == [5, 6]
    with pytest.raises(ConfigError, match="stands for several columns in Polars; rename"):
        read(tmp_path, path, item_features=("item", name))
    with pytest.raises(DataError, match="stands for several columns in Polars; rename"):
        read(tmp_path, path, label=name)


# Encodings and line ends


def in_utf16(text):
    return [text.encode("utf-16"), text.encode("utf-16-be"), text.encode("utf-16-le")]


def test_a_byte_order_mark_is_no_part_of_the_first_line(file, tmp_path):
    assert values(tmp_path, file(BOM + ROWS.encode())) == [5, 6]
    packed = file(gzip.compress(BOM + ROWS.encode()), "rows.csv.gz")
    assert values(tmp_path, packed) == [5, 6]
    runs = [file(BOM + RUN.encode(), "a.run"), file(BOM + QRELS.encode(), "qrels")]
    assert read(tmp_path, *runs, source="trec")["label"].to_list() == [[1.0], [1.0]]
    plain = file(BOM + b"2 1:0.5\n0 1:3\n", "rank.txt")
    file(BOM + b"2\r\n", "rank.txt.group")
    assert read(tmp_path, plain, source="letor")["f1"].to_list() == [[0.5, 3.0]]
    assert read(tmp_path, file(BOM + LETOR.encode(), "l.txt"), source="letor").height == 1


def test_a_byte_order_mark_is_no_part_of_settings(file, tmp_path):
    options = file(BOM + b'label = "label"\r\n', "options.toml")
    assert source_options("long", [], options) == {"label": "label"}
    toml = (
        '[data]\npath = "x"\n[[cascade.stages]]\nname = "a"\nmodel = {name = "linear"}\nquota = 5\n'
    )
    with pytest.raises(ConfigError) as error:  # of its values, and not of TOML
        read_as(RunSettings, file(BOM + toml.encode(), "config.toml"))
    assert "not a TOML file" not in str(error.value)
    features = {"features": [{"name": "item", "role": "item", "kind": "categorical"}]}
    schema = file(BOM + json.dumps(features).encode(), "schema.json")
    assert values(tmp_path, file(ROWS), item_features=(), schema=schema) == [5, 6]


@pytest.mark.parametrize("i", range(3))
def test_utf16_is_named_as_the_cause(file, tmp_path, i):
    told = "expected UTF-8 text, found UTF-16; convert the file"
    with pytest.raises(DataError, match=f"rows.csv: {told}"):
        read(tmp_path, file(in_utf16(ROWS)[i]))
    with pytest.raises(DataError, match=f"rows.csv.gz: {told}"):
        read(tmp_path, file(gzip.compress(in_utf16(ROWS)[i]), "rows.csv.gz"))
    with pytest.raises(DataError, match=f"l.txt: {told}"):
        read(tmp_path, file(in_utf16(LETOR)[i], "l.txt"), source="letor")
    file(RUN, "trec/a.run")
    folder = file(in_utf16(QRELS)[i], "trec/judged").parent
    with pytest.raises(DataError, match=f"judged: {told}"):  # and is not left out
        read(tmp_path, folder, source="trec")
    with pytest.raises(ConfigError, match=told):
        source_options("long", [], file(in_utf16('label = "x"')[i], "options.toml"))
    with pytest.raises(ConfigError, match=told):
        read_as(RunSettings, file(in_utf16("[data]\n")[i], "config.toml"))
    with pytest.raises(DataError, match=told):
        read(tmp_path, file(ROWS), schema=file(in_utf16("{}")[i], "schema.json"), item_features=())


@given(st.binary(max_size=80), st.text(max_size=40))
@settings(max_examples=40)
def test_text_in_utf8_has_no_other_encoding(content, text):
    other_encoding(content)
    text = f"a{text}".replace("\0", "")
    assert not other_encoding(text.encode())
    assert other_encoding(text.encode("utf-16")) == "UTF-16"


@pytest.mark.parametrize(
    "text",
    [
        ROWS.replace("\n", "\r\r\n"),
        ROWS.replace("\n", "\r"),
        ROWS + "1,7,0\r",
        HEADER + '1,"5",1\r\r\n',
        HEADER + '1,5" x,1\r\r\n',
        ROWS + "\r\r\n",
    ],
)
def test_values_of_csv_never_gain_a_carriage_return(file, tmp_path, text):
    with pytest.raises(DataError, match=r"line \d: expected lines that end with .* another carria"):
        read(tmp_path, file(text))


def test_carriage_returns_of_other_files_are_line_ends_or_refused(file, tmp_path):
    frame = read(tmp_path, file(LETOR.replace("\n", "\r\r\n"), "l.txt"), source="letor")
    assert frame["item_key"].to_list() == [["a", "b"]]
    told = "line 1: expected lines .* found a carriage return inside the line"
    with pytest.raises(DataError, match=told):  # the second candidate is not in the comment
        read(tmp_path, file(LETOR.replace("\n", "\r"), "l.txt"), source="letor")
    file(QRELS, "trec/qrels")
    folder = file(RUN.replace("\n", "\r\r\n"), "trec/any").parent
    assert read(tmp_path, folder, source="trec").height == 2
    file(RUN.replace("\n", "\r"), "trec/any")
    with pytest.raises(DataError, match=told):
        read(tmp_path, folder, source="trec")


# Quotes and separators


def test_a_quote_inside_a_field_is_a_character(file, tmp_path):
    text = HEADER + '1,5" phone,1\n1,6" phone,0\n1,"",1\n'
    with pytest.raises(DataError, match=r'line 2: invalid CSV: a quote inside .* \(line 4\); .*""'):
        read(tmp_path, file(text))
    assert values(tmp_path, file(text.replace('1,"",1\n', ""))) == ['5" phone', '6" phone']
    assert values(tmp_path, file(HEADER + '1,"5"" x",1\n')) == ['5" x']


@given(
    st.lists(st.text('ab"1 ,\t\r\n', max_size=6), min_size=1, max_size=5),
    st.sampled_from(["necessary", "always"]),
)
@settings(max_examples=30)
def test_fields_in_quotes_are_read_as_they_were_written(tmp_path_factory, texts, style):
    folder = tmp_path_factory.mktemp("quotes")
    frame = pl.DataFrame({"request_id": ["x"] * len(texts), "item": texts})
    frame.write_csv(folder / "rows.csv", quote_style=style)
    expected = [text or None for text in texts]
    if all(not (text or "").strip(" \t0123456789") for text in expected):
        return  # numbers, or blank
    assert values(folder, folder / "rows.csv", missing=("item",)) == expected


def test_the_separator_follows_from_the_name(file, tmp_path):
    tabs = ROWS.replace(",", "\t")
    assert values(tmp_path, file(tabs, "rows.tsv")) == [5, 6]
    assert values(tmp_path, file(gzip.compress(tabs.encode()), "r.tsv.gz")) == [5, 6]
    both = [file(tabs, "rows.tsv"), file(ROWS.replace("1,", "2,"), "rows.csv")]
    assert values(tmp_path, *both) == [5, 6, 5, 6]
    assert values(tmp_path, file(ROWS.replace(",", ";"), "r.tsv"), separator=";") == [5, 6]


# Ids and numbers


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (
            ["1234567890123456788", "1234567890123456789"],
            [1234567890123456788, 1234567890123456789],
        ),
        (["18446744073709551615", "18446744073709551614"], None),
        (["00712", "712"], None),
        (["12e5", "1200000"], None),
        (["-05", "-5"], None),
        (["5", " 6"], [5, 6]),
        ([" 1.5", "2\t"], [1.5, 2.0]),
        (["1e-05", "2"], [1e-05, 2.0]),
        (["1e16", "0.5"], [1e16, 0.5]),
        (["+1", "-2"], [1.0, -2.0]),
        (["0,5", "1,5"], None),
        (["12%", "13%"], None),
    ],
)
def test_different_texts_are_equal_only_as_numbers(file, tmp_path, texts, kept):
    path = file("request_id;item;label\n" + "".join(f"1;{text};1\n" for text in texts))
    found = values(tmp_path, path, separator=";")
    assert found == (kept or texts)
    kinds = {int: Kind.CATEGORICAL, float: Kind.NUMERIC, str: Kind.CATEGORICAL}
    assert manifest(tmp_path).schema_["item"].kind is kinds[type(found[0])]


@given(
    st.lists(st.from_regex(r"-?[0-9]{1,22}([eE][0-9])?", fullmatch=True), min_size=2, max_size=5)
)
@settings(max_examples=40)
def test_different_ids_are_never_equal(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("ids")
    (folder / "rows.csv").write_text("request_id,item\n" + "".join(f"1,{t}\n" for t in texts))
    if all(text.lstrip("-0") == "" for text in texts):
        return  # -0 and 0
    assert len(set(values(folder, folder / "rows.csv"))) >= len(
        {t.replace("-0", "0") for t in texts}
    )


def test_text_that_could_be_numbers_is_told_with_what_reads_it(file, tmp_path):
    path = file("request_id;item;label\n1;0,5;1\n1;1,25;0\n")
    options = {"separator": ";"}
    assert values(tmp_path, path, **options) == ["0,5", "1,25"]
    note = manifest(tmp_path).extra["notes"]["text_like_numbers"]
    assert (
        note
        == "item ('0,5') taken as categorical; decimal=\",\" reads numbers with a decimal comma"
    )
    assert values(tmp_path, path, **options, decimal=",") == [0.5, 1.25]
    with pytest.raises(DataError, match=r"line 2: '0,5'; set decimal=','"):
        read(tmp_path, path, **options, numeric=("item",))
    codes = file(HEADER + "1,007,01\n1,12e5,1\n")
    assert values(tmp_path, codes) == ["007", "12e5"]
    assert (
        "item ('007'); numeric=[...]" in manifest(tmp_path).extra["notes"]["numbers_kept_as_text"]
    )
    frame = read(tmp_path, codes, numeric=("item",))
    assert frame["item"].to_list() == [[7.0, 1.2e6]]
    assert frame["label"].to_list() == [[1.0, 1.0]]  # a label is a number in any case


def parts(file, one, two, **more):
    ids = {"request_id": [1, 1], **more}
    first = pl.DataFrame({**ids, "item": one})
    second = pl.DataFrame({**ids, "request_id": [2, 2], "item": two})
    return file(first, "one.parquet"), file(second, "two.parquet")


def test_types_of_parts_may_differ_if_no_value_does(file, tmp_path):
    mixed = parts(file, [5, 6], [5.0, None])
    assert values(tmp_path, *mixed, categorical=("item",), missing=("item",)) == [5, 6, 5, None]
    u64 = pl.Series([5, 6], dtype=pl.UInt64)
    assert values(tmp_path, *parts(file, [5, 6], u64)) == [5, 6, 5, 6]
    with pytest.raises(DataError, match=r"one.parquet: .*9007199254740993, and Float64 in .*two.p"):
        read(tmp_path, *parts(file, [2**53 + 1, 2], [5.0, None]), missing=("item",))
    with pytest.raises(
        DataError, match=r"two.parquet: .*9223372036854775808, and Int64 in .*one.p"
    ):
        read(tmp_path, *parts(file, [5, 6], pl.Series([2**63, 1], dtype=pl.UInt64)))


def test_unsigned_integers_beyond_63_bits_are_text(file, tmp_path):
    big = pl.Series([2**64 - 1, 2**64 - 2], dtype=pl.UInt64)
    frame = pl.DataFrame(
        {
            "request_id": big[:1].append(big[:1]),
            "item": big,
            "seen": pl.Series([[1, 2]] * 2),
            "item_key": big,
        }
    )
    found = read(
        tmp_path,
        file(frame, "a.parquet"),
        history_features=("seen",),
        vocabulary={"seen": "item"},
    ).row(0, named=True)
    texts = [str(v) for v in big]
    assert (found["request_id"], found["item"], found["item_key"]) == (texts[0], texts, texts)
    assert found["seen"] == ["1", "2"]  # of the same vocabulary
    small = pl.Series([5, 6], dtype=pl.UInt64)
    assert values(tmp_path, file(frame.with_columns(item=small), "b.parquet")) == [5, 6]


def test_parts_without_rows_and_ids_that_are_categories_are_read(file, tmp_path):
    names = ("request_id", "item", "seen")
    one, two = parts(file, [5, 6], [5, 6], seen=[[1], [1]])
    nothing = file(pl.DataFrame(schema=dict.fromkeys(names, pl.Null)), "empty.parquet")
    lists = pl.DataFrame({"request_id": [3], "item": [7], "seen": [[]]})
    more = {"history_features": ("seen",)}
    for files in ((nothing, one, two), (one, two, nothing)):
        assert values(tmp_path, *files, **more) == [5, 6, 5, 6]
    assert read(tmp_path, one, file(lists, "lists.parquet"), **more)["seen"].to_list() == [[1], []]
    categories = [
        pl.DataFrame({"request_id": pl.Series(ids, dtype=dtype), "item": [5, 6]})
        for ids, dtype in ((["a", "a"], pl.Categorical), (["b", "c"], pl.Enum(["b", "c"])))
    ]
    files = [file(frame, f"{i}.parquet") for i, frame in enumerate(categories)]
    assert read(tmp_path, *files)["request_id"].to_list() == ["a", "b", "c"]


def test_labels_are_true_and_false_or_null_with_a_rule(file, tmp_path):
    frame = pl.DataFrame({"request_id": [1, 1], "item": [5, 6], "label": [True, None]})
    path = file(frame, "a.parquet")
    assert values(tmp_path, path, column="label", null_label="zero") == [1.0, 0.0]
    with pytest.raises(
        DataError, match=r"'label' \(label\) is null in 1 .*null_label=zero \(null i"
    ):
        read(tmp_path, path)
    with pytest.raises(DataError, match=r"is null in 2 of 2 rows.*null_label=drop"):
        read(tmp_path, file(HEADER + "1,5,\n1,6,\n"))


# Times


def at(*when):
    return [datetime(*day, tzinfo=UTC) for day in when]


def timed(file, *times):
    rows = "".join(f"{i},{time},5,1\n" for i, time in enumerate(times))
    return file("request_id,timestamp,item,label\n" + rows)


@pytest.mark.parametrize(
    ("times", "options", "told"),
    [
        (["31-01-24", "01-02-24"], {}, "found '31-01-24' and 1 more .*set timestamp_format"),
        (["0001-01-01", "2024-01-01"], {}, "found '0001-01-01' and 0 more outside; .*time_range"),
        (["9999-12-31"], {}, "times 1971-01-01 00:00:00 to 2100-01-01 00:00:00, found '9999-12-31'"),
        ([1714564800, 1714651200], {"timestamp_unit": "ms"},
         r"1714564800 ms \(1970-01-20 20:16\) and 1 more outside; set timestamp_unit=s, with which"),
        ([1714564800000], {"timestamp_unit": "s"}, "set timestamp_unit=ms, with which"),
        ([1714564800000], {"timestamp_unit": "us"}, "set timestamp_unit=ms, with which"),
        ([1714564800000000000], {"timestamp_unit": "us"}, "set timestamp_unit=ns, with which"),
        ([0, 1714564800], {"timestamp_unit": "s"}, "found 0 s .*correct the values, or set time_ra"),
        ([240131, 240201], {"timestamp_unit": "yyyymmdd"}, "expected days such as 20260101, found"),
        ([21240131], {"timestamp_unit": "yyyymmdd"}, "found '21240131' and 0 more outside"),
        (["31.01.2024"], {"timestamp_format": "%d-%m-%Y"}, "timestamp_format '%d-%m-%Y', found '31."),
        (["31.01.2024"], {"timestamp_format": "day"}, "expected a format with year, month and day"),
        (["2024-01-01"], {"time_range": ("x", "2100-01-01")}, "time_range: expected a first time"),
        (["2024-01-01"], {"time_zone": ""}, "time_zone: expected the name .*got ''"),
        (["2024-01-01"], {"time_zone": "../../etc/passwd"}, "time_zone: .*got '../../etc/passwd'"),
        ([1.5], {"timestamp_format": "%d-%m-%Y"}, "holds numbers.*expected text and no unit"),
    ],
)  # fmt: skip
def test_times_that_cannot_be_meant_are_refused(file, tmp_path, times, options, told):
    with pytest.raises((ConfigError, DataError), match=told):
        read(tmp_path, timed(file, *times), **options)


@pytest.mark.parametrize(
    ("time", "options", "expected"),
    [
        ("31-01-24", {"timestamp_format": "%d-%m-%y"}, (2024, 1, 31)),
        ("310124", {"timestamp_format": "%d%m%y"}, (2024, 1, 31)),
        ("010224", {"timestamp_format": "%d%m%y"}, (2024, 2, 1)),
        ("01/31/2024 11:05 PM", {"timestamp_format": "%m/%d/%Y %I:%M %p"}, (2024, 1, 31, 23, 5)),
        ("1950-12-31", {"time_range": ("1900-01-01", "2000-01-01")}, (1950, 12, 31)),
        ("-600000000", {"timestamp_unit": "s", "time_range": ("1900-01-01", "2000-01-01")},
         (1950, 12, 27, 13, 20)),
        ("1714564800000000000", {"timestamp_unit": "ns"}, (2024, 5, 1, 12)),
    ],
)  # fmt: skip
def test_other_times_are_read_by_an_option(file, tmp_path, time, options, expected):
    frame = read(tmp_path, timed(file, time), **options)
    assert frame["timestamp"].to_list() == at(expected)


# Options and purposes


@pytest.mark.parametrize("purpose", ["timestamp", "level", "position", "label", "feedback"])
def test_a_column_can_be_a_feature_under_any_name(file, tmp_path, purpose):
    path = file(f"request_id,{purpose},item\n1,gold,5\n1,red,6\n")
    with pytest.raises(ConfigError, match=rf"is the {purpose}, .*; set {purpose}=none to use it"):
        read(tmp_path, path, item_features=("item", purpose))
    name = f"{purpose}_feature"
    for asked in (purpose, name):
        declined = {"item_features": ("item", asked), purpose: "none"}
        assert values(tmp_path, path, column=name, **declined) == ["gold", "red"]
    assert manifest(tmp_path).extra["notes"]["renamed"] == [f"{purpose} to {name}"]
    read(tmp_path, path, item_features=("*",), **{purpose: "none"})
    assert manifest(tmp_path).schema_.names == ("item",)  # a pattern does not match it
    schema = {"features": [{"name": name, "role": "item", "kind": "categorical"}]}
    read(tmp_path, path, item_features=(), schema=schema, **{purpose: "none"})
    assert f'{purpose} = "none"' in propose("long", path, **{purpose: "none"}).toml


def test_a_column_called_none_is_a_column(file, tmp_path):
    path = file("request_id,none,item\n1,1,5\n1,0,6\n")
    assert values(tmp_path, path, column="label", label="none") == [1.0, 0.0]


def test_what_each_purpose_expects_is_told_with_a_way_out(file, tmp_path):
    rows = file("request_id,timestamp,item\n1,1714564800,5\n1,1714564801,6\n")
    with pytest.raises(DataError, match=r"several_times=earliest, .* or timestamp=none to leave"):
        read(tmp_path, rows, timestamp_unit="s")
    with pytest.raises(
        ConfigError, match=r"level_names=.*or level=none if they are not the levels"
    ):
        read(tmp_path, file("request_id,level,item\n1,gold,5\n"))
    with pytest.raises(DataError, match=r"line 2: 'good'; correct .*set label to another .*none"):
        read(tmp_path, file(HEADER + "1,5,good\n"))


def test_a_log_without_features_of_candidates_is_refused(file, tmp_path):
    path = file("request_id,item,age\n1,5,30\n1,6,30\n")
    with pytest.raises(ConfigError, match=r"at least one feature of the candidates.*item_features"):
        read(tmp_path, path, item_features=(), request_features=("age",))


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("requests=true", "requests=true: expected an integer; got true"),
        ("requests=1e3", "requests=1000.0: expected an integer, such as 1000"),
        ("requests=1000.0", "requests=1000.0: expected an integer, such as 1000"),
        ("noise=true", "expected a number; got true"),
        ("quotas=[40.0, 20]", "expected an integer, such as 40"),
    ],
)
def test_an_integer_is_written_as_one(option, told):
    with pytest.raises(ConfigError, match=told):
        source_options("synthetic", [option])


# Layouts of data sets


def test_letor_of_comments_alone_is_refused(file, tmp_path):
    for options in ({}, {"features": 3}):
        with pytest.raises(DataError, match="on every line, found none"):
            read(tmp_path, file("# a\n# b\n", "l.txt"), source="letor", **options)


def test_null_in_letor_is_a_missing_value(file, tmp_path):
    path = file("2 qid:1 1:NULL 2:1\n0 qid:1 1:0.25 2:0\n", "l.txt")
    assert values(tmp_path, path, column="f1", source="letor", missing=True) == [None, 0.25]
    with pytest.raises(DataError, match=r"line 1, in f1 \(1\); .*set missing=true"):
        read(tmp_path, path, source="letor")
    with pytest.raises(DataError, match=r"line 1: .*found the label 'NULL'"):
        read(tmp_path, file("NULL qid:1 1:2\n", "l.txt"), source="letor")


def test_files_of_yahoo_are_the_parts_that_their_names_say(file, tmp_path):
    for i, part in enumerate(("train", "valid", "test")):
        folder = file(f"2 qid:{i} 1:0.5\n0 qid:{i} 1:0.2\n", f"ltrc/set1.{part}.txt").parent
    read(tmp_path, folder, source="letor")
    assert sorted(p.given for p in manifest(tmp_path).parts) == ["test", "train", "validation"]


def test_runs_of_one_tag_without_a_common_query_are_one_system(file, tmp_path):
    one, two = RUN.splitlines(keepends=True)
    file(QRELS, "trec/qrels")
    folder = file(one, "trec/bm25_dl19.txt").parent
    file(two, "trec/bm25_dl20.txt")
    frame = read(tmp_path, folder, source="trec")
    assert frame["bm25_score"].to_list() == [[3.0], [2.0]]
    assert manifest(tmp_path).extra["notes"]["systems"] == ["bm25"]
    file(RUN, "trec/bm25_dl20.txt")  # has the query of the other, too: another system
    read(tmp_path, folder, source="trec")
    assert manifest(tmp_path).extra["notes"]["systems"] == ["bm25_dl19", "bm25_dl20"]


@pytest.mark.parametrize("rank", ["99999999999999999999", "1_000", "1.5", "9" * 5000])
def test_a_rank_that_is_no_integer_is_refused_by_line(file, tmp_path, rank):
    runs = [file(f"q1 Q0 d1 {rank} 3.0 x\n", "a.run"), file(QRELS, "qrels")]
    with pytest.raises(DataError, match=r"a.run, line 1: expected an integer rank \(of 64 bits\)"):
        read(tmp_path, *runs, source="trec")


@pytest.mark.parametrize("column", ["user_id", "video_id", "timestamp", "play_duration"])
def test_text_in_a_column_of_numbers_of_kuairec_is_refused_by_line(tmp_path, column):
    folder = write_rec(tmp_path / "files")
    table = folder / "big_matrix.csv"
    frame = pl.read_csv(table, infer_schema=False)
    frame.with_columns(pl.col(column).replace(frame[column][0], "much")).write_csv(table)
    with pytest.raises(DataError, match=rf"'{column}': expected numbers.*line 2: 'much'; fetch"):
        read(tmp_path, folder, source="kuairec")


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("user_features.csv", "fans_user_num"),
        ("user_features.csv", "user_id"),
        ("item_daily_features.csv", "video_duration"),
        ("item_daily_features.csv", "date"),
        ("item_categories.csv", "video_id"),
    ],
)
def test_text_in_the_tables_of_kuairec_is_refused_by_line(tmp_path, table, column):
    path = write_rec(tmp_path / "files") / table
    frame = pl.read_csv(path, infer_schema=False)
    text = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit("much")).otherwise(pl.col(column))
    frame.with_columns(text.alias(column)).write_csv(path)
    with pytest.raises(DataError, match=rf"'{column}': expected numbers.*line 2: 'much'; fetch"):
        read(tmp_path, path.parent, source="kuairec")


@pytest.mark.parametrize("column", ["time_ms", "is_like", "play_time_ms", "duration_ms"])
def test_text_in_a_column_of_numbers_of_kuairand_is_refused(tmp_path, column):
    folder = write_rand(tmp_path / "files")
    table = folder / "exposures.parquet"
    pl.read_parquet(table).with_columns(pl.lit("much").alias(column)).write_parquet(table)
    with pytest.raises(
        DataError, match=rf"'{column}': expected numbers, found String; fetch the f"
    ):
        read(tmp_path, folder, source="kuairand")


def test_tags_that_are_text_are_refused():
    whole = first_two(pl.Series(["[8, 3]", "5", None, "[]"]), "tag")
    assert whole[1].to_list() == [3, None, None, None]
    with pytest.raises(DataError, match=r"'tag': expected tags such as '25,65' .*, found 'music'"):
        first_two(pl.Series(["5", "music"]), "tag")
