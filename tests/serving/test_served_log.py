"""What was served is a data set: levels, positions, features, samples, feedback, and training."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError, DataError
from cascaderank.serving import (
    LogSettings,
    Ranker,
    Rerank,
    Sampling,
    ServedLogWriter,
    export_run,
)
from cascaderank.serving.logged_candidates import interleaved
from cascaderank.serving.served import Served, ServedSink
from tests.command_line import cascaderank
from tests.conftest import ROOT
from tests.serving.conftest import ALONE, MARKET, market_frame, market_items, request_of

REQUESTS = [r for r in market_frame(120).to_dicts() if r["user"] is not None]
"""Requests without a null that the schema does not allow."""
STAGES = ("retrieval", "preranking", "ranking")
ITEMS = {item["video"]: item for item in market_items().to_dicts()}
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()


def rows_of(path):
    """Return the requests of a log with all columns, also those outside the data set."""
    files = [path / part.path for part in RequestLog.open(path).manifest.parts]
    return pl.concat([pl.read_parquet(f, glob=False) for f in files]).to_dicts()


def options_of(log, request_id):
    return {"request_id": request_id, "sampling": log.sampling, "exploration": log.exploration}


def served_as(request_id, request, answer, ranker, variant="", **options):
    options = {"time": datetime.now(UTC), **options}
    return Served(
        request_id=request_id,
        request=request,
        answer=answer,
        bundle=ranker.name,
        variant=variant,
        **options,
    )


def serve(log, ranker, requests, *, prefix="r", **options):
    """Serve requests by searching all items, and return the answers with traces by id."""
    answers = {}
    for number, row in enumerate(requests):
        request_id = f"{prefix}{number}"
        request = request_of(row)
        answer = ranker.rank(request, trace=True, **options, **options_of(log, request_id))
        time = datetime.fromtimestamp(NOON + number, UTC)
        log.record(served_as(request_id, request, answer, ranker, "main", time=time))
        answers[request_id] = answer
    return answers


@pytest.fixture(scope="module")
def logged(searcher, tmp_path_factory):
    """A log of 40 requests, and the answers."""
    path = tmp_path_factory.mktemp("served") / "log"
    settings = LogSettings(sampling=Sampling(size=5, stages={"ranking": 2}), requests_per_part=16)
    with ServedLogWriter(path, searcher, settings) as log:
        answers = serve(log, searcher, REQUESTS[:40])
        log.flush()
        log.feedback("r3", answers["r3"].ids[0], 1)
        log.feedback("r3", "no such item", 1)
        log.feedback("nobody", 100, 1)
    assert (log.status.recorded, log.status.written, log.status.lost) == (40, 40, 0)
    assert (log.status.joined, log.status.unmatched) == (1, 2)
    return path, answers


def test_the_log_is_that_of_an_oracle(logged):
    path, answers = logged
    rows = rows_of(path)
    assert sorted(row["request_id"] for row in rows) == sorted(answers)
    for row in rows:
        answer, source = answers[row["request_id"]], REQUESTS[int(row["request_id"][1:])]
        trace = answer.trace
        assert row["timestamp"].timestamp() == NOON + int(row["request_id"][1:])
        assert (row["served/bundle"], row["served/variant"]) == ("searching", "main")
        for feature in MARKET.features:
            if feature.role == "request" or feature.role == "history":
                assert row[feature.name] == source[feature.name]
        cut_by = dict(zip(trace.keys, trace.cut_by, strict=True))
        levels = {"retrieval": 0, "preranking": 1, "ranking": 2, None: 3}
        dropped = [list(cut_by.values()).count(stage) for stage in STAGES]
        sizes = [min(5, dropped[0]), min(5, dropped[1]), min(2, dropped[2])]
        for place, key in enumerate(row["video"]):
            level = row["level"][place]
            assert level == levels[cut_by[key]]
            for name in ALONE:
                got, want = row[name][place], ITEMS[key][name]
                assert got == want or (name in ("genres", "text") and not got and not want)
            rate = 1 if level == 3 else sizes[level] / dropped[level]
            assert row["served/rate"][place] == pytest.approx(rate)
            for stage in STAGES:
                score = trace.scores[stage][trace.keys.index(key)]
                logged_score = row[f"served/score/{stage}"][place]
                assert (logged_score is None) == bool(np.isnan(score))
                assert logged_score is None or logged_score == score
        assert [row["level"].count(level) for level in range(3)] == sizes
        assert len(set(row["video"])) == len(row["video"])
        shown = [k for k, level in zip(row["video"], row["level"], strict=True) if level == 3]
        assert shown == answer.ids
        for level, stage in enumerate(STAGES):
            of = [i for i, found in enumerate(row["level"]) if found == level]
            scores = [row[f"served/score/{stage}"][i] for i in of]
            assert scores == sorted(scores, reverse=True)
            assert [row["position"][i] for i in of] == list(range(1, len(of) + 1))
        given = row["request_id"] == "r3"
        assert row["feedback"] == [float(given and i == 0) for i in range(len(row["video"]))]


def test_the_log_is_an_ordinary_data_set(logged):
    path, _ = logged
    log = RequestLog.open(path)
    assert log.manifest.level_names == ("retrieval_neg", "preranking_neg", "ranking_neg", "served")
    assert [part.requests for part in log.manifest.parts] == [16, 16, 8]
    assert not any(name.startswith("served/") for name in log.manifest.columns)
    assert log.manifest.extra["item"] == "video"
    assert log.manifest.extra["served"]["lost"] == 0
    assert (
        log.catalogue()
        .sort("video")
        .equals(market_items().select(log.catalogue().columns).sort("video"))
    )
    assert sum(frame.height for frame in log.frames()) == 40


def test_a_training_reads_the_log_and_its_run_serves(logged, tmp_path):
    path, _ = logged
    (tmp_path / "next.toml").write_text(
        f"""
        [data]
        path = "{path}"
        target = {{ z = [0, 1, 2, 3, 4], by = "feedback" }}
        split = {{ by = "request", validation = 0.1, test = 0.2 }}
        [relevance]
        threshold = 3
        [stages.retrieval]
        model = "two_tower"
        quota = 6
        hidden = [8, 4]
        features = ["*", "!distance*"]
        [stages.ranking]
        model = "mlp"
        quota = 3
        hidden = [8]
        [objective]
        name = "lcron"
        [train]
        epochs = 1
        batch_size = 16
        """.replace(', "!distance*"', "")
    )
    done = cascaderank("train", "next.toml", "--run", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = cascaderank("export", "run", "--to", "bundle", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "items: 30 by 'video', item table of" in done.stderr
    answer = Ranker.load(tmp_path / "bundle").rank(request_of(REQUESTS[0]))
    assert len(answer.ids) == 3


@pytest.mark.parametrize("when", ["before the part", "after the part", "after a restart"])
def test_feedback_joins(searcher, tmp_path, when):
    log = ServedLogWriter(tmp_path / "log", searcher)
    answers = serve(log, searcher, REQUESTS[:3])
    item = answers["r1"].ids[2]
    if when != "before the part":
        log.flush()
    if when == "after a restart":
        log.close()
        log = ServedLogWriter(tmp_path / "log", searcher)
    log.feedback("r1", item, 1)
    log.feedback("r1", item, 2.5)
    log.close()
    assert log.status.joined == 1
    rows = {row["request_id"]: row for row in rows_of(tmp_path / "log")}
    assert {r: sum(row["feedback"]) for r, row in rows.items()} == {"r0": 0, "r1": 2.5, "r2": 0}
    assert rows["r1"]["feedback"][rows["r1"]["video"].index(item)] == 2.5


def test_a_training_that_has_the_manifest_can_read_replaced_parts(searcher, tmp_path):
    with ServedLogWriter(tmp_path / "log", searcher) as log:
        answers = serve(log, searcher, REQUESTS[:3])
        log.flush()
        before = RequestLog.open(tmp_path / "log")
        log.feedback("r1", answers["r1"].ids[0], 1)
        log.flush()
        after = RequestLog.open(tmp_path / "log")
        assert before.fingerprint != after.fingerprint
        sums = [
            sum(frame["feedback"].list.sum().sum() for frame in opened.frames())
            for opened in (before, after)
        ]
        assert sums == [0, 1]


def test_old_files_are_removed(searcher, tmp_path):
    folder = tmp_path / "log"
    with ServedLogWriter(folder, searcher) as log:
        answers = serve(log, searcher, REQUESTS[:3])
        log.flush()
        old = folder / RequestLog.open(folder).manifest.parts[0].path
        log.feedback("r1", answers["r1"].ids[0], 1)
        log.flush()
        assert old.exists()
        os.utime(old, (1, 1))
        log.feedback("r1", answers["r1"].ids[1], 1)
        log.flush()
        assert not old.exists()
    assert sum(sum(row["feedback"]) for row in rows_of(folder)) == 2


def test_replaced_files_are_kept_from_their_replacement_on(searching_run, searcher, tmp_path):
    folder = tmp_path / "log"
    with ServedLogWriter(folder, searcher) as log:
        answers = serve(log, searcher, REQUESTS[:3])
        log.flush()
        manifest = RequestLog.open(folder).manifest
        old = [folder / manifest.parts[0].path, folder / manifest.catalogue.path]
        for file in old:
            os.utime(file, (1, 1))  # written long ago
        log.feedback("r1", answers["r1"].ids[0], 1)
        log.flush()
    market_items(40).write_parquet(tmp_path / "items.parquet")
    export_run(searching_run, tmp_path / "newer", items=tmp_path / "items.parquet")
    newer = Ranker.load(tmp_path / "newer")
    with ServedLogWriter(folder, newer) as log:
        serve(log, newer, REQUESTS[3:4], prefix="later")
    manifest = RequestLog.open(folder).manifest
    assert not {folder / manifest.parts[0].path, folder / manifest.catalogue.path} & set(old)
    assert [file.exists() for file in old] == [True, True]


def test_each_dropped_candidate_is_logged_equally_often(searcher, tmp_path):
    request, counts = request_of(REQUESTS[0]), dict.fromkeys(ITEMS, 0)
    sampling, times = Sampling(size=4), 600
    for number in range(times):
        answer = searcher.rank(
            request, sampling=sampling, request_id=f"x{number}", trace=number == 0
        )
        if number == 0:
            trace = answer.trace
            dropped = {
                k for k, cut in zip(trace.keys, trace.cut_by, strict=True) if cut == "retrieval"
            }
        for key, level in zip(answer.logged.keys, answer.logged.levels, strict=True):
            counts[key] += level == 0
    assert {key for key, count in counts.items() if count} == dropped
    expected = times * 4 / len(dropped)
    statistic = sum((counts[key] - expected) ** 2 / expected for key in dropped)
    assert statistic < 2 * len(dropped), "chi-squared of 21 degrees of freedom"
    again = searcher.rank(request, sampling=sampling, request_id="x7").logged
    assert again.keys == searcher.rank(request, sampling=sampling, request_id="x7").logged.keys


@pytest.mark.parametrize("options", [{"top": 2}, {"rerank": Rerank(caps={"shop": 1})}])
def test_candidates_that_the_last_stage_kept_and_nobody_saw_are_not_served(searcher, options):
    answer = searcher.rank(
        request_of(REQUESTS[5]), sampling=Sampling(size=30), trace=True, **options
    )
    logged = answer.logged
    assert [
        k for k, level in zip(logged.keys, logged.levels, strict=True) if level == 3
    ] == answer.ids
    assert len(logged.keys) == 30
    assert (logged.rates == 1).all()
    reached = {key: answer.trace.of(key)["stages"] for key in logged.keys}
    for key, level in zip(logged.keys, logged.levels, strict=True):
        assert len(reached[key]) == min(level + 1, 3)


def test_rows_are_logged_with_their_features(ranker, tmp_path):
    with ServedLogWriter(tmp_path / "log", ranker, LogSettings(sampling=Sampling(size=30))) as log:
        for number, row in enumerate(REQUESTS[:20]):
            rows = {"video": row["video"], "distance": row["distance"]}
            rows["price"] = [9.0 + i for i in range(len(row["video"]))]
            request = request_of(row)
            answer = ranker.rank(request, rows, **options_of(log, f"{number}"))
            log.record(served_as(f"{number}", request, answer, ranker))
    assert log.status.written == 20
    for row in rows_of(tmp_path / "log"):
        source = REQUESTS[int(row["request_id"])]
        assert sorted(row["video"]) == sorted(source["video"])
        for place, key in enumerate(row["video"]):
            at = source["video"].index(key)
            assert row["distance"][place] == source["distance"][at]
            assert row["price"][place] == 9.0 + at


def test_values_of_a_source_are_logged(searching_bundle, tmp_path):
    class Prices:
        features = ("price",)
        works = True

        def values(self, request, keys, features):
            if not self.works:
                raise ConnectionError("gone")
            assert list(features) == ["price"]
            return {"price": [float(key) for key in keys]}

    source = Prices()
    ranker = Ranker.load(searching_bundle, source=source)
    with ServedLogWriter(tmp_path / "log", ranker) as log:
        serve(log, ranker, REQUESTS[:1], prefix="live")
        log.flush()
        source.works = False
        serve(log, ranker, REQUESTS[:1], prefix="stale")
    live, stale = rows_of(tmp_path / "log")
    assert live["price"] == [float(key) for key in live["video"]]
    assert stale["price"] == [ITEMS[key]["price"] for key in stale["video"]]


def test_what_does_not_fit_is_counted_and_the_rest_is_written(searcher, tmp_path):
    with ServedLogWriter(tmp_path / "log", searcher) as log:
        serve(log, searcher, REQUESTS[:5])
        nobody = {**request_of(REQUESTS[0]), "device": None}
        answer = searcher.rank(nobody, **options_of(log, "bad"))
        log.record(served_as("bad", nobody, answer, searcher))
        serve(log, searcher, REQUESTS[:2])  # the same ids again
        log.flush()
        serve(log, searcher, REQUESTS[:2])
    assert (log.status.written, log.status.refused, log.status.repeated) == (5, 1, 4)
    assert "null values: device" in log.status.problem
    assert log.status.to_json()["recorded"] == 10
    assert RequestLog.open(tmp_path / "log").manifest.extra["served"]["lost"] == 1
    with ServedLogWriter(tmp_path / "log", searcher) as log:
        serve(log, searcher, REQUESTS[5:6])
    served = RequestLog.open(tmp_path / "log").manifest.extra["served"]
    assert served["lost"] == 1, "a log that is continued keeps the count"


def test_a_full_queue_drops_and_counts(searcher, tmp_path, caplog):
    log = ServedLogWriter(tmp_path / "log", searcher, LogSettings(queue=2))
    release, writer = threading.Event(), log._writer
    take = writer.take
    writer.take = lambda record: (release.wait(), take(record))
    serve(log, searcher, REQUESTS[:8])
    log.feedback("r0", 1, 1)
    release.set()
    log.close()
    assert log.status.written == log.status.recorded <= 4
    assert log.status.overflowed == 8 - log.status.recorded
    assert log.status.lost_feedback == 1
    assert "the queue is full; 1 request lost" in caplog.text
    late = searcher.rank(request_of(REQUESTS[0]), sampling=Sampling())
    assert not log.record(served_as("late", {}, late, searcher))
    assert log.status.overflowed == 9 - log.status.recorded
    log.flush()  # of a closed log: nothing to wait for


def test_threads_lose_nothing_and_feedback_finds_its_request(searcher, tmp_path):
    settings = LogSettings(requests_per_part=23)
    with ServedLogWriter(tmp_path / "log", searcher, settings) as log:

        def user(number):
            for i, row in enumerate(REQUESTS[:20]):
                request_id, request = f"{number}-{i}", request_of(row)
                answer = searcher.rank(request, **options_of(log, request_id))
                log.record(served_as(request_id, request, answer, searcher))
                log.feedback(request_id, answer.ids[number % 3], number + 1)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(user, range(6)))
    rows = rows_of(tmp_path / "log")
    assert sorted(row["request_id"] for row in rows) == sorted(
        f"{n}-{i}" for n in range(6) for i in range(20)
    )
    for row in rows:
        number = int(row["request_id"].split("-")[0])
        assert row["feedback"][number % 3] == number + 1
        assert sum(row["feedback"]) == number + 1
    assert log.status.joined == 120


KILLED = """
    import os, signal, sys, threading, time
    from pathlib import Path
    from tests.serving.conftest import market_frame, request_of
    from tests.serving.test_served_log import options_of, served_as
    from cascaderank.serving import LogSettings, Ranker, ServedLogWriter

    ranker = Ranker.load(sys.argv[1], warm_up=0)
    rows = [r for r in market_frame(60).to_dicts() if r["user"] is not None]
    log = ServedLogWriter(sys.argv[2], ranker, LogSettings(requests_per_part=3))
    def parts():
        return len({p.name[:10] for p in Path(sys.argv[2]).glob("requests/day=*/part-*")})
    before = parts()
    def kill():
        while parts() < before + 3:
            time.sleep(0.001)
        time.sleep(float(sys.argv[3]))
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=kill).start()
    number = 0
    while True:
        request_id, request = f"{sys.argv[3]}-{number}", request_of(rows[number % len(rows)])
        answer = ranker.rank(request, **options_of(log, request_id))
        log.record(served_as(request_id, request, answer, ranker))
        log.feedback(request_id, answer.ids[0], 1)
        number += 1
"""


def test_a_kill_leaves_complete_parts_only(searching_bundle, searcher, tmp_path):
    folder = tmp_path / "log"
    for number, delay in enumerate(("0", "0.013", "0.029")):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(KILLED), searching_bundle, folder, delay],
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL
        rows = rows_of(folder)  # every listed part is complete
        assert len(rows) >= 6 * (number + 1)
        assert all(row["feedback"][0] in (0, 1) for row in rows)
    ids = [row["request_id"] for row in rows]
    assert len(set(ids)) == len(ids)
    assert {i.split("-")[0] for i in ids} == {"0", "0.013", "0.029"}
    with ServedLogWriter(folder, searcher) as log:
        serve(log, searcher, REQUESTS[:2])
    assert len(rows_of(folder)) == len(ids) + 2
    assert not list(folder.rglob(".*partial"))


def test_a_log_has_one_writer_and_one_kind_of_bundle(searcher, ranker, market, tmp_path):
    with ServedLogWriter(tmp_path / "log", searcher) as log:
        with pytest.raises(DataError, match="another process writes this log"):
            ServedLogWriter(tmp_path / "log", searcher)
        serve(log, searcher, REQUESTS[:1])
    with pytest.raises(DataError, match="a log has those of one kind of bundle; choose another"):
        ServedLogWriter(tmp_path / "log", ranker)
    with pytest.raises(
        DataError, match="expected a served log, found a data set that was prepared"
    ):
        ServedLogWriter(market.path, searcher)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="exists and is not a data set"):
        ServedLogWriter(tmp_path / "other", searcher)
    assert (tmp_path / "other" / "notes.txt").read_text() == "mine"


def test_an_empty_log_can_be_continued(searcher, tmp_path):
    ServedLogWriter(tmp_path / "log", searcher).close()
    with pytest.raises(DataError, match="the data set is empty"):
        RequestLog.open(tmp_path / "log")
    with ServedLogWriter(tmp_path / "log", searcher) as log:
        serve(log, searcher, REQUESTS[:1])
    assert len(rows_of(tmp_path / "log")) == 1


def test_other_bundles_have_logs_of_their_own(searcher, ranker, searching_bundle, tmp_path):
    with ServedLogWriter(tmp_path / "log", searcher) as log:
        serve(log, searcher, REQUESTS[:2])
        request, row = request_of(REQUESTS[0]), REQUESTS[0]
        rows = {"video": row["video"], "distance": row["distance"]}
        answer = ranker.rank(request, rows, **options_of(log, "a"))
        log.record(served_as("a", request, answer, ranker, "other"))
        log.feedback("a", answer.ids[0], 7)
        serve(log, Ranker.load(searching_bundle), REQUESTS[:2], prefix="reloaded")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["log", "log-other"]
    assert [len(rows_of(tmp_path / name)) for name in names] == [4, 1]
    assert "distance" in RequestLog.open(tmp_path / "log-other").schema.names
    assert rows_of(tmp_path / "log-other")[0]["feedback"][0] == 7


def test_an_interleaved_list_is_served_as_it_was_shown(searcher, tmp_path):
    request = request_of(REQUESTS[0])
    with ServedLogWriter(tmp_path / "log", searcher) as log:
        answer = searcher.rank(request, trace=True, **options_of(log, "a"))
        trace, own = answer.trace, answer.ids
        lost = [k for k, cut in zip(trace.keys, trace.cut_by, strict=True) if cut == "retrieval"]
        foreign = next(key for key in lost if key not in answer.logged.keys)
        mixed = dataclasses.replace(answer, ids=[own[1], foreign, own[0]], scores=[3.0, 2.0, 1.0])
        mixed = dataclasses.replace(mixed, logged=interleaved(answer.logged, mixed.ids))
        log.record(served_as("a", request, mixed, searcher, "main+other", teams=["m", "o", "m"]))
    (row,) = rows_of(tmp_path / "log")
    assert row["video"][:3] == [own[1], foreign, own[0]]
    assert row["level"][:4] == [3, 3, 3, 2]
    assert row["position"][:3] == [1, 2, 3]
    assert row["video"][3] == own[2]
    assert row["served/team"] == ["m", "o", "m"]
    assert row["price"][1] == ITEMS[foreign]["price"]
    assert row["served/score/ranking"][1] is None
    assert len(set(row["video"])) == len(row["video"])


def test_the_writer_has_the_protocol_of_servers(searcher, tmp_path):
    with ServedLogWriter(tmp_path / "log", searcher) as log:
        sink: ServedSink = log
        assert (sink.sampling, sink.exploration) == (Sampling(), None)
        with pytest.raises(ConfigError, match="the answer has no candidates to log"):
            log.record(served_as("a", {}, searcher.rank(request_of(REQUESTS[0])), searcher))
        for value in (float("nan"), float("inf"), "1", None, 1e39):
            with pytest.raises(DataError, match="feedback must be a finite number"):
                log.feedback("a", 1, value)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Sampling(size=-1), "must be 0 to 32767; got -1"),
        (lambda: Sampling(stages={"a": 40_000}), "of stage 'a' must be 0 to 32767"),
        (lambda: LogSettings(queue=0), "queue must be at least 1; got 0"),
        (lambda: LogSettings(seconds_per_part=0), "seconds_per_part must be positive; got 0"),
        (lambda: LogSettings(propensity_draws=-1), "propensity_draws must be at least 0"),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        wrong()


def test_a_stage_of_the_settings_must_exist(searcher, tmp_path):
    settings = LogSettings(sampling=Sampling(stages={"rankin": 1}))
    with pytest.raises(ConfigError, match=r"no stage 'rankin' \(did you mean 'ranking'"):
        ServedLogWriter(tmp_path / "log", searcher, settings)
    assert json.dumps(sorted(p.name for p in tmp_path.iterdir())) == "[]"
