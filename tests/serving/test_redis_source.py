"""Item features in a real Redis: used, absent, gone and back."""

import shutil
import socket
import subprocess
import sys
import time

import polars as pl
import pytest
import redis

from cascaderank.errors import ConfigError, DataError, MissingExtraError
from cascaderank.runs.load import load_run
from cascaderank.serving import FeatureSource, Ranker, RedisSource
from tests.serving.conftest import market_frame, request_of

FRAME = market_frame(20)
ROW = FRAME.row(11, named=True)  # of several candidates


class Server:
    """A redis-server at a socket in a folder."""

    def __init__(self, folder):
        self.path, self.process = folder / "redis.sock", None
        self.url = f"unix://{self.path}"
        self.words = ["redis-server", "--port", "0", "--unixsocket", str(self.path), "--dir", str(folder)]  # fmt: skip

    def start(self):
        self.process = subprocess.Popen(self.words, stdout=subprocess.DEVNULL)
        with redis.Redis.from_url(self.url) as client:
            for _ in range(500):
                try:
                    return client.ping()
                except redis.ConnectionError:
                    time.sleep(0.02)
        raise TimeoutError("redis-server did not start")

    def stop(self):
        """Stop it, which writes its values."""
        if self.process is not None:
            with redis.Redis.from_url(self.url) as client:
                client.shutdown(save=True)
            self.process.wait(10)
            self.process = None


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server on this machine; apt-get install redis-server")
    server = Server(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(running):
    if running.process is None:
        running.start()
    with redis.Redis.from_url(running.url) as client:
        client.flushall()
    return running


@pytest.fixture
def source(server):
    found = RedisSource(server.url, features=["price", "genres"], pause_ms=50, timeout_ms=2000)
    yield found
    found.close()


def ranked(ranker):
    return ranker.rank(request_of(ROW), ROW["video"], trace=True)


def test_values_of_redis_replace_those_of_the_catalogue(source, searching_bundle, searching_run):
    assert isinstance(source, FeatureSource)
    prices = [None, *(float(i) for i in range(1, len(ROW["video"])))]
    genres = [["film", "news"] for _ in prices]
    source.write(
        {
            key: {"price": price, "genres": of}
            for key, price, of in zip(ROW["video"], prices, genres, strict=True)
        }
    )
    answer = ranked(Ranker.load(searching_bundle, source=source))
    row = {**ROW, "price": prices, "genres": genres}
    scored = load_run(searching_run).score(pl.DataFrame([row], schema_overrides=FRAME.schema))
    expected = scored["score/retrieval"][0].to_numpy()
    assert answer.trace.scores["retrieval"] == pytest.approx(expected, abs=1e-5)
    assert answer.stale == ()


def test_an_item_or_feature_that_redis_lacks_has_the_value_of_the_catalogue(
    source, searching_bundle, searcher, bundle
):
    catalogue = ranked(searcher).trace.scores["retrieval"]
    ranker = Ranker.load(searching_bundle, source=source)
    for _ in range(2):
        answer = ranked(ranker)
        assert answer.trace.scores["retrieval"] == pytest.approx(catalogue, abs=1e-5)
        assert answer.stale == ()
        source.write({ROW["video"][0]: {"genres": searcher.bundle.items.raw.filter(video=ROW["video"][0])["genres"][0].to_list()}})  # fmt: skip
    source.write({ROW["video"][1]: {"price": 1e4}})
    scores = ranked(ranker).trace.scores["retrieval"]
    assert (abs(scores - catalogue) > 1e-3).tolist() == [i == 1 for i in range(len(scores))]
    # One by one, and in a search of all items, whose candidates have no list of places.
    assert len(ranker.rank(request_of(ROW)).ids) == 3


def test_a_feature_that_neither_redis_nor_the_catalogue_has_is_an_error(server, bundle):
    source = RedisSource(server.url, features=["distance"], timeout_ms=2000)
    ranker = Ranker.load(bundle, source=source)
    source.write({key: {"distance": 0.5} for key in ROW["video"][1:]})
    with pytest.raises(DataError, match=f"source of 'distance' has no value for {ROW['video'][0]}"):
        ranker.rank(request_of(ROW), ROW["video"], quotas=[99, 99, 99])
    source.write({ROW["video"][0]: {"distance": 0.5}})
    assert ranked(ranker).ids
    source.close()


def test_redis_goes_and_comes_back(source, server, searching_bundle, searcher):
    source.write({key: {"price": 77.0} for key in ROW["video"]})
    ranker = Ranker.load(searching_bundle, source=source)
    with_redis, without = ranked(ranker), ranked(searcher)
    assert with_redis.scores != without.scores
    server.stop()
    for _ in range(3):
        answer = ranked(ranker)
        assert set(answer.stale) == {"price", "genres"}
        assert answer.ids == without.ids
        assert answer.scores == pytest.approx(without.scores, abs=1e-5)
    server.start()
    time.sleep(0.06)  # the pause
    answer = ranked(ranker)
    assert answer.stale == ()
    assert answer.scores == with_redis.scores
    server.stop()
    server.start()  # between two requests: the connection is opened anew, unnoticed
    assert ranked(ranker).stale == ()


def test_requests_do_not_wait_for_a_server_that_does_not_answer(searching_bundle):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}"
        source = RedisSource(url, features=["price"], timeout_ms=300, pause_ms=60_000)
        ranker = Ranker.load(searching_bundle, source=source)
        times = []
        for _ in range(2):
            started = time.perf_counter()
            assert ranked(ranker).stale == ("price",)
            times.append(time.perf_counter() - started)
        assert 0.25 < times[0] < 2.0, "one attempt, though three stages read the feature"
        assert times[1] < 0.25, "no attempt before the pause is over"
        source.close()


def test_a_value_that_is_no_object_is_named(source, server, searching_bundle):
    ranker = Ranker.load(searching_bundle, source=source)
    with redis.Redis.from_url(server.url) as client:
        for value in (b"12", b"{", b"\xff", b"[" * 100_000):
            client.set(f"item:{ROW['video'][0]}", value)
            with pytest.raises(DataError, match=rf"key 'item:{ROW['video'][0]}': expected a JSON object"):  # fmt: skip
                ranked(ranker)
        client.delete(f"item:{ROW['video'][0]}")
        client.hset(f"item:{ROW['video'][0]}", "price", 3)  # another type counts as none
    assert ranked(ranker).stale == ()


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("localhost:6379", {}, "expected an address such as redis://localhost:6379/0"),
        ("redis://h:port/0", {}, "expected an address"),
        ("redis://h", {"features": "price"}, "names of some features; got 'price'"),
        ("redis://h", {"features": []}, "names of some features"),
        ("redis://h", {"timeout_ms": 0}, "timeout_ms must be a positive number; got 0"),
        ("redis://h", {"pause_ms": float("nan")}, "pause_ms must be a positive number"),
    ],
)
def test_wrong_arguments_are_named(url, options, message):
    with pytest.raises(ConfigError, match=message):
        RedisSource(url, **{"features": ["price"], **options})


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"redis is not installed.*cascaderank\[redis\]"):
        RedisSource("redis://h", features=["price"])
