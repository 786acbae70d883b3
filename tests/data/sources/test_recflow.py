"""RecFlow: levels, positions, draws, histories and times, against plain Python, one row at a time."""

import pickle
import random
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import defaultdict
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest

from cascaderank.data.encoding.hashing import hashed, mix, seeded
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Kind, Role
from tests.data.shops import tree
from tests.data.sources.recflow_files import history, made_day, row, write_day, write_days

VIEWS = {
    2: ("prerank_neg", "coarse_neg", "rank_neg", "rank_pos"),
    3: ("prerank_neg", "coarse_neg", "rank_neg", "rerank_neg", "rerank_pos"),
}
DAY = "2024-01-13"


def prepared(folder, to, **options):
    SOURCES["recflow"](folder, to, **options)
    return RequestLog.open(to)


def rows_of(log):
    """Every request as a dictionary, by id."""
    return {r["request_id"]: r for frame in log.frames() for r in frame.iter_rows(named=True)}


def notes(log):
    return log.manifest.extra["notes"]


def expected(rows, histories, stages, per_level, seed, zone):
    """Requests as a log should hold them: slow, and by other means than the library's."""
    levels, requests = VIEWS[stages], {}
    by_request = defaultdict(list)
    for r in rows:
        flagged = [i for i, name in enumerate(levels) if r[name]]
        if flagged:
            index = r["rerank_index" if levels[max(flagged)].startswith("rerank") else "rank_index"]
            known = levels[max(flagged)] in ("rank_neg", "rank_pos", "rerank_neg", "rerank_pos")
            index = index if known and index is not None and index >= 0 else None
            by_request[r["request_id"]].append((max(flagged), index, r))
    for request, found in by_request.items():
        once = {}
        for level, index, r in found:
            other = once.get(r["video_id"])
            better = (-level, index is None, index or 0)
            if other is None or better < (-other[0], other[1] is None, other[1] or 0):
                once[r["video_id"]] = (level, index, r)
        kept = []
        for level in reversed(range(len(levels))):
            members = [(i, r) for at, i, r in once.values() if at == level]
            placed = [
                (1 + sum(j is not None and j < i for j, _ in members) if i is not None else 0, r)
                for i, r in members
            ]
            drawn = sorted(placed, key=lambda m: key_of(request, m[1]["video_id"], seed))
            drawn = sorted(drawn[:per_level], key=lambda m: (m[0] == 0, m[0]))  # stable
            kept += [(level, position, r) for position, r in drawn]
        if not kept:
            continue
        first = kept[0][2]
        at = datetime.fromtimestamp(first["request_timestamp"] / 1000, UTC)
        uploads = [
            datetime.fromtimestamp(r["upload_timestamp"], UTC).astimezone(zone) for *_, r in kept
        ]
        seen = [e for e in histories.get(request, ()) if e[7] > 0]
        seen.sort(key=lambda e: e[7])
        local = at.astimezone(zone)
        requests[request] = {
            "request_id": request,
            "timestamp": at,
            "weekday": local.isoweekday(),
            "hour": local.hour,
            "minute": local.minute,
            "user": first["user_id"],
            "device": first["device_id"],
            "gender": first["gender"],
            "age": first["age"],
            "province": first["province"],
            "history_video": [e[0] for e in seen],
            "history_author": [e[1] for e in seen],
            "history_category_one": [e[3] for e in seen],
            "history_category_two": [e[2] for e in seen],
            "history_upload_type": [e[4] for e in seen],
            "video": [r["video_id"] for *_, r in kept],
            "author": [r["author_id"] for *_, r in kept],
            "category_one": [r["category_level_one"] for *_, r in kept],
            "category_two": [r["category_level_two"] for *_, r in kept],
            "upload_type": [r["upload_type"] for *_, r in kept],
            "upload_weekday": [u.isoweekday() for u in uploads],
            "upload_hour": [u.hour for u in uploads],
            "upload_minute": [u.minute for u in uploads],
            "level": [level for level, *_ in kept],
            "position": [position for _, position, _ in kept],
            "feedback": [float(r["effective_view"]) for *_, r in kept],
        }
    return requests


def key_of(request, video, seed):
    request, video = (hashed(pl.Series([x])) for x in (request, video))
    return int(mix(video ^ mix(request ^ seeded(seed)))[0])


@pytest.mark.parametrize("stages", [2, 3])
@pytest.mark.parametrize(("per_level", "seed"), [("all", 0), (3, 0), (3, 1), (1, 2)])
def test_a_log_is_what_plain_python_makes_of_the_files(tmp_path, stages, per_level, seed):
    """Ragged levels, rows without a level, ties, unknown indices and videos that come again."""
    rng = random.Random(7)
    frame, histories = made_day(DAY, 25, seed=seed, videos=60, entries=6)
    rows = frame.to_dicts()
    for r in rng.sample(rows, len(rows) // 5):
        chance = rng.random()
        if chance < 0.2:
            r |= dict.fromkeys((*VIEWS[2], *VIEWS[3]), 0)
        elif chance < 0.6:
            r |= {"rank_index": 3, "rerank_index": 3}
        elif chance < 0.8:
            r |= {"rank_index": None, "rerank_index": -1}
        else:
            r |= {"coarse_neg": 1}
    for request in rng.sample(sorted(histories), 4):
        del histories[request]
    for request in rng.sample(sorted(histories), 6):
        rng.shuffle(histories[request])
    write_day(tmp_path / "recflow", DAY, rows, histories, batch=17)
    log = prepared(
        tmp_path / "recflow", tmp_path / "log", stages=stages, per_level=per_level, seed=seed
    )
    want = expected(
        rows, histories, stages, None if per_level == "all" else per_level, seed,
        ZoneInfo("Asia/Shanghai"),
    )  # fmt: skip
    found = rows_of(log)
    assert found == want
    assert log.manifest.level_names == VIEWS[stages]
    of_a_view = [r for r in rows if any(r[level] for level in VIEWS[stages])]
    assert notes(log)["rows"] == len(rows)
    assert notes(log)["candidates_of_no_level"] == len(rows) - len(of_a_view)
    assert notes(log)["candidates_of_several_levels"] == sum(
        sum(r[level] for level in VIEWS[stages]) > 1 for r in of_a_view
    )
    assert notes(log)["candidates_twice"] == len(of_a_view) - len(
        {(r["request_id"], r["video_id"]) for r in of_a_view}
    )
    assert notes(log)["requests_without_history"] == 4


def test_requests_are_in_the_order_of_time(tmp_path):
    rows = [
        row(request, 5, "rank_pos", 0, request_timestamp=1_705_100_000_000 + at)
        for request, at in [(9, 300), (2, 100), (5, 200), (1, 100)]
    ]
    write_day(tmp_path / "recflow", DAY, rows, {})
    frame = pl.concat(prepared(tmp_path / "recflow", tmp_path / "log").frames())
    assert frame["request_id"].to_list() == [1, 2, 5, 9]


def test_the_order_of_rows_and_batches_and_the_dtypes_change_no_byte(tmp_path):
    frame, histories = made_day(DAY, 40, videos=5_000_000)
    for name, changed, batch in [
        ("a", frame, 100_000),
        ("b", frame.sample(fraction=1, shuffle=True, seed=1), 7),
        # As pandas writes integers with gaps, flags, and texts of few values.
        ("c", frame.with_columns(
            pl.col("rank_index", "author_id", "province").cast(pl.Float64),
            pl.col("rank_pos", "coarse_neg", "effective_view").cast(pl.Boolean),
            pl.col("age").cast(pl.Int8),
        ), 64),
    ]:  # fmt: skip
        folder = write_day(tmp_path / name, DAY, changed, histories, batch=batch)
        prepared(folder, tmp_path / "logs" / name, per_level=4, name="recflow")
    a, b, c = (tree(tmp_path / "logs" / name) for name in "abc")
    assert a == b == c


@pytest.mark.parametrize("stages", [2, 3])
def test_how_many_rows_are_sorted_at_once_changes_no_byte(tmp_path, monkeypatch, stages):
    frame, histories = made_day(DAY, 40, videos=60)
    middle = sorted(histories)[20]  # ids below 0 as well
    histories = {request - middle: entries for request, entries in histories.items()}
    write_day(tmp_path / "a", DAY, frame.with_columns(pl.col("request_id") - middle), histories)
    whole = prepared(tmp_path / "a", tmp_path / "whole", name="log", stages=stages)
    monkeypatch.setattr("cascaderank.data.sources._recflow.level_sampling._ROWS_AT_ONCE", 100)
    prepared(tmp_path / "a", tmp_path / "log", stages=stages)
    assert tree(tmp_path / "log") == tree(tmp_path / "whole")
    assert whole.manifest.requests == 40
    assert notes(whole)["candidates_twice"] > 0


def test_a_level_is_drawn_by_chance_and_each_request_by_its_own(tmp_path):
    rows = [row(r, v, "prerank_neg") for r in range(600) for v in range(20)]
    write_day(tmp_path / "recflow", DAY, rows, {}, batch=5_000)
    log = prepared(tmp_path / "recflow", tmp_path / "log", per_level=5)
    drawn = [tuple(sorted(r["video"])) for r in rows_of(log).values()]
    assert {len(d) for d in drawn} == {5}
    assert len(set(drawn)) > 500
    counts = np.bincount([v for d in drawn for v in d], minlength=20)
    # 150 of each are expected, give or take sqrt(600 * 1/4 * 3/4) = 10.6.
    assert (abs(counts - 150) < 50).all()


@pytest.mark.parametrize(
    ("zone", "clock"),
    [("Asia/Shanghai", (7, 0, 30)), ("UTC", (6, 16, 30)), ("America/New_York", (6, 11, 30))],
)
def test_the_clock_is_that_of_the_time_zone_around_midnight(tmp_path, monkeypatch, zone, clock):
    """16:30 UTC on a Saturday is half past midnight on Sunday in Shanghai."""
    at = datetime(2024, 1, 13, 16, 30, tzinfo=UTC)
    stamp = int(at.timestamp())
    one = row(1, 5, "rank_pos", 0, request_timestamp=1000 * stamp + 999, upload_timestamp=stamp)
    write_day(tmp_path / "recflow", "2024-01-14", [one], {})
    for machine in ("UTC", "Pacific/Auckland"):
        monkeypatch.setenv("TZ", machine)
        log = prepared(tmp_path / "recflow", tmp_path / "log", time_zone=zone, overwrite=True)
        found = rows_of(log)[1]
        assert found["timestamp"] == at.replace(microsecond=999_000)
        assert (found["weekday"], found["hour"], found["minute"]) == clock
        assert [found[f"upload_{n}"] for n in ("weekday", "hour", "minute")] == [[c] for c in clock]
        # The day is that of the file, whatever the zone: what a split by day goes by.
        assert [p.day for p in log.manifest.parts] == [date(2024, 1, 14)]


def test_a_time_zone_that_does_not_exist_is_told_before_any_work(tmp_path):
    with pytest.raises(
        ConfigError, match=r"time_zone: .*; got 'Asia/Shangai' \(did you mean 'Asia/Shanghai'"
    ):
        prepared(tmp_path / "absent", tmp_path / "log", time_zone="Asia/Shangai")


def test_an_upload_time_that_is_not_known_is_missing(tmp_path):
    rows = [
        row(1, v, "rank_pos", v, upload_timestamp=at) for v, at in enumerate((0, -1, None, 86_400))
    ]
    write_day(tmp_path / "recflow", DAY, rows, {})
    found = rows_of(prepared(tmp_path / "recflow", tmp_path / "log", time_zone="UTC"))[1]
    assert found["upload_weekday"] == [None, None, None, 5]  # 1970-01-02 was a Friday
    assert found["upload_minute"] == [None, None, None, 0]


def test_histories_are_without_padding_oldest_first_and_may_be_absent(tmp_path):
    entries = [(5, 50, 1, 2, 0, 900), (6, 60, 3, 4, 1, 800), (7, 70, 5, 6, 2, 900)]
    rows = [row(r, 5, "rank_pos", 0) for r in (1, 2, 3)]
    histories = {1: history(entries), 2: history([]), 99: history(entries[:1])}
    write_day(tmp_path / "recflow", DAY, rows, histories)
    log = prepared(tmp_path / "recflow", tmp_path / "log")
    found = rows_of(log)
    assert found[1]["history_video"] == [6, 5, 7]
    assert found[1]["history_author"] == [60, 50, 70]
    assert found[1]["history_category_one"] == [3, 1, 5]
    assert found[1]["history_category_two"] == [4, 2, 6]
    assert found[1]["history_upload_type"] == [1, 0, 2]
    assert found[2]["history_video"] == found[3]["history_video"] == []
    assert notes(log)["requests_without_history"] == 2


def test_features_are_categories_that_histories_share(tmp_path):
    write_days(tmp_path / "recflow", 1, 5)
    schema = prepared(
        tmp_path / "recflow", tmp_path / "log", buckets={"video": 100, "hour": 7}
    ).schema
    assert {f.kind for f in schema.features} == {Kind.CATEGORICAL}
    histories = schema.of(Role.HISTORY)
    assert {f.name: f.vocabulary for f in histories} == {
        f"history_{n}": n
        for n in ("video", "author", "category_one", "category_two", "upload_type")
    }
    assert {f.sequence for f in histories} == {"history"}
    assert {f.name for f in schema.features if f.buckets} == {"video", "history_video", "hour"}
    assert len(schema.of(Role.REQUEST)) == 8
    assert len(schema.of(Role.ITEM)) == 8


def test_feedback_and_label_are_the_columns_asked_for(tmp_path):
    rows = [
        row(1, 5, "rank_pos", 0, like=1, playing_time=2500),
        row(1, 6, "rank_neg", None, playing_time=None),
    ]
    write_day(tmp_path / "recflow", DAY, rows, {})
    log = prepared(tmp_path / "recflow", tmp_path / "log", feedback="like", label="playing_time")
    assert rows_of(log)[1]["feedback"] == [1.0, 0.0]
    assert rows_of(log)[1]["label"] == [2500.0, 0.0]


def test_a_copy_without_user_ids_has_no_users(tmp_path):
    frame, histories = made_day(DAY, 5)
    write_day(tmp_path / "recflow", DAY, frame.drop("user_id"), histories)
    log = prepared(tmp_path / "recflow", tmp_path / "log")
    assert "user" not in log.schema.names
    assert "device" in log.schema.names


def test_texts_of_the_user_stay_texts(tmp_path):
    frame, histories = made_day(DAY, 5)
    frame = frame.with_columns(
        age=pl.format("{}0-", "age"), gender=pl.col("gender").cast(pl.String).cast(pl.Categorical)
    )
    write_day(tmp_path / "recflow", DAY, frame, histories)
    found = rows_of(prepared(tmp_path / "recflow", tmp_path / "log"))
    assert {type(r["age"]) for r in found.values()} == {str}
    assert {r["gender"] for r in found.values()} <= {"0", "1"}


def test_the_other_folders_are_never_opened(tmp_path):
    folder = write_days(tmp_path / "recflow", 1, 5)
    for place in (
        "request_id_dict/2024-01-13.pkl",
        "others/id_cnt.pkl",
        "realshow/2024-01-13.feather",
    ):
        (folder / place).parent.mkdir()
        (folder / place).write_bytes(b"no pickle, no table")
    assert prepared(folder, tmp_path / "log").manifest.requests == 5


def test_progress_goes_from_day_to_day_to_the_end(tmp_path):
    ticks = []
    write_days(tmp_path / "recflow", 3, 5)
    prepared(tmp_path / "recflow", tmp_path / "log", progress=lambda *a: ticks.append(a))
    assert len(ticks) >= 3
    assert ticks == sorted(ticks)
    assert ticks[-1][0] == ticks[-1][1] > 0


# Files that are missing, damaged or wrong


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage(path):
    """Break bytes inside, and leave both ends as they are."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 4
    content[middle : middle + 400] = bytes(400)
    path.write_bytes(content)


@pytest.fixture
def four(tmp_path):
    return write_days(tmp_path / "recflow", 4, 20)


def test_all_bad_days_are_told_at_once_before_any_work(four, tmp_path):
    (four / "all_stage/2024-01-13.feather").unlink()
    cut(four / "all_stage/2024-01-14.feather")
    cut(four / "seq_effective_50_dict/2024-01-15.pkl")
    frame = pl.read_ipc(four / "all_stage/2024-01-16.feather")
    frame.drop("rank_index", "province").write_ipc(four / "all_stage/2024-01-16.feather")
    ticks = []
    with pytest.raises(DataError) as error:
        prepared(four, tmp_path / "log", progress=lambda *a: ticks.append(a))
    told = str(error.value)
    assert told.startswith("4 of 4 days cannot be read: ")
    for part in (
        "all_stage/2024-01-13.feather: no such file",
        "all_stage/2024-01-14.feather: expected a Feather file, found one that is damaged",
        "seq_effective_50_dict/2024-01-15.pkl: is truncated or damaged",
        "all_stage/2024-01-16.feather: expected columns rank_index, province, found",
        "skip_bad_days=true",
    ):
        assert part in told
    assert "\n" not in told
    assert not ticks
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recflow"]


def test_bad_days_are_left_out_if_asked_for_and_told(four, tmp_path, caplog):
    (four / "seq_effective_50_dict/2024-01-13.pkl").unlink()
    cut(four / "all_stage/2024-01-15.feather")
    log = prepared(four, tmp_path / "log", skip_bad_days=True)
    assert [str(p.day) for p in log.manifest.parts] == ["2024-01-14", "2024-01-16"]
    assert log.manifest.extra["item"] == "video"
    left_out = log.manifest.extra["days_left_out"]
    assert list(left_out) == notes(log)["days_left_out"] == ["2024-01-13", "2024-01-15"]
    assert "2024-01-13.pkl: no such file" in left_out["2024-01-13"]
    assert [r.getMessage().partition(":")[0] for r in caplog.records] == [
        "skipped 2024-01-13", "skipped 2024-01-15",
    ]  # fmt: skip


def test_a_day_that_is_damaged_inside_is_left_out_whole(four, tmp_path):
    """Found only when it is read; the first day settles nothing then."""
    broken = pickle.loads((four / "seq_effective_50_dict/2024-01-13.pkl").read_bytes())
    frame = pl.read_ipc(four / "all_stage/2024-01-13.feather")
    write_day(four, "2024-01-13", frame.with_columns(age=pl.lit("text")), {**broken, 1: 7})
    damage(four / "all_stage/2024-01-15.feather")
    log = prepared(four, tmp_path / "log", skip_bad_days=True)
    assert [str(p.day) for p in log.manifest.parts] == ["2024-01-14", "2024-01-16"]
    assert log.manifest.requests == 40
    told = log.manifest.extra["days_left_out"]
    assert "expected an array under 1" in told["2024-01-13"]
    assert "2024-01-15.feather: damaged" in told["2024-01-15"]


def test_if_no_day_can_be_read_there_is_no_log(four, tmp_path):
    for file in (four / "all_stage").iterdir():
        cut(file)
    with pytest.raises(
        DataError, match=r"expected at least one readable day, found none: .*2024-01-16"
    ):
        prepared(four, tmp_path / "log", skip_bad_days=True)
    for file in (four / "all_stage").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"4 of 4 days cannot be read"):
        prepared(four, tmp_path / "log")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recflow"]


def test_dates_between_without_files_are_told(tmp_path):
    for day in ("2024-01-13", "2024-01-16"):
        write_day(tmp_path / "recflow", day, *made_day(day, 3))
    log = prepared(tmp_path / "recflow", tmp_path / "log")
    assert notes(log)["dates_without_files"] == ["2024-01-14", "2024-01-15"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.update(rank_pos=2), "column 'rank_pos': expected flags 0 and 1, found 2"),
        (lambda r: r.update(video_id=None), "column 'video_id' is empty"),
        (lambda r: r.update(device_id=7), "device: expected one value per request, found several"),
        (lambda r: r.update(request_timestamp=1_705_100_000_001), "timestamp: expected one value per request"),
        (lambda r: r.update(request_timestamp=1_705_100_009_001), "timestamp: expected one value per request"),
        (lambda r: r.update(request_timestamp=None), "'request_timestamp' has missing values"),
        (lambda r: r.update(request_timestamp=1_705_100_001_000_000), "expected milliseconds since 1970"),
        (lambda r: r.update(request_timestamp=1_705_100_001), "since 1970, found 1705100001, which is in seconds"),
        (lambda r: r.update(upload_timestamp=1_705_100_001_000), "expected seconds since 1970"),
    ],
)  # fmt: skip
def test_a_damaged_request_is_left_out_counted_and_told(tmp_path, caplog, change, told):
    rows = [row(r, v, "rank_pos", v) for r in (1, 2, 3) for v in range(3)]
    change(rows[1])
    write_day(tmp_path / "recflow", DAY, rows, {})
    log = prepared(tmp_path / "recflow", tmp_path / "log")
    assert rows_of(log).keys() == {2, 3}
    assert notes(log)["requests_damaged"] == 1
    (warning,) = caplog.messages
    assert warning.startswith(f"{DAY}: left out 1 damaged request, first 1: ")
    assert "2024-01-13.feather: " in warning
    assert told in warning
    whole = write_day(tmp_path / "whole", DAY, rows[3:], {})
    left = prepared(whole, tmp_path / "whole_log")
    assert rows_of(left) == rows_of(log)
    assert "requests_damaged" not in notes(left)


def test_if_all_requests_are_damaged_the_first_reason_is_told(tmp_path):
    rows = [row(r, v, "rank_pos", v, rank_pos=2) for r in (1, 2) for v in range(3)]
    write_day(tmp_path / "recflow", DAY, rows, {})
    told = (
        r"2024-01-13\.feather: column 'rank_pos': expected flags 0 and 1, found 2; all requests of"
    )
    with pytest.raises(DataError, match=told):
        prepared(tmp_path / "recflow", tmp_path / "log")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["recflow"]


def test_rows_without_a_request_are_told(tmp_path):
    rows = [row(r, v, "rank_pos", v) for r in (1, 2) for v in range(3)]
    rows[1]["request_id"] = None
    write_day(tmp_path / "recflow", DAY, rows, {})
    with pytest.raises(DataError, match=r"column 'request_id' is empty in 1 rows"):
        prepared(tmp_path / "recflow", tmp_path / "log")


@pytest.mark.parametrize(
    ("column", "factor", "told"),
    [
        ("request_timestamp", 1 / 1000, r"expected milliseconds since 1970, found 1705100\d+, which is in seconds; convert"),
        ("request_timestamp", 1000, r"expected milliseconds since 1970, found 1705100\d+; convert"),
        ("upload_timestamp", 1000, r"expected seconds since 1970, found 17\d+; convert"),
    ],
)  # fmt: skip
def test_times_in_another_unit_are_told(tmp_path, column, factor, told):
    rows = [row(r, v, "rank_pos", v) for r in (1, 2) for v in range(3)]
    for r in rows:
        r[column] = int(r[column] * factor)
    write_day(tmp_path / "recflow", DAY, rows, {})
    with pytest.raises(DataError, match=rf"2024-01-13\.feather: column '{column}': {told}"):
        prepared(tmp_path / "recflow", tmp_path / "log")


def test_histories_may_be_a_defaultdict_of_whole_floats_of_any_width(tmp_path):
    rows = [row(r, v, "rank_pos", v) for r in range(1, 7) for v in range(3)]
    entries = [(7, 70, 1, 2, 0, 5_000), (8, 80, 3, 4, 1, 6_000)]
    plain = {r: history(entries[: r % 3]) for r in range(1, 7)}
    mixed = defaultdict(list)
    mixed.update(plain)
    mixed[2] = plain[2].astype(np.float64)
    mixed[3] = np.zeros(0)
    mixed[4] = history(entries[:1], width=8)
    mixed[5.0] = np.asfortranarray(history(entries[:2], width=12, length=20)).astype(np.float32)
    mixed[5.0] = np.hstack([mixed.pop(5.0)[:, :8], np.full((20, 2), 0.5)])
    logs = [
        prepared(write_day(tmp_path / str(i), DAY, rows, histories), tmp_path / f"log{i}")
        for i, histories in enumerate((plain, mixed))
    ]
    assert rows_of(logs[0]) == rows_of(logs[1])
    assert notes(logs[0]) == notes(logs[1])


@pytest.mark.parametrize(
    "damaged",
    [
        np.full((50, 8), 0.5),
        np.full((50, 8), np.nan),
        np.full((50, 8), 2.0**60),
        np.zeros((50, 7), np.int64),
        np.zeros(50, np.int64),
        np.ones((50, 8), np.bool_),
    ],
    ids=["fractions", "nan", "inexact", "narrow", "flat", "flags"],
)
def test_a_request_with_a_damaged_history_is_left_out(tmp_path, caplog, damaged):
    rows = [row(r, v, "rank_pos", v) for r in (1, 2) for v in range(3)]
    good = history([(7, 70, 1, 2, 0, 5_000)])
    write_day(tmp_path / "recflow", DAY, rows, {1: damaged, 2: good, 3: damaged})
    log = prepared(tmp_path / "recflow", tmp_path / "log")
    assert rows_of(log).keys() == {2}
    assert notes(log)["requests_damaged"] == 1
    assert "2024-01-13.pkl: expected whole numbers [50, 8 or more] by request id" in caplog.text


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"rank_neg": None}, "column 'rank_neg': expected flags 0 and 1, found no values"),
        ({"video_id": "v7"}, "column 'video_id': expected whole numbers, found String"),
        ({"author_id": 0.5}, "column 'author_id': expected whole numbers, found Float64"),
        ({"author_id": 1e300}, "column 'author_id': expected whole numbers, found Float64"),
        ({"effective_view": "yes"}, "column 'effective_view': expected numbers, found String"),
        (dict.fromkeys(VIEWS[2], 0), "expected candidates of prerank_neg, .* found none in 1 rows"),
    ],
)
def test_columns_of_another_kind_are_told(tmp_path, columns, told):
    write_day(tmp_path / "recflow", DAY, [row(1, 5, "rank_pos", 0, **columns)], {})
    with pytest.raises(DataError, match=told):
        prepared(tmp_path / "recflow", tmp_path / "log")


@pytest.mark.parametrize(
    ("histories", "told"),
    [
        ({"1": np.zeros((50, 8), np.int64)}, "found the key '1'"),
        ({1: np.zeros((50, 7), np.int64)}, r"found int64 \[50, 7\] for request 1"),
        ({1: np.zeros(50, np.int64)}, r"found int64 \[50\] for request 1"),
        ({1: np.full((50, 8), 0.5)}, r"found float64 \[50, 8\] with values that are not whole for"),
        ({1.5: np.zeros((50, 8), np.int64)}, r"found the key 1\.5"),
        ({5: np.zeros((50, 8), np.int64)}, "histories of the 1 requests in .* the same day"),
        ({1: np.array([1, None])}, "an array of objects"),
    ],
)
def test_histories_of_another_kind_are_told(tmp_path, histories, told):
    write_day(tmp_path / "recflow", DAY, [row(1, 5, "rank_pos", 0)], histories)
    with pytest.raises(DataError, match=rf"2024-01-13\.pkl: .*{told}"):
        prepared(tmp_path / "recflow", tmp_path / "log")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"stages": 4}, "stages must be 2 or 3; got 4"),
        ({"per_level": 0}, "per_level must be at least 1, or 'all'; got 0"),
        ({"buckets": {"vidoe": 5}}, r"no vocabulary 'vidoe' \(did you mean 'video'\?\)"),
        ({"buckets": {"video": 0}}, "'video' must be from 1 to 1,099,511,627,776; got 0"),
        ({"stages": 1, "time_zone": "Moon"}, "stages must be .*; time_zone: .*; got 'Moon'"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, options, told):
    with pytest.raises(ConfigError, match=told):
        prepared(tmp_path / "absent", tmp_path / "log", **options)


def test_folders_that_are_not_recflow_are_told(tmp_path):
    with pytest.raises(DataError, match="found no such folder"):
        prepared(tmp_path / "absent", tmp_path / "log")
    with pytest.raises(DataError, match="found 0 folders and files; give one folder with --from"):
        prepared((), tmp_path / "log")
    with pytest.raises(DataError, match="found 2 folders and files"):
        prepared((tmp_path, tmp_path), tmp_path / "log")
    (tmp_path / "all_stages").mkdir()
    with pytest.raises(DataError, match=r"found all_stages \(did you mean 'all_stages'\?\)"):
        prepared(tmp_path, tmp_path / "log")
    (tmp_path / "all_stage").mkdir()
    with pytest.raises(DataError, match=r"expected one \.feather file per day, found none"):
        prepared(tmp_path, tmp_path / "log")
    (tmp_path / "all_stage" / "part-1.feather").touch()
    with pytest.raises(DataError, match=r"named after their day.*found .*part-1\.feather"):
        prepared(tmp_path, tmp_path / "log")


# Killed, stopped, and gone on with


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from cascaderank.data.log.request_log import RequestLogWriter
    from cascaderank.data.sources import SOURCES

    step, count = sys.argv[3], int(sys.argv[4])

    def killed_after(name, method):
        def call(self, *words, **more):
            global count
            method(self, *words, **more)
            if name == step:
                count -= 1
                if not count:
                    os.kill(os.getpid(), signal.SIGKILL)
        return call

    RequestLogWriter.finish = killed_after("finish", RequestLogWriter.finish)
    RequestLogWriter._write_part = killed_after("write", RequestLogWriter._write_part)
    SOURCES["recflow"](Path(sys.argv[1]), Path(sys.argv[2]))
"""


def days_read(monkeypatch):
    """Names of the days whose pickle is read from now on."""
    read = []
    from cascaderank.data.sources import recflow

    original = recflow.read_histories
    monkeypatch.setattr(
        recflow, "read_histories", lambda day, *a: [read.append(day.name), original(day, *a)][1]
    )
    return read


def killed(folder, to, step, count):
    """Prepare in another process, which kills itself after so many steps."""
    words = [str(folder), str(to), step, str(count)]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), *words],
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def killed_after_two(tmp_path_factory):
    """Four days, and what a process left that was killed when it had written two of them."""
    folder = tmp_path_factory.mktemp("killed")
    killed(write_days(folder / "recflow", 4, 20), folder / "log", "finish", 2)
    assert not (folder / "log").exists()
    return folder


@pytest.fixture
def two_of_four(killed_after_two, tmp_path):
    """A copy of that, to the times of the files."""
    shutil.copytree(killed_after_two, tmp_path, dirs_exist_ok=True)
    return tmp_path / "recflow"


@pytest.mark.parametrize(("step", "count", "left"), [("write", 2, 3), ("finish", 4, 0)])
def test_a_killed_command_goes_on_and_ends_with_the_same_bytes(
    four, tmp_path, monkeypatch, step, count, left
):
    """Killed within the second day, and after the last one."""
    prepared(four, tmp_path / "whole", name="log")
    killed(four, tmp_path / "log", step, count)
    assert not (tmp_path / "log").exists()
    read = days_read(monkeypatch)
    prepared(four, tmp_path / "log")
    assert read == ["2024-01-13", "2024-01-14", "2024-01-15", "2024-01-16"][4 - left :]
    assert tree(tmp_path / "log") == tree(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "recflow", "whole"]


def test_killed_twice_it_still_goes_on(two_of_four, tmp_path, monkeypatch):
    prepared(two_of_four, tmp_path / "whole", name="log")
    killed(two_of_four, tmp_path / "log", "finish", 1)
    read = days_read(monkeypatch)
    prepared(two_of_four, tmp_path / "log")
    assert read == ["2024-01-16"]
    assert tree(tmp_path / "log") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    "options",
    [{"per_level": 3}, {"stages": 3}, {"seed": 1}, {"time_zone": "UTC"}, {"feedback": "like"}],
)
def test_other_options_start_anew(two_of_four, tmp_path, options):
    prepared(two_of_four, tmp_path / "whole", name="log", **options)
    prepared(two_of_four, tmp_path / "log", **options)
    assert tree(tmp_path / "log") == tree(tmp_path / "whole")


def test_a_day_that_changed_is_read_again(two_of_four, tmp_path, monkeypatch):
    write_day(two_of_four, "2024-01-14", *made_day("2024-01-14", 9))
    read = days_read(monkeypatch)
    log = prepared(two_of_four, tmp_path / "log")
    assert read == ["2024-01-14", "2024-01-15", "2024-01-16"]
    assert [p.requests for p in log.manifest.parts] == [20, 9, 20, 20]


def test_a_part_that_was_damaged_meanwhile_is_written_again(two_of_four, tmp_path):
    prepared(two_of_four, tmp_path / "whole", name="log")
    (part,) = (tmp_path / ".log.unfinished").rglob("day=2024-01-14/*.parquet")
    cut(part)
    prepared(two_of_four, tmp_path / "log")
    assert tree(tmp_path / "log") == tree(tmp_path / "whole")


def test_after_a_bad_file_was_replaced_it_goes_on_with_its_day(four, tmp_path, monkeypatch):
    prepared(four, tmp_path / "whole", name="log")
    good = (four / "all_stage/2024-01-15.feather").read_bytes()
    damage(four / "all_stage/2024-01-15.feather")
    with pytest.raises(DataError, match=r"2024-01-15: .*damaged.*run the same command again"):
        prepared(four, tmp_path / "log")
    (four / "all_stage/2024-01-15.feather").write_bytes(good)
    read = days_read(monkeypatch)
    prepared(four, tmp_path / "log")
    assert read == ["2024-01-15", "2024-01-16"]
    assert tree(tmp_path / "log") == tree(tmp_path / "whole")


def test_a_log_that_is_there_stays_until_the_new_one_is_whole(four, tmp_path):
    before = prepared(four, tmp_path / "log", name="old")
    with pytest.raises(DataError, match="a data set exists already"):
        prepared(four, tmp_path / "log")
    damage(four / "all_stage/2024-01-15.feather")
    with pytest.raises(DataError, match="damaged"):
        prepared(four, tmp_path / "log", overwrite=True)
    assert RequestLog.open(tmp_path / "log").manifest == before.manifest
    prepared(four, tmp_path / "log", overwrite=True, skip_bad_days=True)
    assert RequestLog.open(tmp_path / "log").manifest.requests == 60
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "recflow"]


def test_a_request_of_two_days_is_told_when_it_comes_again(four, tmp_path, monkeypatch):
    for place, suffix in (("all_stage", "feather"), ("seq_effective_50_dict", "pkl")):
        content = (four / place / f"2024-01-13.{suffix}").read_bytes()
        (four / place / f"2024-01-14.{suffix}").write_bytes(content)
    read = days_read(monkeypatch)
    with pytest.raises(DataError, match=r"2024-01-14: request_id must be unique; 20 are not"):
        prepared(four, tmp_path / "log")
    assert read == ["2024-01-13", "2024-01-14"]
    log = prepared(four, tmp_path / "log", skip_bad_days=True)
    assert [str(p.day) for p in log.manifest.parts] == ["2024-01-13", "2024-01-15", "2024-01-16"]


FEW = {"prerank_neg": 4, "coarse_neg": 4, "rank_neg": 4, "rank_pos": 4}


def test_full_lists_leaves_out_requests_with_fewer_candidates_and_counts_them(tmp_path):
    write_day(tmp_path / "R", DAY, *made_day(DAY, 20, pools=FEW))
    every = rows_of(prepared(tmp_path / "R", tmp_path / "all", per_level=3))
    log = prepared(tmp_path / "R", tmp_path / "full", per_level=3, full_lists=True)
    full = {name: r for name, r in every.items() if len(r["level"]) == 12}
    assert 0 < len(full) < len(every), "vacuous"
    assert rows_of(log) == full
    assert notes(log)["requests_with_short_lists"] == len(every) - len(full)
    assert "requests_with_short_lists" not in notes(RequestLog.open(tmp_path / "all"))


def test_a_day_without_full_lists_has_no_requests(tmp_path, caplog):
    other = "2024-01-14"
    write_day(tmp_path / "R", DAY, *made_day(DAY, 20, pools=FEW, ragged=False))
    rows, histories = made_day(other, 6, pools={**FEW, "rank_neg": 2}, ragged=False)
    rows[-1, "rank_pos"] = 2
    write_day(tmp_path / "R", other, rows, histories)
    log = prepared(tmp_path / "R", tmp_path / "log", per_level=3, full_lists=True)
    assert {str(part.day) for part in log.manifest.parts} == {DAY}
    assert notes(log)["days"] == 2
    assert notes(log)["requests_with_short_lists"] == 5
    assert notes(log)["requests_damaged"] == 1
    assert f"{other}: left out 1 damaged request, first " in caplog.text
    with pytest.raises(ConfigError, match="full_lists needs a number of candidates per level"):
        prepared(tmp_path / "R", tmp_path / "x", per_level="all", full_lists=True)
