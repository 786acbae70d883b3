"""Long tables in many files: folders of folders, globs, and columns in the names of folders."""

import re

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import DataError
from tests.data.shops import tree

OPTIONS = {"item_features": ("video",)}


def rows(first, day=None):
    frame = pl.DataFrame({"request_id": [first, first], "video": [10 * first, 10 * first + 1]})
    return frame if day is None else frame.with_columns(day=pl.lit(day))


def read(tmp_path, *paths, **options):
    SOURCES["long"](paths, tmp_path / "log", **OPTIONS | options, overwrite=True)
    log = RequestLog.open(tmp_path / "log")
    return pl.concat(log.frames()), log.manifest.extra["notes"]


@pytest.fixture
def days(tmp_path):
    """Two files in each of two days, among files that are not rows."""
    for request, path in enumerate(
        (
            "day=2026-01-01/hour=01/part-0.parquet",
            "day=2026-01-01/hour=02/part-0.parquet",
            "day=2026-01-02/hour=01/part-0.parquet",
            "day=2026-01-02/hour=01/part-1.parquet",
        )
    ):
        file = tmp_path / "logs" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        rows(request).write_parquet(file)
    (tmp_path / "logs/_SUCCESS").touch()
    for skipped in ("_temporary/0", ".staging"):
        (tmp_path / "logs" / skipped).mkdir(parents=True)
        rows(99).write_parquet(tmp_path / "logs" / skipped / "part-0.parquet")
    return tmp_path / "logs"


def test_keys_of_folders_are_columns_of_all_files_in_sorted_order(days, tmp_path):
    frame, notes = read(tmp_path, days, request_features=("day", "hour"))
    assert frame["request_id"].to_list() == [0, 1, 2, 3]
    assert frame["day"].to_list() == ["2026-01-01"] * 2 + ["2026-01-02"] * 2
    assert frame["hour"].to_list() == [1, 2, 1, 1]
    assert notes["files"] == 4
    assert notes["columns_from_folders"] == ["day", "hour"]


def test_a_key_of_folders_can_be_the_time(days, tmp_path):
    read(tmp_path, days, timestamp="day")
    parts = RequestLog.open(tmp_path / "log").manifest.parts
    assert [(str(part.day), part.requests) for part in parts] == [
        ("2026-01-01", 2),
        ("2026-01-02", 2),
    ]


@pytest.mark.parametrize(
    ("pattern", "requests"),
    [
        ("logs/day=*/hour=01/*.parquet", [0, 2, 3]),
        ("logs/**/part-1.parquet", [3]),
        ("logs/day=2026-01-0[2-9]", [2, 3]),
        ("logs/*", [0, 1, 2, 3]),
        ("logs/day=2026-01-01", [0, 1]),
    ],
)
def test_globs_are_their_matches_in_sorted_order(days, tmp_path, pattern, requests):
    frame, _ = read(tmp_path, tmp_path / pattern, request_features=("day",))
    assert frame["request_id"].to_list() == requests


def test_a_relative_glob_is_read_from_the_working_folder(days, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read(tmp_path, "logs/day=*/*/part-1.parquet")[0]["request_id"].to_list() == [3]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("logs/day=2027*/*", "found no path that matches"),
        ("logs/[_]*", "found no path that matches"),
        ("logs/empty*", r"in the folders that match, found no file named \*.parquet"),
        ("logs/empty", r"in this folder or below it, found no file named \*.parquet"),
    ],
)
def test_paths_without_rows_are_named(days, tmp_path, pattern, message):
    (days / "empty").mkdir()
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, tmp_path / pattern)
    assert str(tmp_path / pattern) in str(error.value)


def test_csv_files_have_the_columns_of_their_folders_too(days, tmp_path):
    frame, _ = read(tmp_path, days, request_features=("day", "hour"))
    for path in days.glob("day=*/*/*.parquet"):
        pl.read_parquet(path, hive_partitioning=False).write_csv(path.with_suffix(".csv"))
        path.unlink()
    assert read(tmp_path, days, request_features=("day", "hour"))[0].equals(frame)
    (days / "day=2026-01-01/hour=01/part-0.csv").write_text("request_id,video\n,1\n")
    with pytest.raises(DataError, match=r"empty in 1 of 7 rows, first in .*part-0.csv, line 2"):
        read(tmp_path, days)


def test_names_of_folders_are_decoded_and_null_is_null(tmp_path):
    for request, name in enumerate(("a%20b%3D1", "__HIVE_DEFAULT_PARTITION__")):
        (tmp_path / f"logs/city={name}").mkdir(parents=True)
        rows(request).write_parquet(tmp_path / f"logs/city={name}/0.parquet")
    frame, _ = read(tmp_path, tmp_path / "logs", request_features=("city",), missing=("city",))
    assert dict(frame.select("request_id", "city").iter_rows()) == {0: "a b=1", 1: None}


@pytest.mark.parametrize("write", ["write_parquet", "write_csv"])
def test_a_column_in_file_and_folder_is_accepted_only_if_equal(tmp_path, write):
    file = tmp_path / "logs/day=02/0.data"
    file.parent.mkdir(parents=True)
    getattr(rows(1, day=2), write)(file)
    frame, _ = read(tmp_path, file, request_features=("day",))
    assert frame["day"].to_list() == [2]
    getattr(pl.concat([rows(1, day=2), rows(2, day=3)]), write)(file)
    message = "column 'day' of the file has the value 3, and the folder is 'day=02'"
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path, file)
    assert str(file) in str(error.value)


def test_files_in_other_folders_than_the_first_are_refused(days, tmp_path):
    rows(7).write_parquet(days / "extra.parquet")
    with pytest.raises(
        DataError,
        match=r"expected the KEY=VALUE folders of .*extra.parquet \(none\), found day=.*/hour=",
    ):
        read(tmp_path, days / "extra.parquet", days / "day=2026-01-01")
    nested = tmp_path / "day=1/day=2"
    nested.mkdir(parents=True)
    rows(7).write_parquet(nested / "0.parquet")
    with pytest.raises(DataError, match="expected one folder for 'day', found two values"):
        read(tmp_path, nested)


def test_a_file_in_which_a_column_is_all_null_has_the_type_of_the_others(tmp_path):
    rows(1).with_columns(price=pl.lit(None)).write_parquet(tmp_path / "a.parquet")
    rows(2).with_columns(price=pl.lit(1.5)).write_parquet(tmp_path / "b.parquet")
    frame, _ = read(tmp_path, tmp_path / "*.parquet", item_features=("price",), missing=("price",))
    assert frame["price"].to_list() == [[None, None], [1.5, 1.5]]
    text = rows(3).with_columns(price=pl.lit("x"))
    text.write_parquet(tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"c.parquet: expected column 'price' to hold Float64"):
        read(tmp_path, tmp_path / "*.parquet")


def test_a_request_id_that_is_null_is_named_by_file_and_row(days, tmp_path):
    frame = rows(5).with_columns(request_id=pl.Series([5, None]))
    path = days / "day=2026-01-02/hour=01/part-1.parquet"
    frame.write_parquet(path)
    with pytest.raises(DataError, match=re.escape(f"1 of 8 rows, first in {path}, row 2; fill")):
        read(tmp_path, days)


@pytest.mark.parametrize("link", [False, True])
def test_a_data_set_is_not_replaced_by_rows_of_its_own(days, tmp_path, link):
    log = tmp_path / "log"
    read(tmp_path, days)
    part = next(log.rglob("*.parquet"))
    rows(5).write_parquet(part)
    if link:
        (tmp_path / "link").symlink_to(log)
        log = tmp_path / "link"
    prepare, options, before = SOURCES["long"], OPTIONS | {"overwrite": True}, tree(tmp_path)
    for inputs in (part, [str(days), str(part)], log):
        with pytest.raises(DataError, match=rf"{log}: is, or contains, the input"):
            prepare(inputs, log, **options)
        with pytest.raises(DataError, match=rf"{log}: is, or contains, the input"):
            prepare(from_=inputs, to=str(log), **options)
    assert tree(tmp_path) == before
