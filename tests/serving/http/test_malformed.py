"""No body, however malformed, is answered by an error of the server."""

import json
from typing import get_args

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cascaderank.serving.filters import Operator

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


def check(reply, path="/v1/rank"):
    assert reply.status in (200, 400, 422), reply.text
    if reply.status != 200:
        problem = reply.json()
        assert problem["status"] == reply.status
        assert problem["detail"]
        assert "Traceback" not in reply.text


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
