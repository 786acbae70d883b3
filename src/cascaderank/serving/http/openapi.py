"""OpenAPI of the server: schemas of bodies, and examples that the bundle answers."""

import json
import math
from typing import Any, Final

from fastapi import FastAPI

from cascaderank.serving.golden import golden_requests
from cascaderank.serving.http.problems import MEDIA_TYPE, TITLES
from cascaderank.serving.http.service import Service
from cascaderank.serving.variant_routing import MAIN

_KEY: Final = {"type": ["string", "integer"]}
_SCALAR: Final = {"type": ["string", "number", "boolean", "null"]}
_VALUE: Final = {"anyOf": [_SCALAR, {"type": "array", "items": {}}]}
_COUNT: Final = {"type": "integer", "minimum": 1}
_VALUES: Final = {"type": "object", "additionalProperties": _VALUE}

RANK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["request"],
    "additionalProperties": False,
    "properties": {
        "request": {
            **_VALUES,
            "description": "Raw values of the request and its histories, by the names of the log; "
            "null is a missing value. Other names are ignored.",
        },
        "candidates": {
            "description": "Keys of items, rows (one object per candidate), or columns (one list "
            "per feature, which is faster). Absent: all items are searched.",
            "anyOf": [
                {"type": "array", "items": _KEY},
                {"type": "array", "items": _VALUES},
                {"type": "object", "additionalProperties": {"type": "array", "items": _VALUE}},
                {"type": "null"},
            ],
        },
        "top": {**_COUNT, "description": "Length of the list; default: the last quota."},
        "quotas": {
            "description": "Candidates that each stage keeps, as a list or by name of the stage.",
            "anyOf": [
                {"type": "array", "items": _COUNT},
                {"type": "object", "additionalProperties": _COUNT},
            ],
        },
        "filters": {
            "type": "object",
            "additionalProperties": False,
            "description": "Candidates to leave out before the first stage.",
            "properties": {
                "items": {"type": "array", "items": _KEY},
                "where": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["feature", "operator", "value"],
                        "additionalProperties": False,
                        "properties": {
                            "feature": {"type": "string"},
                            "operator": {
                                "enum": ["=", "!=", "<", "<=", ">", ">=", "in", "not in", "has"]
                            },
                            "value": _VALUE,
                        },
                    },
                },
            },
        },
        "rerank": {
            "type": "object",
            "additionalProperties": False,
            "description": "Rules for the final list.",
            "properties": {
                "caps": {"type": "object", "additionalProperties": _COUNT},
                "pins": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["item", "position"],
                        "additionalProperties": False,
                        "properties": {"item": _KEY, "position": _COUNT},
                    },
                },
                "diversity": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
            },
        },
        "trace": {"type": "boolean", "description": "Whether the answer has all scores and ranks."},
        "deadline_ms": {"type": "number", "exclusiveMinimum": 0},
        "request_id": {"type": "string", "minLength": 1, "maxLength": 128},
        "variant": {"type": "string", "description": "Bundle that must answer, such as main."},
        "record": {"type": "boolean", "description": "Whether the log may have the request."},
    },
}
"""Schema of the body of ``POST /v1/rank``."""

FEEDBACK: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["request_id", "item", "value"],
    "additionalProperties": False,
    "properties": {
        "request_id": {"type": "string", "minLength": 1, "maxLength": 128},
        "item": _KEY,
        "value": {"type": "number"},
    },
}
"""Schema of the body of ``POST /v1/feedback``."""

_STAGE: Final = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "came": {"type": "integer"},
        "left": {"type": "integer"},
        "milliseconds": {"type": "number"},
        "skipped": {"type": "boolean"},
    },
}
ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "request_id": {"type": "string"},
        "variant": {"type": "string"},
        "bundle": {"type": "string"},
        "items": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": _KEY,
                    "score": {"type": ["number", "null"]},
                    "position": {"type": "integer"},
                    "team": {"type": ["string", "null"]},
                },
            },
        },
        "stages": {"type": "array", "items": _STAGE},
        "milliseconds": {"type": "number"},
        "filtered": {"type": "integer"},
        "unknown": {"type": "array", "items": _KEY},
        "degraded": {"type": "array", "items": {"type": "string"}},
        "stale": {"type": "array", "items": {"type": "string"}},
        "trace": {"type": "object"},
        "interleaved": {"type": "object"},
    },
}
"""Schema of the answer of ``POST /v1/rank``."""

_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string"},
        "expected": {"type": "string"},
        "found": {"type": "string"},
    },
}
_FEW: Final = 5  # candidates of an example


def documented(app: FastAPI, service: Service) -> None:
    """Complete the OpenAPI document of an application.

    Args:
        app: application with its routes.
        service: loaded bundles; a golden request of the main one is the example.
    """
    document = app.openapi()
    paths = document["paths"]
    rank, feedback = paths["/v1/rank"]["post"], paths["/v1/feedback"]["post"]
    rank["requestBody"] = _body(RANK, _examples(service))
    rank["responses"]["200"]["content"] = {"application/json": {"schema": ANSWER}}
    text = {"text/plain": {"schema": {"type": "string"}}}
    paths["/metrics"]["get"]["responses"]["200"]["content"] = text
    items = service.rankers[MAIN].bundle.items
    key = items.keys[0] if items is not None else 7
    feedback["requestBody"] = _body(
        FEEDBACK, {"a click": {"value": {"request_id": "r-1", "item": key, "value": 1}}}
    )
    listed = json.loads(service.golden(MAIN).listed())["requests"][:1]
    _show(paths["/v1/golden"]["get"], {"requests": listed})
    golden = paths["/v1/golden/{index}"]["get"]
    golden["parameters"][0]["schema"] = {"type": "integer", "minimum": 0}
    if listed:
        body = json.loads(service.golden(MAIN).body("0"))
        few = {name: values[:_FEW] for name, values in body["candidates"].items()}
        _show(golden, {**body, "candidates": few})
    document["components"] = {"schemas": {"Problem": _PROBLEM}}
    problem = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    statuses = sorted({(status, title) for status, title in TITLES.values()})
    for path in paths.values():
        for operation in path.values():
            operation["responses"].pop("422", None)  # of FastAPI, which checks nothing here
            for status, title in statuses:
                answer = {"description": title, "content": problem}
                operation["responses"].setdefault(str(status), answer)
    app.openapi_schema = document


def _body(schema: dict[str, Any], examples: dict[str, Any]) -> dict[str, Any]:
    return {
        "required": True,
        "content": {"application/json": {"schema": schema, "examples": examples}},
    }


def _show(operation: dict[str, Any], example: dict[str, Any]) -> None:
    """Document the answer of an operation by an example."""
    content = {"schema": {"type": "object"}, "example": example}
    operation["responses"]["200"]["content"] = {"application/json": content}


def _examples(service: Service) -> dict[str, Any]:
    ranker = service.rankers[MAIN]
    found: dict[str, Any] = {}
    for golden in golden_requests(ranker.bundle, most=1):
        request = plain(golden.request)
        rows = {name: plain(values[:_FEW]) for name, values in golden.rows.items()}
        found["columns"] = {"value": {"request": request, "candidates": rows}}
        if ranker.searches:
            found["search"] = {"value": {"request": request, "top": 3}}
            keys = plain(golden.columns[golden.key or ""][:_FEW])
            found["keys"] = {"value": {"request": request, "candidates": keys, "trace": True}}
    return found


def plain(value: Any) -> Any:
    """Return a raw value as JSON has it: NaN is null.

    Examples:
        >>> plain({"hour": float("nan"), "seen": [1, 2]})
        {'hour': None, 'seen': [1, 2]}
    """
    if isinstance(value, dict):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
