"""Every stage is served as it was trained, from every kind of log."""

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.runs.load import load_run
from cascaderank.schema import Schema
from cascaderank.serving import Ranker, export_run
from cascaderank.stages import STAGES
from tests.data.shops import write_shop
from tests.runs.conftest import untrained
from tests.serving.conftest import ALONE, MARKET, SEARCHING, market_frame, market_items, request_of

WITH_PARTS = {"two_tower", "matrix_factorisation", "mlp", "din", "linear", "cold without gates"}
WITHOUT_PARTS = {"cold", "ecmm", "boosted_trees"}


@pytest.mark.parametrize("pairs", [False, True])
def test_every_stage_is_served(market, tmp_path, pairs):
    names = sorted(STAGES)
    stages = {
        name: {
            "model": name,
            "quota": 13 - place,
            "features": ["*"] if pairs and place else ["*", "!distance"],
        }
        for place, name in enumerate([*names, "cold without gates"])
    }
    stages["cold without gates"] |= {"model": "cold", "gates": False}
    run = untrained(tmp_path / "run", market, stages, catalogue={"item": "video"})
    manifest, result = export_run(run, tmp_path / "bundle")
    assert result.equal, result.difference
    assert result.requests == 8
    parts = set(Ranker.load(tmp_path / "bundle").bundle.parts)
    assert parts >= (set() if pairs else WITH_PARTS)
    assert not parts & (set(names) if pairs else WITHOUT_PARTS)
    assert [bool(stage.pair_features) for stage in manifest.stages[1:]] == [pairs] * len(names)


def test_trees_are_served_with_what_they_learned(market, tmp_path):
    stages = {**SEARCHING, "ranking": {"model": "boosted_trees", "quota": 3}}
    run = untrained(tmp_path / "run", market, stages, catalogue={"item": "video"})
    loaded = load_run(run)
    trees = loaded.cascade.stages["ranking"]
    import numpy as np
    from safetensors.torch import save_file

    rng = np.random.default_rng(0)
    columns = sum(f.width or 1 for f in trees.features)
    values = rng.normal(size=(500, columns)).astype(np.float32)
    trees.fit_tree(np.abs(values), np.cos(9 * values[:, -1]), seed=0)
    save_file(loaded.cascade.state_dict(), loaded.folder.weights)
    _, result = export_run(run, tmp_path / "bundle")
    assert result.equal
    assert Ranker.load(tmp_path / "bundle").bundle.cascade.stages["ranking"].trees == 1


def test_items_are_identified_by_a_column_that_is_no_feature(tmp_path):
    frame = market_frame().with_columns(
        pl.col("video").list.eval("v" + pl.element().cast(pl.String)).alias("item_key")
    )
    log = write_shop(tmp_path / "log", [frame], schema=MARKET, level_names=())
    run = untrained(tmp_path / "run", log, SEARCHING)
    manifest, result = export_run(run, tmp_path / "bundle")
    assert result.equal
    assert manifest.items.key == "item_key"
    ranker = Ranker.load(tmp_path / "bundle")
    row = market_frame(5).row(3, named=True)
    answer = ranker.rank(request_of(row), [f"v{video}" for video in row["video"]])
    scored = load_run(run).rank(market_frame(5)[3:4])
    assert answer.ids == [f"v{video}" for video in scored["video"]]
    assert ranker.rank(request_of(row), ["v1", 100]).unknown == ("v1", 100)


def test_the_item_table_of_a_log_is_the_catalogue(tmp_path):
    items = market_items(50).select("video", *(n for n in ALONE if n not in ("video", "price")))
    with RequestLogWriter(tmp_path / "log", name="m", schema=MARKET, level_names=()) as writer:
        writer.write(market_frame())
        writer.write_catalogue(items)
    from cascaderank.data.log.request_log import RequestLog

    log = RequestLog.open(tmp_path / "log")
    run = untrained(tmp_path / "run", log, SEARCHING, catalogue={"item": "video"})
    manifest, result = export_run(run, tmp_path / "bundle")
    assert result.equal
    assert (manifest.items.count, manifest.items.source) == (50, f"item table of {log.path}")
    # The table does not have it, so it is of request and item together.
    assert [stage.pair_features for stage in manifest.stages] == [("price",)] * 3


def test_an_item_can_be_a_candidate_twice(searcher, searching_run):
    row = market_frame(12).row(11, named=True)
    for name in (*ALONE, "distance", "label"):
        row[name] = [*row[name], *row[name][:3]]
    frame = pl.DataFrame([row], schema_overrides=market_frame(1).schema)
    expected = load_run(searching_run).rank(frame)["video"].to_list()
    assert searcher.rank(request_of(row), row["video"]).ids == expected


def test_a_log_of_numbers_alone(tmp_path):
    """Such as one of learning to rank: no categories, no features of requests, no items."""
    features = ({"name": "bm25", "role": "item", "kind": "numeric"},)
    frame = pl.DataFrame(
        {
            "request_id": list(range(20)),
            "bm25": [[float(i + r % 7) for i in range(9)] for r in range(20)],
            "label": [[float(i % 2) for i in range(9)]] * 20,
        }
    )
    log = write_shop(tmp_path / "log", [frame], schema=Schema(features=features), level_names=())
    run = untrained(tmp_path / "run", log, {"a": {"model": "linear", "quota": 5}, "b": {"model": "mlp", "quota": 2}})  # fmt: skip
    _, result = export_run(run, tmp_path / "bundle")
    assert result.equal
    answer = Ranker.load(tmp_path / "bundle").rank({}, {"bm25": [1.0, 5.0, 3.0]})
    assert sorted(answer.ids) in ([0, 1], [1, 2], [0, 2])
