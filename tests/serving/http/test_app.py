"""What the routes answer, without a socket."""

import json
import threading
import time

import numpy as np
import pytest

from cascaderank.serving import Ranker
from cascaderank.serving.http.access import Access
from cascaderank.serving.http.app import build_app
from cascaderank.serving.http.http_limits import HttpLimits
from cascaderank.serving.http.service import Service
from cascaderank.serving.logged_candidates import Sampling
from tests.serving.http.asgi_client import Client
from tests.serving.http.conftest import client_of

TOKEN = "0123456789abcdef-user"
ADMIN = "0123456789abcdef-admin"


def without_times(answer):
    stages = [{k: v for k, v in s.items() if k != "milliseconds"} for s in answer["stages"]]
    return {**answer, "stages": stages, "milliseconds": 0}


def test_answers_are_those_of_the_ranker(client, searcher, bodies):
    for body in bodies:
        expected = searcher.rank(body["request"], body["candidates"], trace=True).to_json()
        reply = client.post("/v1/rank", {**body, "trace": True})
        assert reply.status == 200
        found = reply.json()
        assert (found.pop("variant"), found.pop("bundle")) == ("main", "searching")
        assert len(found.pop("request_id")) == 32
        assert without_times(found) == without_times(json.loads(json.dumps(expected)))


def test_all_arguments_reach_the_ranker(client, searcher, bodies):
    from cascaderank.serving import Condition, Filters, Rerank

    request = bodies[3]["request"]
    first = searcher.rank(request).ids
    body = {
        "request": request,
        "top": 2,
        "quotas": {"retrieval": 20, "preranking": 10},
        "filters": {
            "items": [first[0]],
            "where": [{"feature": "shop", "operator": "in", "value": ["s1", "s2"]}],
        },
        "rerank": {
            "caps": {"shop": 1},
            "pins": [{"item": first[1], "position": 2}],
            "diversity": 0.2,
        },
        "request_id": "r-7",
    }
    expected = searcher.rank(
        request,
        top=2,
        quotas={"retrieval": 20, "preranking": 10},
        filters=Filters(items=[first[0]], where=[Condition("shop", "in", ("s1", "s2"))]),
        rerank=Rerank(caps={"shop": 1}, pins={first[1]: 2}, diversity=0.2),
    )
    found = client.post("/v1/rank", body).json()
    assert [item["id"] for item in found["items"]] == expected.ids
    assert found["filtered"] == expected.filtered > 1
    assert found["request_id"] == "r-7"


def test_rows_and_columns_have_the_same_answer(client, bodies):
    keys = bodies[4]["candidates"]
    answers = [
        client.post("/v1/rank", {**bodies[4], "candidates": given}).json()["items"]
        for given in (keys, {"video": keys}, [{"video": key} for key in keys])
    ]
    assert answers[0] == answers[1] == answers[2]


def changed(body, **members):
    return {**body, **members}


@pytest.mark.parametrize(
    ("change", "field", "expected", "found"),
    [
        ({"request": None}, "request", "an object", "None"),
        ({"top": 0}, "top", "a positive integer", "0"),
        ({"top": 1.0}, "top", "a positive integer", "1.0"),
        ({"top": True}, "top", "a positive integer", "true"),
        ({"tpo": 3}, "body", "some of request", "did you mean 'top'"),
        ({"quotas": [3]}, "quotas", "one quota per stage", "1"),
        ({"quotas": {"retrieval": 81}}, "quotas.retrieval", "at most 80", "81"),
        ({"quotas": "many"}, "quotas", "positive integers", "many"),
        ({"candidates": 7}, "candidates", "a list of keys", "7"),
        ({"candidates": [1, {"video": 1}]}, "candidates", "all keys", "both"),
        ({"candidates": [1.5]}, "candidates", "keys of items", "1.5"),
        ({"candidates": {"video": [[1]]}}, "candidates.video", "keys of items", "[1]"),
        ({"candidates": [{"video": [1]}]}, "candidates[].video", "keys of items", "[1]"),
        ({"candidates": {"video": 7}}, "candidates.video", "a list", "7"),
        ({"deadline_ms": 0}, "deadline_ms", "a positive number", "0"),
        ({"request_id": "é"}, "request_id", "printable ASCII", "é"),
        ({"request_id": ""}, "request_id", "1 to 128", "''"),
        ({"variant": "mian"}, "variant", "one of main", "did you mean 'main'"),
        ({"trace": "yes"}, "trace", "true or false", "yes"),
        ({"filters": {"where": [{"feature": "shop"}]}}, "filters.where[0]", "feature, operator", "shop"),
        ({"filters": {"where": [{"feature": "x", "operator": "=", "value": 1}]}}, "filters", "a feature of items (video, shop", "no feature 'x'"),
        ({"filters": {"where": [{"feature": "shop", "operator": "~", "value": 1}]}}, "filters", "one of", "'~'"),
        ({"rerank": {"pins": [{"item": 1}]}}, "rerank.pins[0]", "item and position", "item"),
        ({"rerank": {"pins": [{"item": 1, "position": 1}] * 2}}, "rerank.pins", "each item once", "twice"),
        ({"rerank": {"diversity": 1}}, "diversity", None, None),
    ],
)  # fmt: skip
def test_invalid_requests_are_answered_by_problems(client, bodies, change, field, expected, found):
    reply = client.post("/v1/rank", changed(bodies[3], **change))
    problem = reply.json()
    assert reply.status == problem["status"] == 422, problem
    assert reply.headers["content-type"] == "application/problem+json"
    assert problem["type"] == "urn:cascaderank:problem:invalid-request"
    assert problem["title"]
    assert problem["detail"]
    assert problem.get("field") == field
    assert (expected or "") in problem.get("expected", "")
    assert (found or "") in problem.get("found", "")


@pytest.mark.parametrize(
    ("name", "value", "expected", "found"),
    [
        ("user", {"a": 1}, "a number, a text", "an object"),
        ("age", "old", "numbers", "'old'"),
        ("age", None, "a number", "none"),
        ("hour", 1e99, "a finite number in the range of float32", "1e+99"),
        ("watched", 7, "a list", "7"),
        ("likes", [None], "without missing values", "None"),
        ("place", [1.0], "2 numbers", "1"),
    ],
)
def test_wrong_values_are_named(client, bodies, name, value, expected, found):
    body = changed(bodies[3], request={**bodies[3]["request"], name: value})
    problem = client.post("/v1/rank", body).json()
    assert problem["field"] == f"request.{name}"
    assert expected in problem["expected"]
    assert found in problem["found"]


def test_a_missing_value_is_named(client, bodies):
    request = {n: v for n, v in bodies[3]["request"].items() if n != "user"}
    problem = client.post("/v1/rank", changed(bodies[3], request=request)).json()
    assert (problem["field"], problem["found"]) == ("request.user", "no such name")


def test_other_paths_methods_and_types_are_problems(client):
    for method, path, headers, status in [
        ("GET", "/nothing", {}, 404),
        ("GET", "/page/../../etc/passwd", {}, 404),
        ("GET", "/page/__init__.py", {}, 404),
        ("GET", "/v1/rank", {}, 405),
        ("DELETE", "/v1/bundle", {}, 405),
        ("POST", "/v1/rank", {"content-type": "text/plain"}, 415),
        ("POST", "/v1/rank", {"content-type": None}, 415),
        ("POST", "/v1/rank", {"content-type": "application/json; charset=latin-1"}, 415),
        ("POST", "/v1/rank", {"content-encoding": "gzip"}, 415),
        ("POST", "/v1/feedback", {}, 400),
        ("POST", "/v1/reload", {}, 403),
        ("GET", "/v1/bundle", {"host": "evil.example"}, 421),
    ]:
        reply = client.send(method, path, headers=headers)
        assert reply.status == status, (path, reply.text)
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.json()["status"] == status
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"


def test_health_bundle_and_openapi(client, service, bodies):
    assert client.get("/health/live").json() == {"live": True}
    assert client.get("/health/ready").json() == {"ready": True}
    described = client.get("/v1/bundle")
    assert described.json()["variants"]["main"]["stages"][0]["quota"] == 8
    assert str(service.folders["main"].parent) not in described.text
    document = client.get("/openapi.json").json()
    examples = document["paths"]["/v1/rank"]["post"]["requestBody"]["content"]["application/json"]
    assert set(examples["examples"]) == {"columns", "search", "keys"}
    for example in examples["examples"].values():
        assert client.post("/v1/rank", example["value"]).status == 200


def test_tokens_are_needed_where_there_are_tokens(service, bodies):
    client = client_of(service, Access(token=TOKEN, admin_token=ADMIN))
    user, admin = {"authorization": f"Bearer {TOKEN}"}, {"authorization": f"bearer {ADMIN}"}
    assert client.get("/health/ready").status == 200
    assert client.get("/health/ready", host="shop.example").status == 200
    for path in ("/v1/bundle", "/metrics", "/openapi.json", "/nothing"):
        refused = client.get(path)
        assert refused.status == 401
        assert refused.headers["www-authenticate"] == "Bearer"
        assert TOKEN not in refused.text
        assert client.get(path, **user).status in (200, 404)
        assert client.get(path, **admin).status == 401
    assert client.post("/v1/rank", bodies[0], authorization=f"Bearer {TOKEN}x").status == 401
    assert client.post("/v1/rank", bodies[0], authorization=TOKEN).status == 401
    assert client.post("/v1/rank", bodies[0], authorization="Bearer \xe9").status == 401
    assert client.post("/v1/rank", bodies[0], **user).status == 200
    assert client.post("/v1/reload", **user).status == 401
    assert client.post("/v1/reload", **admin).json() == {"variants": {"main": "searching"}}


@pytest.fixture
def small(searching_bundle):
    limits = HttpLimits(body_bytes=3000, candidates=12, list_length=5, send_seconds=0.2)
    made = Service({"main": searching_bundle}, limits=limits, workers=1, queue=1)
    yield made
    made.close()


def test_limits_of_bytes_candidates_and_lengths(small, bodies):
    client = client_of(small)
    assert client.post("/v1/rank", bodies[3]).status == 200
    for change, status, text in [
        ({"candidates": list(range(13))}, 422, "at most 12"),
        ({"candidates": {"video": list(range(13))}}, 422, "at most 12"),
        ({"candidates": [{"video": 1}] * 13}, 422, "at most 12"),
        ({"candidates": None, "trace": True}, 422, "at most 12 candidates with a trace"),
        ({"filters": {"items": list(range(13))}}, 422, "at most 12"),
        ({"request": {**bodies[3]["request"], "watched": [1] * 6}}, 422, "at most 5 values"),
        ({"request": {**bodies[3]["request"], "user": "x" * 3000}}, 413, "at most 3,000 bytes"),
    ]:
        reply = client.post("/v1/rank", changed(bodies[3], **change))
        assert reply.status == status, reply.text
        assert text in reply.json()["detail"]
    # a body whose length is stated is refused before it is read; others while they come
    stated = client.send("POST", "/v1/rank", [b""], headers={"content-length": "3001"})
    assert stated.status == 413
    counted = client.send("POST", "/v1/rank", [b" " * 1500] * 3)
    assert counted.status == 413
    assert counted.headers["connection"] == "close"


def test_a_client_that_sends_slowly_is_refused(small):
    started = time.monotonic()
    reply = client_of(small).send("POST", "/v1/rank", [b" "] * 100, pause=0.05)
    assert reply.status == 408
    assert time.monotonic() - started < 2
    assert "bytes came" in reply.json()["detail"]


def occupied(service):
    """Occupy the worker, and all of the queue."""
    gate = threading.Event()
    while service.pool.jobs < service.pool.capacity:
        service.pool.submit(gate.wait)
    return gate


def test_a_full_queue_is_answered_by_503(small, bodies):
    client, gate = client_of(small), occupied(small)
    reply = client.post("/v1/rank", bodies[3])
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) >= 1
    assert reply.json()["type"] == "urn:cascaderank:problem:overloaded"
    assert client.get("/health/live").status == 200
    gate.set()
    assert 'outcome="overloaded"} 1.0' in client.get("/metrics").text


def test_time_in_the_queue_counts_for_the_deadline(small, bodies):
    body = json.dumps({**bodies[3], "deadline_ms": 50}).encode()
    with pytest.raises(Exception, match="its deadline passed") as late:
        small.rank(body, time.perf_counter() - 0.06)
    assert late.value.status == 503
    assert json.loads(small.rank(body, time.perf_counter()))["items"]
    waited = json.loads(small.rank(body, time.perf_counter() - 0.0495))
    assert waited["degraded"] == ["preranking", "ranking"]


class Sink:
    """Keeps what it receives."""

    sampling, exploration = Sampling(size=2), None

    def __init__(self):
        self.served, self.responses, self.full = [], [], False

    def record(self, served, /):
        self.served.append(served)
        return not self.full

    def feedback(self, request_id, item, value, /):
        self.responses.append((request_id, item, value))
        return not self.full


def test_what_is_served_and_feedback_reach_the_sink(searching_bundle, bodies):
    sink = Sink()
    service = Service({"main": searching_bundle}, sink=sink)
    client = client_of(service)
    answer = client.post("/v1/rank", bodies[3]).json()
    client.post("/v1/rank", {**bodies[3], "record": False})
    (served,) = sink.served
    assert (served.request_id, served.bundle) == (answer["request_id"], "searching")
    assert served.request == bodies[3]["request"]
    assert served.answer.logged.keys[:3] == [item["id"] for item in answer["items"]]
    item = answer["items"][0]["id"]
    event = {"request_id": answer["request_id"], "item": item, "value": 1}
    assert client.post("/v1/feedback", event).status == 202
    assert sink.responses == [(answer["request_id"], item, 1.0)]
    for wrong, field in [
        ({**event, "value": "1"}, "value"),
        ({**event, "value": True}, "value"),
        ({**event, "item": [1]}, "item"),
        ({**event, "request_id": 3}, "request_id"),
        ({"item": 1}, "body"),
    ]:
        reply = client.post("/v1/feedback", wrong)
        assert (reply.status, reply.json()["field"]) == (422, field)
    assert client.post("/v1/feedback", content=b'{"value": 1e400}').status == 422
    sink.full = True
    assert client.post("/v1/feedback", event).status == 503
    assert client.post("/v1/rank", bodies[3]).status == 200
    assert "cascaderank_not_logged_total 1.0" in client.get("/metrics").text
    service.close()


def test_without_a_log_feedback_is_refused(client):
    reply = client.post("/v1/feedback", {"request_id": "r", "item": 1, "value": 1})
    assert reply.status == 404
    assert "writes no log" in reply.json()["detail"]


def test_a_bug_is_answered_without_its_reason(service, bodies, monkeypatch, caplog):
    def broken(*_):
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(service, "rank", broken)
    reply = Client(build_app(service)).post("/v1/rank", bodies[3])
    assert reply.status == 500
    assert "secret" not in reply.text


def test_metrics_show_stages_and_drift(searching_bundle, bodies):
    service = Service({"main": searching_bundle}, sample=1)
    client = client_of(service)
    for body in bodies:
        strange = {**body["request"], "user": "nobody", "watched": [-5]}
        strange |= {"seconds": [1.0]}
        assert client.post("/v1/rank", {**body, "request": strange}).status == 200
    service.close()  # finishes what is in the background
    text = client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    came = sum(len(body["candidates"]) for body in bodies)
    stage = 'stage="retrieval",variant="main"'
    labels = '{direction="in",stage="retrieval",variant="main"}'
    assert float(lines[f"cascaderank_stage_candidates_total{labels}"]) == came
    assert float(lines[f"cascaderank_stage_seconds_count{{{stage}}}"]) == len(bodies)
    assert float(lines["cascaderank_request_seconds_count"]) == len(bodies)
    for feature in ("user", "watched"):
        rate = (
            f'cascaderank_out_of_vocabulary_rate{{feature="{feature}",source="%s",variant="main"}}'
        )
        assert float(lines[rate % "serving"]) == 1
        assert float(lines[rate % "training"]) < 0.9
    golden = Ranker.load(searching_bundle).bundle
    from cascaderank.serving.golden import GoldenScores

    expected = np.quantile(GoldenScores.open(golden.folder).scores[0], 0.5)
    name = 'cascaderank_score_quantile{quantile="0.5",source="training",stage="retrieval",variant="main"}'
    assert float(lines[name]) == pytest.approx(expected)
    assert np.isfinite(float(lines[name.replace("training", "serving")]))
