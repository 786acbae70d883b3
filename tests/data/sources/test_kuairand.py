from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.data.split import DaySplit, split_requests
from cascaderank.errors import DataError
from tests.data.sources.short_videos import (
    DAY,
    MIDNIGHT,
    histories,
    rand_exposures,
    rand_videos,
    users,
    write_rand,
)

LISTS = ("history_exposed", "history_liked", "history_long_viewed")


def prepared(folder, to, **options):
    SOURCES["kuairand"]((folder,), to, **options)
    return RequestLog.open(to)


def requests_of(log):
    frame = pl.concat(log.frames())
    return {row["request_id"]: row for row in frame.to_dicts()}


def oracle(exposures, before, history_length):
    """Requests by plain loops over the exposures in order of time."""
    seen = {}
    for row in before.to_dicts():
        seen[row["user_id"]] = [
            [*row["exposed_video_ids"]],
            [*row["liked_video_ids"]],
            [*row["long_viewed_video_ids"]],
        ]
    requests = {}
    for row in exposures.sort("time_ms", maintain_order=True).to_dicts():
        user, video = row["user_id"], row["video_id"]
        day = (row["time_ms"] - MIDNIGHT) // DAY
        entry = requests.get((user, day))
        if entry is None:
            past = [list(s) for s in seen.get(user, [[], [], []])]
            entry = requests[user, day] = {
                "time": row["time_ms"],
                "history": [p[-history_length:] for p in past],
                "candidates": {},
            }
        if video in entry["candidates"]:
            continue
        play, duration = row["play_time_ms"], row["duration_ms"]
        short = 0 < duration <= 7000
        entry["candidates"][video] = float(play >= duration if short else play > 7000)
        lists = seen.setdefault(user, [[], [], []])
        for sequence, holds in zip(lists, (1, row["is_like"], row["long_view"]), strict=True):
            if holds:
                sequence.append(video)
    return requests


@pytest.mark.parametrize(("seed", "length", "given"), [(0, 50, True), (1, 3, True), (2, 4, False)])
def test_requests_candidates_and_histories_are_those_of_plain_loops(tmp_path, seed, length, given):
    exposures = rand_exposures(seed)
    before = histories() if given else histories()[:0]
    folder = write_rand(tmp_path / "files", exposures, before=before if given else None)
    found = requests_of(prepared(folder, tmp_path / "log", history_length=length))
    expected = oracle(exposures, before, length)
    assert len(found) == len(expected)
    first = datetime(2022, 4, 25, tzinfo=UTC)
    for (user, day), told in expected.items():
        row = found[f"{user}-{(first + timedelta(days=day)):%Y%m%d}"]
        assert row["timestamp"].timestamp() * 1000 == told["time"]
        assert dict(zip(row["video_id"], row["feedback"], strict=True)) == told["candidates"]
        assert [row[name] for name in LISTS] == told["history"]
        assert row["user_id"] == user


def test_the_order_of_rows_changes_nothing(tmp_path):
    exposures = rand_exposures(5).unique(["user_id", "time_ms"], maintain_order=True)
    log = prepared(write_rand(tmp_path / "a", exposures), tmp_path / "one")
    mixed = exposures.sample(fraction=1, shuffle=True, seed=1)
    other = prepared(write_rand(tmp_path / "b", mixed), tmp_path / "two")
    assert log.fingerprint == other.fingerprint


def test_official_files_give_what_their_parquet_part_gives(tmp_path):
    exposures = rand_exposures(7)
    one = prepared(write_rand(tmp_path / "a", exposures), tmp_path / "one")
    two = prepared(write_rand(tmp_path / "b", exposures, official=True), tmp_path / "two")
    assert requests_of(one) == requests_of(two)


def test_days_split_and_the_catalogue_holds_videos_that_nobody_was_shown(tmp_path):
    log = prepared(write_rand(tmp_path / "a"), tmp_path / "log")
    split = split_requests(log, DaySplit())
    frames = pl.concat(log.frames(["request_id"]))["request_id"]
    assert {i.split("-")[1] for i in frames.gather(split.test)} == {"20220428"}
    items = log.catalogue()
    assert items["video_id"].to_list() == list(range(14))
    assert items["tag"][3] == 3
    assert items["tag_2"][3] == 4
    assert items["tag_2"][2] is None
    assert items["video_duration"][3] is None


def test_users_without_a_row_or_a_history_have_none(tmp_path):
    log = prepared(write_rand(tmp_path / "a", before=histories()), tmp_path / "log")
    rows = [r for r in requests_of(log).values() if r["user_id"] == 4]
    assert {r["user_active_degree"] for r in rows} == {None}
    first = min(rows, key=lambda r: r["timestamp"])
    assert [first[name] for name in LISTS] == [[], [], []]
    assert log.manifest.extra["item"] == "video_id"
    notes = log.manifest.extra["notes"]
    assert notes["users_without_features"] == 1
    assert notes["requests_without_history"] == 2  # of users 3 and 4, on their first day


def test_feedback_can_be_another_and_numbers_in_floats_are_categories(tmp_path):
    exposures = rand_exposures(3).unique(["user_id", "video_id"], maintain_order=True)
    log = prepared(write_rand(tmp_path / "a", exposures), tmp_path / "log", feedback="is_click")
    clicks = sum(sum(r["feedback"]) for r in requests_of(log).values())
    assert clicks == exposures["is_click"].sum()
    assert {r["onehot_feat4"] for r in requests_of(log).values()} == {None, 2, 3}
    assert not any("statistic" in n or "cnt" in n for n in log.schema.names)


def test_a_video_that_the_table_lacks_is_told(tmp_path):
    folder = write_rand(tmp_path / "a", videos=rand_videos(range(10)))
    with pytest.raises(DataError, match=r"found 2 missing with \d+ exposures \(video_id 10, 11\)"):
        prepared(folder, tmp_path / "log")
    assert not (tmp_path / "log").exists()


def test_histories_that_look_ahead_are_refused(tmp_path):
    late = histories().with_columns(pl.col("last_time_ms") + 4 * DAY)
    folder = write_rand(tmp_path / "a", before=late)
    with pytest.raises(DataError, match=r"histories leak the future: those of 2 of 2 users"):
        prepared(folder, tmp_path / "log")


def test_a_history_that_touches_the_log_of_one_user_in_many_is_left_out(tmp_path):
    ids = range(1, 151)
    before = histories(ids)
    exposures = rand_exposures(1, rows=200)
    first = exposures.filter(pl.col("user_id") == 2)["time_ms"].min()
    before = before.with_columns(
        pl.when(pl.col("user_id") == 2).then(first).otherwise("last_time_ms").alias("last_time_ms")
    )
    log = prepared(write_rand(tmp_path / "a", exposures, before=before), tmp_path / "log")
    rows = sorted(requests_of(log).values(), key=lambda r: r["timestamp"])
    starts = {u: next(r for r in rows if r["user_id"] == u)["history_exposed"] for u in (1, 2)}
    assert starts == {1: [1, 13, 91], 2: []}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"exposures": rand_exposures().drop("is_like")}, "expected a column 'is_like'"),
        (
            {"exposures": rand_exposures().with_columns(pl.lit(None, pl.Int64).alias("user_id"))},
            "column 'user_id': expected whole numbers",
        ),
        (
            {"exposures": rand_exposures().with_columns(pl.col("time_ms") * 1000)},
            "expected times 1971-01-01 00:00:00 to 2100.*fetch the file again",
        ),
        (
            {"people": pl.concat([users([1, 2]), users([2, 1])])},
            r"expected one row per user_id, found several different rows for 2",
        ),
    ],
)
def test_wrong_files_are_told(tmp_path, change, told):
    with pytest.raises(DataError, match=told):
        prepared(write_rand(tmp_path / "a", **change), tmp_path / "log")


def test_a_folder_without_the_files_is_told(tmp_path):
    with pytest.raises(DataError, match="expected a folder with user_features"):
        prepared(tmp_path, tmp_path / "log")
    folder = write_rand(tmp_path / "a")
    (folder / "exposures.parquet").unlink()
    with pytest.raises(DataError, match="expected exposures, found no file named exposures"):
        prepared(folder, tmp_path / "log")


@pytest.mark.data
def test_the_real_part_becomes_a_log(data_folder, tmp_path):
    log = prepared(data_folder / "kuairand", tmp_path / "log")
    notes = log.manifest.extra["notes"]
    assert notes["exposures"] == 198_895
    assert log.manifest.candidates == notes["exposures"] - notes["shown_again_in_one_request"]
    assert log.catalogue().height == 7_583
    frame = pl.concat(log.frames(["timestamp", "history_exposed", "feedback"]))
    assert frame["history_exposed"].list.len().max() == 50
    assert 0.4 < frame["feedback"].explode().mean() < 0.5
