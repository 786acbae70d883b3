"""Summary statistics of a request log."""

import json
from datetime import UTC, datetime

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.data.log.summary import summarise
from cascaderank.schema import Schema

SCHEMA = Schema(
    features=(
        {"name": "age", "role": "request", "kind": "numeric"},
        {"name": "video", "role": "item", "kind": "categorical"},
        {"name": "price", "role": "item", "kind": "numeric"},
        {"name": "seen", "role": "history", "kind": "categorical"},
    )
)


def written(path, frame, schema=SCHEMA, **options):
    with RequestLogWriter(path, name="shop", schema=schema, rows_per_part=1, **options) as writer:
        writer.write(frame)
    return summarise(RequestLog.open(path))


def test_statistics_cover_all_parts(tmp_path):
    frame = pl.DataFrame(
        {
            "request_id": ["a", "b"],
            "timestamp": [datetime(2024, 5, d, 1, tzinfo=UTC) for d in (1, 3)],
            "age": [1.0, 2.0],
            "video": [[1, 2, 3], [4]],
            "price": [[1.0, 2.0, 3.0], [4.0]],
            "seen": [[1], []],
            "level": [[0, 2, 2], [0]],
            "label": [[0.0, 1.0, 0.5], [0.0]],
        }
    )
    summary = written(
        tmp_path / "log", frame, level_names=("a", "b", "c"), extra={"notes": {"files": 3}}
    )
    size = sum(p.bytes for p in RequestLog.open(tmp_path / "log").manifest.parts)
    assert summary == {
        "name": "shop",
        "requests": 2,
        "candidates": 4,
        "list_length": {"min": 1, "mean": 2.0, "max": 3},
        "features": {
            "request": {"categorical": 0, "numeric": 1},
            "item": {"categorical": 1, "numeric": 1},
            "history": {"categorical": 1, "numeric": 0},
        },
        "several_values": [],
        "levels": {"a": 2, "b": 0, "c": 2},
        "label": {"0": 2, "0.5": 1, "1": 1},
        "feedback": None,
        "request_weight": None,
        "candidate_weight": None,
        "time_range": ["2024-05-01T01:00:00+00:00", "2024-05-03T01:00:00+00:00"],
        "days": 2,
        "bytes": size,
        "notes": {"files": 3},
    }
    assert json.loads(json.dumps(summary)) == summary


def test_a_log_of_features_alone_has_no_counts_of_labels(tmp_path):
    schema = Schema(features=SCHEMA.features[2:3])
    frame = pl.DataFrame({"request_id": [1, 2], "price": [[1.0], [2.0, 3.0]]})
    summary = written(tmp_path / "log", frame, schema)
    assert summary["list_length"] == {"min": 1, "mean": 1.5, "max": 2}
    for absent in ("levels", "label", "feedback", "time_range", "days", "notes"):
        assert summary[absent] is None


@pytest.mark.parametrize("values", [12, 13])
def test_many_distinct_values_are_summarised_by_their_range(tmp_path, values):
    schema = Schema(features=SCHEMA.features[2:3])
    labels = [float(i) for i in range(values)]
    frame = pl.DataFrame({"request_id": [1, 2], "price": [labels] * 2, "label": [labels] * 2})
    label = written(tmp_path / "log", frame, schema)["label"]
    if values == 12:
        assert label == {f"{i}": 2 for i in range(12)}
    else:
        assert label == {"min": 0.0, "mean": 6.0, "max": 12.0, "positive": 24}
