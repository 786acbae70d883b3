import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import DataError
from tests.data.sources.short_videos import write_rec


def prepared(folder, to, **options):
    SOURCES["kuairec"]((folder,), to, **options)
    return RequestLog.open(to)


def test_the_big_matrix_becomes_days_with_what_came_strictly_before(tmp_path):
    folder = write_rec(tmp_path / "files")
    log = prepared(folder, tmp_path / "log")
    rows = pl.concat(log.frames()).sort("timestamp").to_dicts()
    table = pl.read_csv(folder / "big_matrix.csv").sort("timestamp").to_dicts()
    assert len({r["request_id"] for r in rows}) == len(rows)
    for row in rows:
        start = row["timestamp"].timestamp()
        of_user = [t for t in table if t["user_id"] == row["user_id"]]
        before = {t["video_id"] for t in of_user if t["timestamp"] < start - 1e-3}
        assert set(row["history_exposed"]) == before
        assert set(row["history_valid"]) <= before
        for video, feedback in zip(row["video_id"], row["feedback"], strict=True):
            # Unless it was shown again that day, a row of the matrix says what came of it.
            of_video = [
                t for t in of_user if t["video_id"] == video and t["timestamp"] >= start - 1e-3
            ]
            first = of_video[0]
            short = first["video_duration"] <= 7000
            seven = first["play_duration"] > 7000
            valid = first["play_duration"] >= first["video_duration"] if short else seven
            assert feedback == float(valid)


def test_the_small_matrix_is_one_request_a_user_without_time_and_history(tmp_path):
    log = prepared(write_rec(tmp_path / "files", inside=True), tmp_path / "log", matrix="small")
    frame = pl.concat(log.frames())
    assert frame["request_id"].to_list() == ["5", "7"]
    assert [sorted(v) for v in frame["video_id"].to_list()] == [[1, 2, 3, 4, 5]] * 2
    assert log.manifest.time_range is None
    assert not any("history" in name for name in frame.columns)
    days = prepared(tmp_path / "files", tmp_path / "days", matrix="small", request="day")
    assert days.manifest.extra["notes"]["left_out_without_time"] == 2
    assert days.manifest.extra["item"] == "video_id"
    assert "history_exposed" in days.schema.names


def test_videos_have_what_does_not_change_from_day_to_day(tmp_path):
    items = prepared(write_rec(tmp_path / "files"), tmp_path / "log").catalogue()
    assert items.columns == [
        "video_id", "author_id", "video_type", "video_duration", "category", "category_2",
    ]  # fmt: skip
    assert items.row(3) == (3, 0, "NORMAL", 3000.0, 3, 4)
    assert items.row(4) == (4, 1, "NORMAL", 4000.0, 4, None)


def test_a_video_without_features_is_told(tmp_path):
    folder = write_rec(tmp_path / "files")
    table = folder / "item_daily_features.csv"
    pl.read_csv(table).filter(pl.col("video_id") != 3).write_csv(table)
    with pytest.raises(DataError, match=r"found 1 missing with \d+ exposures \(video_id 3\)"):
        prepared(folder, tmp_path / "log")


def test_a_broken_file_and_a_missing_one_are_told(tmp_path):
    folder = write_rec(tmp_path / "files")
    with pytest.raises(DataError, match=r"expected a folder with big_matrix\.csv"):
        prepared(tmp_path / "nowhere", tmp_path / "log")
    lines = (folder / "big_matrix.csv").read_text().splitlines()
    (folder / "big_matrix.csv").write_text("\n".join([*lines[:5], lines[5][:7]]) + "\n")
    with pytest.raises(DataError, match=r"big_matrix\.csv"):
        prepared(folder, tmp_path / "log")
    assert not (tmp_path / "log").exists()
