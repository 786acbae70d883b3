"""A log with every kind of feature, a run with random weights on it, and its bundle."""

import numpy as np
import polars as pl
import pytest

from cascaderank.schema import Feature, Schema
from cascaderank.serving import Ranker, export_run
from tests.data.shops import write_shop
from tests.runs.conftest import untrained

MARKET = Schema(
    features=(
        Feature(name="user", role="request", kind="categorical", missing=True, min_count=2),
        Feature(name="hour", role="request", kind="numeric", missing=True),
        Feature(name="age", role="request", kind="numeric", transform="log1p_standardise"),
        Feature(name="device", role="request", kind="categorical", buckets=5),
        Feature(name="likes", role="request", kind="categorical", multiple=True),
        Feature(name="place", role="request", kind="numeric", width=2, missing=True),
        Feature(name="video", role="item", kind="categorical", min_count=20),
        Feature(name="shop", role="item", kind="categorical", buckets=50, missing=True),
        Feature(name="price", role="item", kind="numeric", missing=True),
        Feature(name="weight", role="item", kind="numeric", transform="log1p"),
        Feature(name="genres", role="item", kind="categorical", multiple=True),
        Feature(name="text", role="item", kind="numeric", width=3, missing=True),
        Feature(name="distance", role="item", kind="numeric"),
        Feature(
            name="watched", role="history", kind="categorical", vocabulary="video", min_count=20
        ),
        Feature(name="seconds", role="history", kind="numeric", transform="log1p"),
        Feature(name="query", role="history", kind="categorical", sequence="search", buckets=7),
    )
)
ALONE = ["video", "shop", "price", "weight", "genres", "text"]
"""Features of an item alone."""

STAGES = {
    "retrieval": {
        "model": "two_tower",
        "quota": 8,
        "hidden": [8, 4],
        "features": ["*", "!distance"],
    },
    "preranking": {"model": "mlp", "quota": 6, "hidden": [8, 4], "features": ["*", "!distance"]},
    "ranking": {"model": "din", "quota": 3, "hidden": [8], "attention": [6], "features": ["*"]},
}
SEARCHING = {**STAGES, "ranking": {**STAGES["ranking"], "features": ["*", "!distance"]}}
"""Stages that need no feature of request and item together."""


def market_items(count=30):
    """Return raw features of items."""
    rng = np.random.default_rng(5)
    words = ["news", "music", "sport", "film"]
    return pl.DataFrame(
        {
            "video": [100 + 3 * i for i in range(count)],
            "shop": [None if i % 7 == 3 else f"s{i % 5}" for i in range(count)],
            "price": [None if i % 6 == 1 else float(rng.gamma(2)) for i in range(count)],
            "weight": rng.gamma(3, size=count),
            "genres": [list(rng.choice(words, i % 4, replace=False)) for i in range(count)],
            "text": [None if i % 5 == 2 else rng.normal(size=3).tolist() for i in range(count)],
        },
        schema_overrides={"genres": pl.List(pl.String), "text": pl.List(pl.Float64)},
    )


def market_frame(requests=80, *, items=None):
    """Return requests with one to twelve candidates; some have unknown ids and empty histories."""
    items, rng = market_items() if items is None else items, np.random.default_rng(1)
    rows = []
    for r in range(requests):
        count, seen = 1 + r * 5 % 12, r % 4
        chosen = items[rng.choice(items.height, count, replace=False).tolist()]
        rows.append(
            {
                "request_id": f"r{r:03}",
                "user": None if r % 9 == 4 else f"u{r % 30 if r % 3 else r}",
                "hour": None if r % 8 == 5 else float(r % 24),
                "age": float(rng.gamma(2)),
                "device": int(rng.integers(9)),
                "likes": [None, [], ["film"], ["film", "news"]][r % 4],
                "place": None if r % 7 == 2 else rng.normal(size=2).tolist(),
                **{name: chosen[name].to_list() for name in ALONE},
                "distance": rng.normal(size=count).tolist(),
                "watched": [int(100 + 3 * rng.integers(40)) for _ in range(seen)],
                "seconds": [float(rng.gamma(2)) for _ in range(seen)],
                "query": [f"q{i}" for i in range(r % 3)],
                "label": [float(x) for x in rng.integers(0, 2, count)],
            }
        )
    overrides = {
        "likes": pl.List(pl.String),
        "place": pl.List(pl.Float64),
        "genres": pl.List(pl.List(pl.String)),
        "text": pl.List(pl.List(pl.Float64)),
        "price": pl.List(pl.Float64),
        "shop": pl.List(pl.String),
        "watched": pl.List(pl.Int64),
        "seconds": pl.List(pl.Float64),
        "query": pl.List(pl.String),
    }
    return pl.DataFrame(rows, schema_overrides=overrides, infer_schema_length=None)


@pytest.fixture(scope="session")
def market(tmp_path_factory):
    """Log of 80 requests."""
    path = tmp_path_factory.mktemp("logs") / "market"
    return write_shop(path, [market_frame()], schema=MARKET, level_names=(), name="market")


@pytest.fixture(scope="session")
def market_run(market, tmp_path_factory):
    """Folder of a run of three stages, the last of which needs a feature of request and item."""
    folder = tmp_path_factory.mktemp("runs") / "market"
    return untrained(folder, market, STAGES, catalogue={"item": "video"})


@pytest.fixture(scope="session")
def bundle(market_run, tmp_path_factory):
    """Bundle of that run; read-only."""
    path = tmp_path_factory.mktemp("bundles") / "market"
    export_run(market_run, path)
    return path


@pytest.fixture(scope="session")
def searching_run(market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "searching"
    return untrained(folder, market, SEARCHING, catalogue={"item": "video"})


@pytest.fixture(scope="session")
def searching_bundle(searching_run, tmp_path_factory):
    """Bundle of a run whose stages need no feature of request and item together; read-only."""
    path = tmp_path_factory.mktemp("bundles") / "searching"
    export_run(searching_run, path)
    return path


@pytest.fixture(scope="session")
def ranker(bundle):
    return Ranker.load(bundle)


@pytest.fixture(scope="session")
def searcher(searching_bundle):
    return Ranker.load(searching_bundle)


def request_of(row):
    """Return the raw values of a request from a row of a log."""
    return {f.name: row[f.name] for f in MARKET.features if f.role != "item"}
