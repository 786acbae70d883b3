"""Small request logs for the tests of the data modules."""

from datetime import UTC, datetime, timedelta

import polars as pl

from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.schema import Feature, Schema

LEVELS = ("lost", "ranked", "shown")

SCHEMA = Schema(
    features=(
        Feature(name="user", role="request", kind="categorical", missing=True),
        Feature(name="hour", role="request", kind="numeric"),
        Feature(name="video", role="item", kind="categorical"),
        Feature(name="price", role="item", kind="numeric", missing=True),
        Feature(name="watched", role="history", kind="categorical", vocabulary="video"),
        Feature(name="seconds", role="history", kind="numeric", transform="log1p"),
        Feature(name="query", role="history", kind="categorical", sequence="search", buckets=7),
    )
)


def shop_frame(requests=3, *, first=0, days=0):
    """Return requests; request ``r`` has ``r % 3 + 1`` candidates and ``r % 4`` entries of history."""
    rows = range(first, first + requests)
    columns = {
        "request_id": [f"r{r:04}" for r in rows],
        "user": [None if r % 5 == 4 else f"u{r % 3}" for r in rows],
        "hour": [float(r % 24) for r in rows],
        "video": [[10 * r + i for i in range(r % 3 + 1)] for r in rows],
        "price": [[None if i == 1 else r + i / 2 for i in range(r % 3 + 1)] for r in rows],
        "watched": [[10 * r - i for i in range(r % 4)] for r in rows],
        "seconds": [[float(i) for i in range(r % 4)] for r in rows],
        "query": [[f"q{i}" for i in range(r % 2)] for r in rows],
        "level": [[2 - i for i in range(r % 3 + 1)] for r in rows],
        "position": [[1] * (r % 3 + 1) for r in rows],
        "label": [[1.0 - i / 2 for i in range(r % 3 + 1)] for r in rows],
        "feedback": [[float(i == 0) for i in range(r % 3 + 1)] for r in rows],
    }
    types = {
        "user": pl.String,
        "price": pl.List(pl.Float64),
        "watched": pl.List(pl.Int64),
        "seconds": pl.List(pl.Float64),
        "query": pl.List(pl.String),
    }
    if days:
        start = datetime(2024, 5, 1, 23, tzinfo=UTC)
        columns["timestamp"] = [start + timedelta(days=r % days, minutes=r % 50) for r in rows]
    return pl.DataFrame(columns, schema_overrides=types)


def write_shop(path, frames=None, *, schema=SCHEMA, **options):
    """Write frames (default: one small frame) and open the log."""
    options = {"name": "shop", "level_names": LEVELS, **options}
    with RequestLogWriter(path, schema=schema, **options) as writer:
        for frame in [shop_frame()] if frames is None else frames:
            writer.write(frame)
    return RequestLog.open(path)


def tree(folder):
    """Return the contents of every file under a folder, including hidden ones."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}
