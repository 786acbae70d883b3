"""A server logs what it served, with feedback, also when it is killed."""

import signal
import time

import polars as pl

from cascaderank.data.log.request_log import RequestLog
from tests.command_line import cascaderank
from tests.serving.conftest import market_frame, request_of
from tests.serving.http.server_process import serving

ROW = market_frame(12).row(3, named=True)


def body(number):
    return {"request": request_of(ROW), "request_id": f"r{number}"}


def logged(folder):
    log = RequestLog.open(folder)
    files = [folder / part.path for part in log.manifest.parts]
    return log, pl.concat([pl.read_parquet(file, glob=False) for file in files])


def test_a_server_logs_answers_and_feedback(searching_bundle, tmp_path):
    words = ["--log", str(tmp_path / "log"), "--log-sample", "7", "--exploration", "0.5"]
    with serving(searching_bundle, *words, "--propensity-draws", "20") as server:
        lists = {}
        for number in range(12):
            status, _, content = server.post("/v1/rank", body(number))
            assert status == 200
            lists[f"r{number}"] = [item["id"] for item in content["items"]]
        click = {"request_id": "r4", "item": lists["r4"][1], "value": 1}
        assert server.post("/v1/feedback", click)[0] == 202
        assert server.stop()[0] == 0
    log, frame = logged(tmp_path / "log")
    assert log.manifest.requests == 12
    assert len({tuple(ids) for ids in lists.values()}) > 1, "noise"
    for row in frame.to_dicts():
        assert row["video"][:3] == lists[row["request_id"]]
        assert row["level"].count(0) == 7
        assert row["feedback"][:3] == [0, float(row["request_id"] == "r4"), 0]
        assert sum(row["served/propensity"]) <= 3 + 1e-9


def test_a_killed_server_leaves_complete_parts(searching_bundle, tmp_path):
    words = ["--log", str(tmp_path / "log"), "--log-requests", "4"]
    with serving(searching_bundle, *words) as server:
        number, end = 0, time.monotonic() + 60
        while not list(tmp_path.glob("log/requests/day=*/*-00002-0.parquet")):
            assert server.post("/v1/rank", body(number))[0] == 200
            assert time.monotonic() < end
            number += 1
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
    log, frame = logged(tmp_path / "log")
    assert 8 <= log.manifest.requests == frame.height <= number
    assert frame["request_id"].to_list() == [f"r{i}" for i in range(frame.height)]


def test_each_shadow_of_a_server_has_a_log(searching_bundle, tmp_path):
    words = [w for n in ("a", "b") for w in ("--bundle", f"{n}={searching_bundle}", "--shadow", n)]
    with serving(
        searching_bundle, "--log", str(tmp_path / "log"), *words, "--shadow", "b"
    ) as server:
        for number in range(5):
            assert server.post("/v1/rank", body(number))[0] == 200
        assert server.stop() == (0, "stopped; all requests that had begun are finished\n")
    assert {p.name for p in tmp_path.iterdir()} == {"log", "log-shadow-a", "log-shadow-b"}
    for name, variant in [("log", "main"), ("log-shadow-a", "a"), ("log-shadow-b", "b")]:
        log, frame = logged(tmp_path / name)
        assert (log.manifest.requests, log.manifest.extra["served"]["lost"]) == (5, 0)
        assert frame["served/variant"].unique().to_list() == [variant]


def test_noise_needs_a_log(searching_bundle):
    done = cascaderank("serve", searching_bundle, "--exploration", "0.5")
    assert done.returncode == 2
    assert "--exploration and --propensity-draws need --log" in done.stderr
