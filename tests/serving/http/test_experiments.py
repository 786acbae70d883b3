"""Two bundles side by side, and a bundle that is replaced while it is served."""

import json
import shutil
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from cascaderank.serving import Ranker
from cascaderank.serving.http.access import Access
from cascaderank.serving.http.loaded_bundles import load_bundles
from cascaderank.serving.http.service import Service
from cascaderank.serving.variant_routing import Routing
from tests.serving.http.conftest import client_of
from tests.serving.http.test_app import ADMIN, Sink

BOTH = ("main", "other")


def served(folders, **routing):
    return Service(folders, routing=Routing(variants=tuple(folders), **routing))


def ids_of(answer):
    return [item["id"] for item in answer["items"]]


@pytest.fixture(scope="module")
def folders(searching_bundle, other_bundle):
    return {"main": searching_bundle, "other": other_bundle}


@pytest.fixture(scope="module")
def rankers(folders):
    return {name: Ranker.load(folder) for name, folder in folders.items()}


def test_a_share_of_the_users_is_answered_by_the_other_bundle(folders, rankers, bodies):
    service = served(folders, ab={"other": 0.4}, key="user")
    client, found = client_of(service), Counter()
    for number in range(60):
        request = {**bodies[3]["request"], "user": f"u{number % 20}"}
        answer = client.post("/v1/rank", {**bodies[3], "request": request}).json()
        assert answer["bundle"] == rankers[answer["variant"]].name
        expected = rankers[answer["variant"]].rank(request, bodies[3]["candidates"]).ids
        assert ids_of(answer) == expected
        found[f"u{number % 20}", answer["variant"]] += 1
    assert len(found) == 20  # the same variant for each user every time
    assert {variant for _, variant in found} == set(BOTH)
    chosen = client.post("/v1/rank", {**bodies[3], "variant": "other"}).json()
    assert chosen["variant"] == "other"
    service.close()


def test_a_shadow_is_counted_and_never_returned(folders, rankers, bodies):
    sink, shadows = Sink(), Sink()
    service = Service(
        folders,
        routing=Routing(variants=BOTH, shadow=["other"]),
        sink=sink,
        shadow_sinks={"other": shadows},
    )
    client = client_of(service)
    for body in bodies:
        answer = client.post("/v1/rank", body).json()
        assert answer["variant"] == "main"
        assert ids_of(answer) == rankers["main"].rank(body["request"], body["candidates"]).ids
    service.close()
    assert {each.variant for each in sink.served} == {"main"}
    assert [each.variant for each in shadows.served] == ["other"] * len(bodies)
    for each, body in zip(shadows.served, bodies, strict=True):
        assert each.bundle == "challenger"
        assert each.answer.ids == rankers["other"].rank(body["request"], body["candidates"]).ids
    text = client.get("/metrics").text
    assert f'cascaderank_shadow_overlap_count{{variant="other"}} {len(bodies)}.0' in text


def test_each_shadow_has_a_log_of_its_own(folders, bodies):
    sinks = {"other": Sink(), "third": Sink()}
    service = Service(
        {**folders, "third": folders["main"]},
        routing=Routing(variants=(*BOTH, "third"), shadow=["other", "third"]),
        sink=Sink(),
        shadow_sinks=sinks,
    )
    client = client_of(service)
    for body in bodies[:4]:
        assert client.post("/v1/rank", body).status == 200
    service.close()
    found = {name: [each.variant for each in sink.served] for name, sink in sinks.items()}
    assert found == {"other": ["other"] * 4, "third": ["third"] * 4}


def test_an_answer_never_waits_for_a_shadow(folders, bodies, monkeypatch):
    service, gate = served(folders, shadow=["other"]), threading.Event()
    rank, started = Service._ranked, threading.Event()

    def blocked(self, ranker, *args, **options):
        if ranker.name == "challenger":
            started.set()
            gate.wait(30)
        return rank(self, ranker, *args, **options)

    monkeypatch.setattr(Service, "_ranked", blocked)
    client = client_of(service)
    for _ in range(40):  # more than the background keeps
        assert client.post("/v1/rank", bodies[3]).status == 200
    assert started.is_set()
    gate.set()
    service.close()
    text = client.get("/metrics").text
    assert 'cascaderank_background_jobs_total{outcome="dropped",reason="shadow"} 23.0' in text


def test_an_interleaved_list_names_the_team_of_each_item(folders, rankers, bodies):
    sink = Sink()
    service = Service(folders, routing=Routing(variants=BOTH, interleave="other"), sink=sink)
    client, firsts = client_of(service), Counter()
    for number in range(40):
        body = {**bodies[number % 8], "candidates": None, "request_id": f"r{number}"}
        answer = client.post("/v1/rank", body).json()
        again = client.post("/v1/rank", body).json()
        assert answer["items"] == again["items"]
        lists = {name: rankers[name].rank(body["request"]) for name in BOTH}
        assert answer["variant"] == "main+other"
        assert len(answer["items"]) == 3
        for item in answer["items"]:
            of = lists[item["team"]]
            assert item["score"] == pytest.approx(of.scores[of.ids.index(item["id"])])
        assert answer["items"][0]["id"] == lists[answer["items"][0]["team"]].ids[0]
        assert answer["interleaved"]["bundle"] == "challenger"
        firsts[answer["items"][0]["team"]] += 1
        logged = sink.served[-1]
        assert logged.variant == "main+other"
        assert logged.teams == [item["team"] for item in answer["items"]]
        assert logged.answer.logged.keys[:3] == logged.answer.ids == ids_of(answer)
    assert min(firsts.values()) > 8
    alone = client.post("/v1/rank", {**bodies[3], "variant": "main"}).json()
    assert "interleaved" not in alone
    assert (sink.served[-1].variant, sink.served[-1].teams) == ("main", None)
    service.close()


@pytest.fixture
def replaced(tmp_path, searching_bundle):
    """Folder of a bundle that the tests may replace."""
    folder = tmp_path / "bundle"
    shutil.copytree(searching_bundle, folder)
    return folder


def replace(folder, by):
    shutil.rmtree(folder)
    shutil.copytree(by, folder)


def admin(service):
    return client_of(service, Access(admin_token=ADMIN))


ASKED = {"authorization": f"Bearer {ADMIN}"}


def test_a_reload_serves_the_new_bundle_and_requests_in_flight_end_on_the_old(
    replaced, other_bundle, rankers, bodies, monkeypatch
):
    service = Service({"main": replaced})
    client, gate, begun = admin(service), threading.Event(), threading.Event()
    rank = Service._answer

    def slow(self, loaded, *args):
        begun.set()
        gate.wait(30)
        return rank(self, loaded, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Service, "_answer", slow)
        body = json.dumps({**bodies[3], "candidates": None}).encode()
        in_flight = service.pool.submit(lambda: service.rank(body, 1e12))
        begun.wait(30)
        replace(replaced, other_bundle)
        assert client.post("/v1/reload", **ASKED).json() == {"variants": {"main": "challenger"}}
        gate.set()
        old = json.loads(in_flight.result(30))
    assert old["bundle"] == "searching"
    assert ids_of(old) == rankers["main"].rank(bodies[3]["request"]).ids
    new = client.post("/v1/rank", {**bodies[3], "candidates": None}).json()
    assert new["bundle"] == "challenger"
    assert ids_of(new) == rankers["other"].rank(bodies[3]["request"]).ids
    service.close()


def damage(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def half(folder):
    path = folder / "items.arrow"
    path.write_bytes(path.read_bytes()[:100])


def older(folder):
    path = folder / "bundle.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))


@pytest.mark.parametrize(
    ("ruin", "text"),
    [
        (damage, "changed since the export"),
        (half, "half-copied"),
        (older, "expected a bundle of format 1"),
        (shutil.rmtree, "expected a bundle"),
    ],
)
def test_a_bundle_that_cannot_be_loaded_leaves_the_old_one(
    replaced, other_bundle, bodies, ruin, text
):
    service = Service({"main": replaced})
    client = admin(service)
    replace(replaced, other_bundle)
    ruin(replaced)
    reply = client.post("/v1/reload", **ASKED)
    assert reply.status == 409
    assert reply.json()["type"] == "urn:cascaderank:problem:bundle-unusable"
    assert text in reply.json()["detail"]
    answer = client.post("/v1/rank", bodies[3]).json()
    assert answer["bundle"] == "searching"
    assert 'cascaderank_reloads_total{outcome="failed"} 1.0' in client.get("/metrics").text
    service.close()


def test_a_link_is_followed_at_each_reload(tmp_path, folders, bodies):
    link = tmp_path / "current"
    link.symlink_to(folders["main"])
    service = Service({"main": link})
    client = admin(service)
    link.unlink()
    link.symlink_to(folders["other"])
    assert client.post("/v1/rank", bodies[3]).json()["bundle"] == "searching"
    assert client.post("/v1/reload", **ASKED).status == 200
    assert client.post("/v1/rank", bodies[3]).json()["bundle"] == "challenger"
    service.close()


def test_one_reload_at_a_time(replaced, monkeypatch):
    service, begun, gate = Service({"main": replaced}), threading.Event(), threading.Event()
    client = admin(service)

    def slow(*arguments):
        begun.set()
        gate.wait(30)
        return load_bundles(*arguments)

    monkeypatch.setattr("cascaderank.serving.http.service.load_bundles", slow)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/v1/reload", **ASKED)
        assert begun.wait(30)
        for _ in range(2):
            reply = client.post("/v1/reload", **ASKED)
            assert (reply.status, reply.headers["retry-after"]) == (409, "5")
            assert reply.json()["type"] == "urn:cascaderank:problem:reload-running"
        gate.set()
        assert first.result(30).status == 200
    assert client.post("/v1/reload", **ASKED).status == 200
    assert 'outcome="overloaded"' not in client.get("/metrics").text
    service.close()
