"""No body, however malformed, is answered by an error of the server."""

import contextlib
import json
import re
import subprocess
import sys
from collections import Counter
from typing import get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cascaderank.data.log.request_log import RequestLog
from cascaderank.serving.filters import Operator
from tests.serving.http.asgi_client import Reply
from tests.serving.http.server_process import serving

NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, 2**64, -(2**63) - 1, 0, -1])
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(max_size=8)
ANY = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
PATHS = [
    ("request",), ("candidates",), ("top",), ("quotas",), ("filters",), ("rerank",), ("trace",),
    ("deadline_ms",), ("request_id",), ("variant",), ("record",),
    *[("request", n) for n in ("user", "hour", "age", "device", "likes", "place", "watched", "seconds", "query")],
    *[("candidates", n) for n in ("video", "shop", "price", "weight", "distance", "genres", "text")],
    ("quotas", "retrieval"), ("quotas", "ranking"),
    ("filters", "items"), ("filters", "where"),
    ("rerank", "caps"), ("rerank", "caps", "shop"), ("rerank", "caps", "genres"),
    ("rerank", "pins"), ("rerank", "diversity"),
]  # fmt: skip
FEATURES = ("video", "shop", "price", "weight", "distance", "genres", "text", "nothing")
WHERE = st.fixed_dictionaries(
    {
        "feature": st.sampled_from(FEATURES),
        "operator": st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "in", "not in", "has", "~"]),
        "value": ANY,
    }
)
MANY = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def check(reply):
    """Check that a reply is an answer, or a problem document that names what is wrong."""
    assert reply.status in (200, 400, 404, 413, 422), reply.text
    if reply.status == 200:
        return
    problem = reply.json()
    assert problem["status"] == reply.status
    assert problem["detail"]
    assert "Traceback" not in reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    if reply.status != 404:
        assert problem["field"], problem
        assert problem["expected"], problem
        assert problem["found"], problem


def put(body, path, value):
    """Return a body with a value at a path; parents that are no objects are replaced."""
    first, *rest = path
    inner = body.get(first)
    new = put(inner if isinstance(inner, dict) else {}, rest, value) if rest else value
    return {**body, first: new}


@MANY
@given(st.lists(st.tuples(st.sampled_from(PATHS), ANY), min_size=1, max_size=3), st.integers(0, 7))
def test_any_value_in_any_place(client, bodies, changes, number):
    body = bodies[number]
    for path, value in changes:
        body = put(body, path, value)
    check(client.post("/v1/rank", body))


@MANY
@given(st.lists(WHERE, min_size=1, max_size=3), st.integers(0, 7), st.booleans())
def test_any_condition(client, bodies, where, number, search):
    body = {**bodies[number], "filters": {"where": where}}
    check(client.post("/v1/rank", {**body, "candidates": None} if search else body))


@MANY
@given(
    st.lists(
        st.dictionaries(st.sampled_from(FEATURES), SCALARS | st.lists(SCALARS, max_size=3)),
        max_size=4,
    ),
    st.integers(0, 7),
)
@example([{"video": 100, "weight": [1.0]}, {"video": 103, "weight": 1.0}], 3)
def test_any_rows(client, bodies, rows, number):
    check(client.post("/v1/rank", {**bodies[number], "candidates": rows}))


def test_the_problem_of_a_candidate_names_the_candidates(client, bodies):
    body = {**bodies[3], "candidates": {"video": [100, 103], "price": [1.0, "high"]}}
    problem = client.post("/v1/rank", body).json()
    assert problem["field"] == "candidates.price"


@pytest.mark.parametrize("operator", get_args(Operator))
@pytest.mark.parametrize("value", [[], [1], 1, "a", None])
def test_a_condition_on_values_of_several_types(client, bodies, operator, value):
    rows = [{"video": 100, "price": [1]}, {"video": 103, "price": 1}]
    where = [{"feature": "price", "operator": operator, "value": value}]
    reply = client.post("/v1/rank", {**bodies[3], "candidates": rows, "filters": {"where": where}})
    check(reply)
    assert reply.status == 422


@MANY
@given(st.data(), st.integers(0, 7))
def test_any_damage_of_the_text(client, bodies, data, number):
    text = bytearray(json.dumps(bodies[number]).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text[start:end] = data.draw(
            st.binary(max_size=6)
            | st.sampled_from(
                [b"NaN", b"1e400", b"[" * 500, b'"\\ud800"', b"-Infinity", b"{}", b"9" * 5000]
            )
        )
    check(client.post("/v1/rank", content=bytes(text)))


@MANY
@given(ANY)
def test_any_feedback(client, value):
    reply = client.post("/v1/feedback", value)
    assert reply.status in (400, 404, 422), reply.text
    check(reply)


PIECES = [
    b"NaN", b"Infinity", b"-Infinity", b"1e400", b"-1e400", b"9" * 5_000, b"[" * 100_000,
    b'{"a":' * 10_000, b"[[]," * 300, b"[" + b"1," * 200_000 + b"1]", b'"\\ud800"', b"\xff",
    b"\xef\xbb\xbf", b"\x00", b"'a'", b"// x\n", b"{}", b"[]", b'""', b"1.", b"01", b"0x1",
    b"True", b"null", b"-0", b'{"a": 1, "a": 2}', b'"\\u0000"', b'"' + b"x" * 100_000 + b'"',
]  # fmt: skip
ENCODINGS = ["utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp037", "utf-7"]


@st.composite
def malformed(draw, good):
    """Return the bytes of a body that is malformed in one of many ways."""
    body = good[draw(st.integers(0, len(good) - 1))]
    kind = draw(st.integers(0, 7))
    if kind == 0:  # another type anywhere
        for path in draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=3)):
            body = put(body, path, draw(ANY))
        return json.dumps(body).encode()
    if kind == 1:  # anything in the place of anything
        text = json.dumps(put(body, draw(st.sampled_from(PATHS)), "HERE"))
        return text.encode().replace(b'"HERE"', draw(st.sampled_from(PIECES)))
    text = json.dumps(body, ensure_ascii=False)
    if kind == 2:
        text = text.replace('"request"', '"request": {}, "request"', 1)  # a name twice
        return text.replace('"user"', '"user": "\u00e9", "user"').encode()
    if kind == 3:
        return text.replace("u", "\u00e9").encode(draw(st.sampled_from(ENCODINGS)), "replace")
    if kind == 4:  # truncated
        return text.encode()[: draw(st.integers(0, len(text)))]
    if kind == 5:  # bytes replaced
        damaged = bytearray(text.encode())
        for _ in range(draw(st.integers(1, 4))):
            start = draw(st.integers(0, len(damaged)))
            end = start + draw(st.integers(0, 12))
            piece = st.binary(max_size=6) | st.sampled_from(PIECES)
            damaged[start:end] = draw(piece)
        return bytes(damaged)
    if kind == 6:  # not an object
        return json.dumps(draw(ANY)).encode()
    return draw(st.binary(max_size=200))


@settings(MANY, max_examples=100)
@given(st.data())
def test_malformed_bodies(client, bodies, data):
    check(client.post("/v1/rank", content=data.draw(malformed(bodies))))


@pytest.mark.slow
def test_two_thousand_malformed_bodies_over_http(searching_bundle, bodies, tmp_path):
    statuses = Counter()
    with serving(searching_bundle, "--log", str(tmp_path / "log")) as server:
        with contextlib.closing(server.connection()) as connection:

            @settings(MANY, max_examples=2_000)
            @given(st.data())
            def sent(data):
                body = data.draw(malformed(bodies))
                path = data.draw(st.sampled_from(["/v1/rank", "/v1/rank", "/v1/feedback"]))
                connection.request("POST", path, body, {"content-type": "application/json"})
                raw = connection.getresponse()
                reply = Reply(
                    raw.status, {n.lower(): v for n, v in raw.headers.items()}, raw.read()
                )
                statuses[path, reply.status] += 1
                check(reply)

            sent()
        assert server.post("/v1/rank", bodies[0])[0] == 200
        code, text = server.stop()
    assert code == 0
    lines = text.splitlines()
    assert lines[-1] == "stopped; all requests that had begun are finished"
    assert all(line.startswith("served log: ") and len(line) < 2_500 for line in lines[:-1]), text
    print(dict(statuses))
    assert sum(statuses.values()) >= 2_000
    logged = RequestLog.open(tmp_path / "log").manifest
    lost = logged.extra["served"]["lost"]  # such as those without candidates
    assert logged.requests + lost == statuses["/v1/rank", 200] + 1
    assert logged.requests > lost


@pytest.mark.slow
def test_schemathesis_finds_nothing(searching_bundle, bodies, tmp_path):
    """Requests by the OpenAPI document, and requests that contradict it."""
    pytest.importorskip("schemathesis")
    # 503 is right where the deadline of a request is a fraction of a nanosecond.
    (tmp_path / "schemathesis.toml").write_text(
        'checks.not_a_server_error.expected-statuses = ["2xx", "4xx", 503]\n'
    )
    checks = [
        "not_a_server_error", "status_code_conformance", "content_type_conformance",
        "response_schema_conformance", "negative_data_rejection",
    ]  # fmt: skip
    code = "from schemathesis.cli import schemathesis; schemathesis()"
    with serving(searching_bundle, "--log", str(tmp_path / "log")) as server:
        done = subprocess.run(
            [sys.executable, "-c", code, "run", f"{server.url}/openapi.json", "--seed", "1",
             "--max-examples", "200", "--checks", ",".join(checks), "--no-color"],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert server.post("/v1/rank", bodies[0])[0] == 200
    assert done.returncode == 0, done.stdout + done.stderr
    print("\n".join(done.stdout.splitlines()[-12:]))
    generated = int(re.search(r"(\d+) generated", done.stdout)[1])
    assert generated > 200


@pytest.mark.parametrize(
    "body",
    [
        {"candidates": list(range(50_000))},
        {"candidates": {"video": [1] * 50_000}},
        {"candidates": {str(i): [1] for i in range(1_000)}},
        {"candidates": [{str(i): 1 for i in range(1_000)}]},
        {"candidates": []},
        {"candidates": {}},
        {"candidates": [{}]},
        {"candidates": {"video": []}},
        {"candidates": [160] * 100},
        {"quotas": [80, 60, 30], "top": 30},
        {"quotas": [1, 2, 3]},
        {"quotas": {}},
        {"top": 2**63},
        {"deadline_ms": 1e-9},
        {"rerank": {"pins": [{"item": 1, "position": 2**63}]}},
        {"rerank": {"caps": {"shop": 2**63}}},
        {"filters": {"items": [2**63, -1, "x"]}},
    ],
)
def test_extreme_bodies(client, bodies, body):
    reply = client.post("/v1/rank", {**bodies[3], **body})
    assert reply.status in (200, 422, 503), reply.text
    if reply.status == 503:
        assert "deadline" in reply.text
