"""What the writer of a served log counts and keeps: on a full disk, and with odd requests."""

import shutil
import time

import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.serving import (
    Bundle,
    Condition,
    Filters,
    LogSettings,
    Ranker,
    Sampling,
    ServedLogWriter,
    served_feedback,
    served_parts,
)
from cascaderank.serving.served_feedback import PendingFeedback
from cascaderank.serving.served_writer import ServedWriter
from tests.serving.conftest import request_of
from tests.serving.test_served_log import REQUESTS, rows_of, serve, served_as


@pytest.fixture
def disk(monkeypatch):
    """A disk that fails while ``full`` is set, and counts attempts to write a part."""

    class Disk:
        full, attempts = False, 0

    write = served_parts.write_frame

    def written(path, frame):
        Disk.attempts += 1
        if Disk.full:
            raise OSError(28, "No space left on device")
        return write(path, frame)

    monkeypatch.setattr(served_parts, "write_frame", written)
    return Disk


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""

    class Clock:
        now = time.monotonic()

    monkeypatch.setattr("cascaderank.serving.served_writer.time.monotonic", lambda: Clock.now)
    return Clock


def take(writer, ranker, numbers):
    """Give requests to a writer, and return the first item of each answer."""
    first = []
    for number in numbers:
        request = request_of(REQUESTS[number])
        answer = ranker.rank(request, request_id=f"r{number}", sampling=Sampling(size=2))
        writer.take(served_as(f"r{number}", request, answer, ranker))
        first.append(answer.ids[0])
    return first


def test_feedback_survives_a_disk_that_is_full_for_a_time(searcher, tmp_path, disk, clock):
    settings = LogSettings(requests_per_part=3, seconds_per_part=60)
    writer = ServedWriter(tmp_path / "log", searcher.bundle, settings)
    (early,) = take(writer, searcher, [0])
    writer.rotate(everything=True)
    disk.full, disk.attempts = True, 0
    late = take(writer, searcher, [1, 2, 3])
    writer.respond("r0", early, 1)
    writer.respond("r1", late[0], 2)
    for _ in range(10):  # ticks
        clock.now += 0.25
        writer.rotate(everything=False)
    part_and_feedback = 2
    assert disk.attempts == part_and_feedback, "a failure is not repeated at each tick"
    assert "No space left" in writer.status.problem
    for _ in range(3):
        clock.now += 60
        writer.rotate(everything=False)
    assert disk.attempts == 4 * part_and_feedback
    assert (writer.status.written, writer.status.joined, writer.status.unmatched) == (1, 0, 0)
    disk.full = False
    clock.now += 60
    writer.rotate(everything=False)
    writer.close()
    assert (writer.status.written, writer.status.joined, writer.status.unmatched) == (4, 2, 0)
    sums = {row["request_id"]: sum(row["feedback"]) for row in rows_of(tmp_path / "log")}
    assert sums == {"r0": 1, "r1": 2, "r2": 0, "r3": 0}


def test_feedback_to_requests_that_wait_does_not_age(searcher, tmp_path, disk):
    writer = ServedWriter(tmp_path / "log", searcher.bundle, LogSettings())
    disk.full = True
    (item,) = take(writer, searcher, [0])
    writer.respond("r0", item, 1)
    for _ in range(3):
        writer.rotate(everything=True)
    disk.full = False
    writer.rotate(everything=True)
    writer.close()
    assert (writer.status.joined, writer.status.unmatched) == (1, 0)


def test_an_unexpected_error_of_the_disk_is_not_repeated_at_each_tick(
    searcher, tmp_path, monkeypatch, clock
):
    writer = ServedWriter(tmp_path / "log", searcher.bundle, LogSettings(requests_per_part=3))
    attempts = []

    def fails(*_):
        attempts.append(1)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(served_parts, "write_frame", fails)
        take(writer, searcher, [1, 2, 3])
        for _ in range(10):
            clock.now += 0.25
            writer.rotate(everything=False)
    assert (len(attempts), writer.status.problem) == (1, "MemoryError")
    writer.rotate(everything=True)
    writer.close()
    assert (writer.status.written, writer.status.lost) == (3, 0)


def test_a_part_that_cannot_be_read_keeps_the_feedback(searcher, tmp_path):
    log = tmp_path / "log"
    writer = ServedWriter(log, searcher.bundle, LogSettings())
    (item,) = take(writer, searcher, [0])
    writer.rotate(everything=True)
    (part,) = log.glob("requests/*/*.parquet")
    content = part.read_bytes()
    part.write_bytes(b"damaged")
    writer.respond("r0", item, 1)
    for _ in range(5):
        writer.rotate(everything=True)
    assert f"{part}: cannot be read: " in writer.status.problem
    assert (writer.status.joined, writer.status.unmatched) == (0, 0)
    part.write_bytes(content)
    writer.rotate(everything=True)
    writer.close()
    assert (writer.status.joined, writer.status.unmatched) == (1, 0)
    assert sum(rows_of(log)[0]["feedback"]) == 1


def test_requests_that_a_full_disk_cannot_take_are_dropped_and_counted(searcher, tmp_path, disk):
    settings = LogSettings(requests_per_part=3)
    writer = ServedWriter(tmp_path / "log", searcher.bundle, settings)
    disk.full, disk.attempts = True, 0
    for number in range(13):
        take(writer, searcher, [number])
        writer.rotate(everything=False)
    assert (disk.attempts, writer.status.dropped) == (3, 12), "after 3, 6 and 12 requests"
    disk.full = False
    take(writer, searcher, [20])
    writer.rotate(everything=True)
    writer.close()
    assert (writer.status.written, writer.status.lost) == (2, 12)
    assert [row["request_id"] for row in rows_of(tmp_path / "log")] == ["r12", "r20"]
    assert RequestLog.open(tmp_path / "log").manifest.extra["served"]["lost"] == 12


def test_an_answer_without_candidates_is_not_lost(searcher, tmp_path, caplog):
    request, nothing = request_of(REQUESTS[0]), Filters(where=[Condition("video", ">", 0)])
    with ServedLogWriter(tmp_path / "log", searcher) as log:
        serve(log, searcher, REQUESTS[:2])
        answer = searcher.rank(request, filters=nothing, request_id="none", sampling=log.sampling)
        assert answer.ids == []
        log.record(served_as("none", request, answer, searcher))
    assert (log.status.recorded, log.status.written, log.status.empty) == (3, 2, 1)
    assert (log.status.lost, log.status.problem, caplog.text) == (0, None, "")
    assert len(rows_of(tmp_path / "log")) == 2


def test_a_log_needs_no_file_of_a_bundle_that_is_loaded(searching_bundle, bundle, tmp_path):
    copy = shutil.copytree(searching_bundle, tmp_path / "copy")
    first = Ranker.load(searching_bundle)
    loaded = [Ranker.load(copy), Ranker.load(copy)]
    with ServedLogWriter(tmp_path / "log", first) as log:
        shutil.rmtree(copy)  # after a reload of the server, whose log goes on
        serve(log, loaded[0], REQUESTS[:2], prefix="removed")
        log.flush()
        shutil.copytree(bundle, copy)  # of other features
        serve(log, loaded[1], REQUESTS[:2], prefix="replaced")
    assert (log.status.recorded, log.status.written, log.status.refused) == (4, 4, 0)
    with ServedLogWriter(tmp_path / "log", loaded[0]) as log:
        serve(log, loaded[0], REQUESTS[:1])
    assert log.status.written == 1


def test_types_of_the_log_are_those_of_the_run(searching_bundle, market):
    types = Bundle.load(searching_bundle).log_types
    frame = next(market.frames())
    assert {name: types[name] for name in market.schema.names if name != "distance"} == {
        name: frame.schema[name] for name in market.schema.names if name != "distance"
    }


def test_an_unexpected_error_of_one_request_is_counted_once(searching_bundle, tmp_path, caplog):
    class Source:
        features = ("price",)
        works = True

        def values(self, request, keys, features):
            if not self.works and request["user"] == REQUESTS[1]["user"]:
                raise LookupError("a bug of the source")
            return {"price": [1.0] * len(keys)}

    source = Source()
    ranker = Ranker.load(searching_bundle, source=source)
    writer = ServedWriter(tmp_path / "log", ranker.bundle, LogSettings())
    take(writer, ranker, [0, 1, 2])
    source.works = False  # when rows are converted
    writer.rotate(everything=True)
    writer.close()
    assert (writer.status.written, writer.status.refused) == (2, 1)
    assert caplog.text.count("a bug of the source") == 1
    assert {row["request_id"] for row in rows_of(tmp_path / "log")} == {"r0", "r2"}


def test_requests_that_are_all_refused_age_no_feedback_at_each_tick(
    searching_bundle, tmp_path, clock
):
    class Source:
        features = ("price",)
        works = True

        def values(self, request, keys, features):
            if not self.works:
                raise LookupError("a bug of the source")
            return {"price": [1.0] * len(keys)}

    source = Source()
    ranker = Ranker.load(searching_bundle, source=source)
    writer = ServedWriter(tmp_path / "log", ranker.bundle, LogSettings(requests_per_part=3))
    take(writer, ranker, [0, 1, 2])
    writer.respond("later", 100, 1)
    source.works = False
    for _ in range(10):
        clock.now += 0.25
        writer.rotate(everything=False)
    assert (writer.status.refused, writer.status.unmatched) == (3, 0)
    writer.close()


def test_an_unexpected_error_of_a_bundle_is_counted(searcher, searching_bundle, tmp_path, caplog):
    other = Ranker.load(searching_bundle)
    writer = ServedWriter(tmp_path / "log", searcher.bundle, LogSettings())
    object.__setattr__(other.bundle, "log_types", None)
    take(writer, other, [0, 1])
    writer.close()
    assert writer.status.refused == writer.status.lost == 2
    assert caplog.text.count("served log:") == 1


def test_the_bound_on_feedback_that_waits_counts_responses(monkeypatch):
    monkeypatch.setattr(served_feedback, "_MOST_PENDING", 5)
    pending = PendingFeedback()
    assert [pending.add("a", item, 1.0) for item in range(7)] == [True] * 5 + [False] * 2
    assert pending.add("a", 0, 3.0), "an item that waits can be replaced"
    assert not pending.add("b", 0, 1.0)
    assert (len(pending), pending.by_request["a"][0]) == (5, 3.0)
    pending.remove({("a", 0), ("a", 1), ("nobody", 1)})
    assert len(pending) == 3
    assert pending.add("b", 0, 1.0)
    assert [pending.age(last=False) for _ in range(3)] == [0, 4, 0]
    assert len(pending) == len(pending.by_request) == 0
    assert pending.add("c", 0, 1.0)
    assert pending.age(last=True) == 1


def test_feedback_without_room_is_counted(searcher, tmp_path, monkeypatch):
    monkeypatch.setattr(served_feedback, "_MOST_PENDING", 2)
    writer = ServedWriter(tmp_path / "log", searcher.bundle, LogSettings())
    for item in range(5):
        writer.respond("r0", item, 1)
    writer.close()
    assert writer.status.unmatched == 3
