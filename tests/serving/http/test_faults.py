"""A server that is killed under load, one with too many requests, and memory over many requests."""

import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from tests.serving.http.load_client import at_rate, encoded, one_after_another, percentile
from tests.serving.http.server_process import serving

pytestmark = pytest.mark.slow


def cpu_seconds(process):
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def parts_of(log):
    """Return the number of parts that the manifest of a log lists."""
    manifest = log / "manifest.json"
    return len(json.loads(manifest.read_text())["parts"]) if manifest.exists() else 0


def test_a_server_killed_under_load(searching_bundle, bodies, tmp_path):
    """Its log has complete parts, without a request twice; the next server continues it."""
    log, answered, logged = tmp_path / "log", set(), 0
    words = ["--log", str(log), "--log-requests", "40", "--log-seconds", "1", "--queue", "64"]

    def requests():
        for number in itertools.count():
            body = {**bodies[number % 8], "request_id": f"{time.monotonic_ns()}-{number}"}
            yield encoded(json.dumps(body).encode())

    def of_reply(reply):
        if reply.status == 200:
            answered.add(json.loads(reply.content)["request_id"])

    for _ in range(3):
        began = time.perf_counter()
        with serving(searching_bundle, *words) as server:
            ready = time.perf_counter() - began, cpu_seconds(server.process)
            before = parts_of(log)
            load = threading.Thread(
                target=one_after_another,
                args=(server.port, requests()),
                kwargs={"clients": 8, "of_reply": of_reply},
            )
            load.start()
            end = time.monotonic() + 60
            while parts_of(log) < before + 3:
                assert time.monotonic() < end
                time.sleep(0.003)
            server.process.kill()
            load.join(60)
        found = RequestLog.open(log)
        ids = pl.concat(found.frames(["request_id"]))["request_id"]
        print(f"ready after {ready[0]:.1f} s, {ready[1]:.1f} s of a processor; {len(ids)} logged")
        assert ready[1] < 6, "seconds of a processor; a busy machine takes longer"
        assert found.manifest.requests == len(ids) == ids.n_unique()
        assert len(ids) >= logged + 3
        assert len(set(ids) - answered) <= 8 * 3, "answers that were not received"
        logged = len(ids)


def test_five_times_what_a_server_can_answer(searching_bundle, bodies):
    """What is accepted does not wait longer than the queue; the rest is refused at once."""
    requests = [encoded(json.dumps(body).encode()) for body in bodies]
    with serving(searching_bundle, "--workers", "2") as server:
        port = server.port
        one_after_another(port, itertools.cycle(requests), clients=2, seconds=1)
        counts = one_after_another(port, itertools.cycle(requests), clients=3, seconds=3)
        saturation = counts[200] / 3
        usual = at_rate(port, requests, per_second=0.4 * saturation, seconds=4)
        many = at_rate(port, requests, per_second=5 * saturation, seconds=4)
        after = at_rate(port, requests, per_second=0.2 * saturation, seconds=3)
    accepted = [reply for reply in many if reply.status == 200]
    refused = [reply for reply in many if reply.status != 200]
    assert {reply.status for reply in refused} == {503}
    assert all(b"\nretry-after: " in reply.headers for reply in refused)
    assert all(b"problem:overloaded" in reply.content for reply in refused)
    assert len(refused) > len(many) / 4
    for name, replies in (
        ("usual", usual), ("accepted", accepted), ("refused", refused), ("after", after),
    ):  # fmt: skip
        times = [round(percentile(replies, q), 1) for q in (50, 99)]
        print(f"{name}: {len(replies)}, p50 and p99 {times} ms")
    print(f"saturation {saturation:.0f}/s")
    statuses = Counter(reply.status for reply in after)
    # Client, server and neighbours share the processors: only a growing backlog is excluded.
    assert set(statuses) <= {200, 503}
    assert statuses[200] > len(after) / 2, statuses
    assert percentile(after, 50) < 10 * percentile(usual, 50) + 50


def resident(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])  # KiB


def test_memory_is_flat(searching_bundle, bodies, tmp_path):
    """With log, feedback and metrics; set CASCADERANK_LONG to the number of requests for more."""
    total = int(os.environ.get("CASCADERANK_LONG", "12_000"))
    each, clicks = max(1, total // 40), []

    def of_reply(reply):
        if reply.status == 200 and reply.content.startswith(b'{"request_id"'):
            answer = json.loads(reply.content)
            event = {"request_id": answer["request_id"], "item": answer["items"][0]["id"]}
            clicks[:] = [encoded(json.dumps({**event, "value": 1}).encode(), "/v1/feedback")]

    def requests(first):
        for number in range(first, first + each):
            body = bodies[number % len(bodies)]
            body = {**body, "request": {**body["request"], "user": f"u{number}"}}
            yield encoded(json.dumps(body).encode())
            yield from clicks[: number % 5 == 0]
            if number % 100 == 0:
                yield b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n"

    log = str(tmp_path / "log")
    with serving(searching_bundle, "--log", log, "--log-seconds", "2") as server:
        sizes = []
        for first in range(0, total, each):
            one_after_another(server.port, requests(first), clients=4, of_reply=of_reply)
            sizes.append(resident(server.process))
        server.stop()
    late = np.arange(len(sizes)) >= len(sizes) // 2
    slope = np.polyfit(np.flatnonzero(late) * each, np.array(sizes)[late], 1)[0] * 1024
    print(f"{sizes[0] // 1024} MiB, then {sizes[-1] // 1024} MiB; {slope:.0f} bytes a request")
    assert RequestLog.open(log).manifest.requests >= total
    assert slope < 2_000, sizes


def test_loading_a_bundle_imports_no_compiler(searching_bundle):
    code = (
        "import sys; from cascaderank.serving import Ranker; Ranker.load(sys.argv[1]);"
        "print(*{'torch._dynamo', 'sympy', 'lightgbm', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, searching_bundle], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"
