"""Explanations of requests agree with the evaluation of the run; advice that is followed works."""

import json
import math

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.cascade import Cascade
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, DataError, SchemaError
from cascaderank.evaluation import explain, lost_ground_truth
from cascaderank.runs.load import load_run
from cascaderank.runs.one_request import similar
from cascaderank.runs.parts import part_of
from cascaderank.runs.score_run import score_run
from cascaderank.training.evaluate_run import evaluate_run
from tests.data.shops import shop_frame, write_shop
from tests.runs.conftest import STAGES, untrained

THREE = {
    "retrieval": {**STAGES["retrieval"], "quota": 20, "features": ["*", "!match_*", "!gap_*"]},
    "preranking": {"model": "linear", "quota": 12, "features": ["*"]},
    "ranking": {
        **STAGES["ranking"],
        "quota": 6,
        "features": ["*"],
        "previous": ["score", "rank"],
    },
}


@pytest.fixture(scope="module")
def run(funnel, tmp_path_factory):
    """Run of three stages with random weights, the last of which reads score and rank."""
    folder = tmp_path_factory.mktemp("runs") / "three"
    tables = {"relevance": {"top": 8}, "evaluation": {"batch_size": 16}}
    return untrained(folder, RequestLog.open(funnel), THREE, **tables)


@pytest.fixture(scope="module")
def scored(run, funnel, tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "s.parquet"
    score_run(run, funnel, to=path, part="all")
    return pl.read_parquet(path)


def test_candidates_have_the_scores_and_ranks_of_the_run(run, funnel, scored):
    for request in scored["request_id"].unique(maintain_order=True)[::60]:
        found = explain(run, request=request)
        rows = found.candidates
        own = scored.filter(request_id=request)
        joined = rows.join(own, on="item_key", suffix="/run")
        assert rows.height == joined.height == own.height
        assert joined["rank"].equals(joined["rank/run"].cast(pl.Int32), null_equal=True)
        for t, name in enumerate(THREE):
            difference = (joined[f"score/{name}"] - joined[f"score/{name}/run"]).abs().max()
            assert difference < 1e-5
            reached = joined["stage_reached"].is_in(list(THREE)[t:])
            assert (joined[f"rank/{name}"].is_not_null() == reached).all()
            kept = joined[f"rank_margin/{name}"] >= 0
            assert (kept.fill_null(value=False) == joined[f"alive/{name}"]).all()
        # Final list first, then what the last stage cut, and so on.
        groups = rows["cut_by"].fill_null("").rle().struct.field("value").to_list()
        assert groups == ["", "ranking", "preranking", "retrieval"]
        assert rows["rank"].drop_nulls().to_list() == list(range(1, 7))
        assert rows["ground_truth"].sum() == pytest.approx(8)
        assert set(rows["level"]) <= set(RequestLog.open(funnel).manifest.level_names)


def test_effects_and_the_marginal_candidate(run, funnel):
    request = RequestLog.open(funnel).read(RequestLog.open(funnel).manifest.parts[0])["request_id"][
        0
    ]
    rows = explain(run, request=request).candidates
    for name, key in (
        rows.filter(pl.col("cut_by").is_not_null())
        .group_by("cut_by")
        .agg(pl.col("item_key").last())
        .iter_rows()
    ):
        item = explain(run, request=str(request), item=str(key)).item
        c = item.comparison
        assert (item.item, c.stage) == (key, name)
        assert rows["item_key"][item.row] == key
        marginal = rows.filter(pl.col(f"rank_margin/{name}") == 0)
        assert c.other == marginal["item_key"][0]
        margin = rows.filter(item_key=key)[f"score_margin/{name}"][0]
        assert c.difference == pytest.approx(margin, abs=1e-5)
        total = math.fsum(f.effect for f in c.features)
        assert total == pytest.approx(c.difference, rel=1e-4)
        values = {f.feature: (f.value, f.other_value) for f in c.features}
        assert values["item_id"] == (key, c.other)
        if name == "ranking":
            before = [float(rows.filter(item_key=k)["score/preranking"][0]) for k in (key, c.other)]
            assert values["previous_score"] == pytest.approx(before)
        else:
            assert "previous_score" not in values
    kept = explain(run, request=request, item=int(rows["item_key"][0])).item
    assert kept.comparison.stage == "ranking"
    assert kept.comparison.difference > 0
    first_cut = rows.filter(pl.col("rank_margin/ranking") == -1)["item_key"][0]
    assert kept.comparison.other == first_cut
    assert (kept.rescue, kept.rank_after) == ((), 1)
    earlier = explain(run, request=request, item=kept.item, stage="retrieval").item.comparison
    assert earlier.stage == "retrieval"
    assert earlier.other == rows.filter(pl.col("rank_margin/retrieval") == -1)["item_key"][0]


def test_the_quotas_that_would_have_kept_it_do_and_smaller_ones_do_not(run, funnel):
    loaded = load_run(run)
    with part_of(loaded, funnel, "all") as (data, _, _rows):
        batch = data.loader(np.arange(1)).collate(np.arange(1))
        request = data.encoded.request_ids[0]
    codes = loaded.schema.vocabularies["item_id"]
    ids = [codes[c - 1] for c in batch.items["item_id"][0].tolist()]
    rows = explain(loaded, funnel, request=request).candidates
    order, stages = list(THREE), dict(loaded.cascade.stages.items())

    def alive(quotas, key):
        cascade = Cascade(stages, quotas, previous=loaded.cascade.previous)
        with torch.no_grad():
            scores = cascade(batch)
        return [bool(k) for k in cascade.select(scores, batch.mask)[:, 0, ids.index(key)]]

    changes = set()
    for key in rows.filter(pl.col("cut_by").is_not_null())["item_key"]:
        item = explain(loaded, funnel, request=request, item=key).item
        quotas = dict(zip(order, loaded.cascade.quotas, strict=True))
        for change in item.rescue:
            t = order.index(change.stage)
            assert change.instead_of == quotas[change.stage]
            less = {**quotas, change.stage: change.quota - 1}
            assert not alive(tuple(less.values()), key)[t], "a smaller quota does not keep it"
            quotas[change.stage] = change.quota
            assert alive(tuple(quotas.values()), key)[t]
        assert alive(tuple(quotas.values()), key)[-1]
        changes.add(len(item.rescue))
    assert changes == {1, 2, 3}


def test_the_score_that_would_have_kept_it_does(run, funnel):
    request = 0
    rows = explain(run, request=request).candidates
    last = rows.filter(cut_by="retrieval")
    for key in last["item_key"][:3]:
        item = explain(run, request=request, item=key).item
        gain = item.rescue[0].score_gain
        score = rows.filter(item_key=key)["score/retrieval"][0]
        kept = rows.filter(pl.col("rank_margin/retrieval") >= 0)["score/retrieval"]
        assert score + gain == pytest.approx(kept.min(), abs=1e-5)
        assert gain >= 0


def test_lost_ground_truth_is_what_evaluation_reports(run, funnel, tmp_path):
    steps = []

    class Steps:
        def start(self, what, total):
            steps.append((what, total))

        def advance(self, *_, **__): ...

        def stop(self, *_): ...

    path = tmp_path / "lost.parquet"
    found = lost_ground_truth(run, to=path, worst=4, progress=Steps())
    part, report = evaluate_run(run, funnel)
    assert found.part == part == "test"
    assert steps == [("encoding", 240), ("explaining", -(-found.requests // 16))]
    assert found.requests == report.requests
    rows = pl.read_parquet(path)
    assert rows.columns[:3] == ["stage", "request_id", "item_key"]
    assert [stage.stage for stage in found.stages] == list(THREE)
    for stage in found.stages:
        assert stage.share == pytest.approx(report.stages[stage.stage].lost.mean, abs=1e-9)
        own = rows.filter(stage=stage.stage)
        assert own.height == stage.candidates > 4
        assert own.head(4).equals(stage.worst)
        keys = list(zip(own["ranks_below"], own["score_below"], strict=True))
        assert keys == sorted(keys, reverse=True)
        below = (own["ranks_below"], own["rank"] - stage.quota)
        assert below[0].equals(below[1], check_names=False)
    assert rows["stage"].rle().struct.field("value").to_list() == list(THREE)
    # Each row is the fate of the candidate in its request.
    for row in rows[::40].iter_rows(named=True):
        fate = explain(run, request=row["request_id"]).candidates.filter(item_key=row["item_key"])
        assert fate["cut_by"][0] == row["stage"]
        assert fate["ground_truth"][0] == pytest.approx(row["ground_truth"])
        assert fate[f"rank/{row['stage']}"][0] == row["rank"]
        assert fate[f"score_margin/{row['stage']}"][0] == pytest.approx(
            -row["score_below"], abs=1e-5
        )
        assert fate["level"][0] == row["level"]
    json.dumps(found.to_json(), allow_nan=False)


def test_a_run_that_loses_nothing_writes_a_file_without_rows(tmp_path):
    frame = shop_frame(12).with_columns(pl.lit([1]).alias("unused")).drop("unused")
    log = write_shop(tmp_path / "log", [frame])
    stages = {"ranking": {"model": "linear", "quota": 3, "features": ["price"]}}
    run = untrained(tmp_path / "run", log, stages, relevance={"top": 1})
    found = lost_ground_truth(run, part="all", to=tmp_path / "x.parquet")
    assert [(s.candidates, s.share, s.worst.height) for s in found.stages] == [(0, 0.0, 0)]
    assert pl.read_parquet(tmp_path / "x.parquet").height == 0


def test_a_log_without_labels_and_without_ids(tmp_path):
    """Candidates are named by position; ground truth is unknown; the cut is explained."""
    columns = ["level", "position", "label", "feedback"]
    full = write_shop(tmp_path / "full", [shop_frame(12)])
    stages = {"ranking": {"model": "linear", "quota": 1, "features": ["price", "hour"]}}
    run = untrained(tmp_path / "run", full, stages)
    bare = write_shop(tmp_path / "bare", [shop_frame(12).drop(columns)], level_names=())
    found = explain(run, bare.path, request="r0002")
    assert found.key == "position in the logged list, from 0"
    assert sorted(found.candidates["item_key"]) == [0, 1, 2]
    for column in ("level", "label", "ground_truth"):
        assert found.candidates[column].null_count() == 3
    worst = found.candidates["item_key"][-1]
    item = explain(run, bare.path, request="r0002", item=worst).item
    prices = shop_frame(12)["price"][2]
    (effect,) = item.comparison.features
    assert effect.feature == "price"
    assert effect.value == prices[worst]
    assert effect.other_value == prices[item.comparison.other]
    with pytest.raises(DataError, match="has no column"):
        lost_ground_truth(run, bare.path)


def test_copies_of_an_item_and_a_request_where_nothing_is_cut(tmp_path):
    frame = shop_frame(9).with_columns(
        pl.when(pl.col("request_id") == "r0005")
        .then(pl.lit([50, 50, 52]))
        .otherwise("video")
        .alias("video")
    )
    log = write_shop(tmp_path / "log", [frame])
    stages = {"ranking": {"model": "linear", "quota": 1, "features": ["video", "price"]}}
    run = untrained(tmp_path / "run", log, stages)
    item = explain(run, request="r0005", item=50, key="video").item
    assert item.copies == 2
    rows = explain(run, request="r0005", key="video").candidates
    assert item.row == rows["item_key"].to_list().index(50)
    alone = explain(run, request="r0003", item=30, key="video").item
    assert alone.comparison is None
    assert alone.rank_after == 1
    with pytest.raises(ConfigError, match="'ranking' cut no candidate of the request; choose"):
        explain(run, request="r0003", item=30, key="video", stage="ranking")


def test_trees_have_a_fate_and_a_reason_why_features_have_none(funnel, tmp_path):
    stages = {"ranking": {"model": "boosted_trees", "quota": 20}}
    run = untrained(tmp_path / "run", RequestLog.open(funnel), stages)
    rows = explain(run, request=3).candidates
    item = explain(run, request=3, item=rows["item_key"][-1]).item
    assert item.comparison.features == ()
    assert item.comparison.unavailable == (
        "'ranking' (BoostedTrees) has no gradient with respect to its features"
    )
    assert item.rescue[0].quota == 40


def test_without_captum_the_rest_is_explained(run, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    rows = explain(run, request=3).candidates
    item = explain(run, request=3, item=rows["item_key"][-1]).item
    assert item.comparison.unavailable == (
        "captum.attr is not installed; run: pip install 'cascaderank[explain]'"
    )
    assert item.rescue


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"request": "23x"}, r"has no request '23x' \(did you mean '23\d?'\?\); expected one of"),
        ({"request": 9999}, r"has no request '9999'.*; expected one of its 240 ids, such as '0'$"),
        ({"request": 3, "item": "x"}, "request '3' has no item 'x'; expected one of its 40"),
        ({"request": 3, "item": 1, "stage": "rankin"}, "no stage 'rankin'.*mean 'ranking'"),
        ({"request": 3, "stage": "ranking"}, "give an item"),
        ({"request": 3, "key": "quality"}, "the key of items must be a categorical item feature"),
    ],
)
def test_mistakes_are_one_line(run, words, message):
    with pytest.raises(ConfigError, match=message):
        explain(run, **words)


def test_a_stage_that_did_not_receive_the_item(run):
    key = explain(run, request=3).candidates["item_key"][-1]
    with pytest.raises(ConfigError, match="'ranking' did not receive the item: 'retrieval' cut"):
        explain(run, request=3, item=key, stage="ranking")


def test_other_data_sets(run, funnel, tmp_path):
    other = SOURCES["synthetic"]
    other(None, tmp_path / "more", requests=20, users=10, items=90, seed=4)
    assert explain(run, tmp_path / "more", request=7).candidates.height == 40
    with pytest.raises(
        ConfigError, match=f"has no request '77'.*; the run was trained on {funnel}"
    ):
        explain(run, tmp_path / "more", request=77)
    shop = write_shop(tmp_path / "shop", [shop_frame(5)])
    with pytest.raises(SchemaError, match="no 'user_id'"):
        explain(run, shop.path, request="r0001")
    with pytest.raises(DataError, match="no such folder"):
        explain(run, tmp_path / "nowhere", request="r0001")


def test_similar_ids_are_found_among_many():
    known = pl.Series([f"user-{i:06}" for i in range(200_000)])
    assert similar("user-0123456", known) == " (did you mean 'user-123456'?)"
    assert similar("usr-012345", known) == " (did you mean 'user-012345'?)"
    assert similar("nothing", known) == ""


def test_json_has_no_undefined_numbers(run):
    found = explain(run, request=3, item=explain(run, request=3).candidates["item_key"][-1])
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["quotas"] == {"retrieval": 20, "preranking": 12, "ranking": 6}
    assert plain["candidates"][-1]["rank/ranking"] is None
    assert plain["item"]["comparison"]["stage"] == "retrieval"
