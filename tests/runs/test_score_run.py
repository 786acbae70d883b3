"""Files of scores hold what evaluation computes, and exist completely or not at all."""

import json
import os

import ir_measures
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
import torch
from ir_measures import AP, RR, P, nDCG

from cascaderank.data.log.manifest import ITEM
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import ConfigError, DataError, RunError, SchemaError
from cascaderank.metrics import (
    average_precision_metric,
    ndcg_metric,
    precision_metric,
    reciprocal_rank_metric,
)
from cascaderank.runs import saved_parts, score_files, score_run
from cascaderank.runs.item_keys import item_keys
from cascaderank.runs.load import load_run
from cascaderank.runs.new_files import new_file
from cascaderank.runs.parts import part_of
from cascaderank.runs.score_files import format_of, trec_lines
from cascaderank.runs.vector_files import VECTOR_FILES
from cascaderank.schema import Schema
from cascaderank.settings.run import read_settings
from cascaderank.training.evaluate_run import evaluate_run
from tests.data.shops import SCHEMA, shop_frame, write_shop
from tests.runs.conftest import STAGES, untrained

score = score_run.score_run


@pytest.fixture(scope="module")
def long_run(funnel, tmp_path_factory):
    """Run on lists of 40 candidates."""
    stages = {
        "retrieval": {**STAGES["retrieval"], "quota": 30, "features": ["*", "!match_*", "!gap_*"]},
        "ranking": {**STAGES["ranking"], "quota": 20, "features": ["*"]},
    }
    folder = tmp_path_factory.mktemp("runs") / "long"
    return untrained(folder, RequestLog.open(funnel), stages, evaluation={"batch_size": 32})


def logged(log, rows, *columns):
    """One row per logged candidate."""
    frames = [f.explode(columns) for f in log.frames(["request_id", *columns], rows=rows)]
    return pl.concat(frames)


def test_scores_are_those_of_evaluation_in_the_order_of_the_log(long_run, funnel, tmp_path):
    done = score(long_run, funnel, to=tmp_path / "s.parquet")
    assert done.part == "test"
    found, run = pl.read_parquet(tmp_path / "s.parquet"), load_run(long_run)
    assert done.written == done.candidates == found.height
    with part_of(run, funnel, "test") as (data, _, rows):
        raw = logged(data.log, rows, "item_id", "level")
        assert found["request_id"].equals(raw["request_id"])
        assert found["item_key"].equals(raw["item_id"], check_names=False)
        item_of = {code + 1: v for code, v in enumerate(run.schema.vocabularies["item_id"])}
        expected = []
        for batch in data.loader(rows).epoch(0):
            with torch.no_grad():
                scores = run.cascade(batch)
            alive = run.cascade.select(scores, batch.mask)
            for i, row in enumerate(batch.rows.tolist()):
                ids = [item_of[c] for c in batch.items["item_id"][i].tolist()]
                request = data.encoded.request_ids[row]
                for j, item in enumerate(ids):
                    values = scores[:, i, j].tolist(), alive[:, i, j].tolist()
                    expected.append((request, item, *values[0], *values[1]))
    names = [
        "request_id",
        "item_key",
        *(f"score/{s}" for s in STAGES),
        *(f"alive/{s}" for s in STAGES),
    ]
    got = found.select(names).rows()
    assert sorted(got) == sorted(expected), "bit for bit"


def test_final_ranks_and_stages_follow_from_the_scores(long_run, funnel, tmp_path):
    score(long_run, funnel, to=tmp_path / "s.parquet")
    for (_,), rows in pl.read_parquet(tmp_path / "s.parquet").group_by("request_id"):
        first = rows.sort("score/retrieval", descending=True)[:30]
        assert set(rows.filter(pl.col("alive/retrieval"))["item_key"]) == set(first["item_key"])
        assert rows.filter("alive/retrieval")["stage_reached"].unique().to_list() == ["ranking"]
        assert rows.filter(~pl.col("alive/retrieval"))["stage_reached"].unique().to_list() == [
            "retrieval"
        ]
        last = first.sort("score/ranking", descending=True)[:20]
        final = rows.filter(pl.col("rank") > 0).sort("rank")
        assert final["item_key"].to_list() == last["item_key"].to_list()
        assert final["rank"].to_list() == list(range(1, 21))
        assert rows["rank"].null_count() == 20


def test_recall_of_the_file_is_that_of_the_report(long_run, funnel, tmp_path):
    score(long_run, funnel, to=tmp_path / "s.parquet", part="all")
    _, report = evaluate_run(long_run, funnel, part="all", target="level", threshold=2)
    log = RequestLog.open(funnel)
    rows = pl.read_parquet(tmp_path / "s.parquet").with_columns(logged(log, None, "level")["level"])
    truth = rows.filter(pl.col("level") >= 2)
    recall = truth.group_by("request_id").agg(pl.col("rank").is_not_null().mean())["rank"].mean()
    assert recall == pytest.approx(report.metrics["joint_recall"].mean, abs=1e-12)


def test_every_format_has_the_same_content(shop_run, shop, tmp_path):
    for suffix in ("parquet", "jsonl", "run"):
        score(shop_run, shop.path, to=tmp_path / f"s.{suffix}", part="all", item="video")
    whole = pl.read_parquet(tmp_path / "s.parquet")
    assert whole.height == shop.manifest.candidates
    lines = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert pl.DataFrame(lines, schema=whole.schema).equals(whole)
    final = whole.filter(pl.col("rank").is_not_null())
    trec = [line.split(" ") for line in (tmp_path / "s.run").read_text().splitlines()]
    expected = [
        [request, "Q0", str(key), str(rank), tag]
        for request, key, rank, tag in zip(
            final["request_id"], final["item_key"], final["rank"], ["run"] * 99, strict=False
        )
    ]
    assert [[*line[:4], line[5]] for line in trec] == expected
    assert [np.float32(line[4]) for line in trec] == final["score/ranking"].to_list()


def test_ir_measures_gives_the_same_numbers_for_a_trec_file(long_run, funnel, tmp_path):
    score(long_run, funnel, to=tmp_path / "s.run", item="item_id")
    score(long_run, funnel, to=tmp_path / "s.parquet", item="item_id")
    rows = pl.read_parquet(tmp_path / "s.parquet")
    raw = logged(RequestLog.open(funnel), None, "item_id", "level")
    rows = rows.join(raw, left_on=["request_id", "item_key"], right_on=["request_id", "item_id"])
    qrels = [
        ir_measures.Qrel(str(request), str(key), level)
        for request, key, level in rows.select("request_id", "item_key", "level").iter_rows()
    ]
    run = list(ir_measures.read_trec_run(str(tmp_path / "s.run")))
    measures = {"ndcg": nDCG @ 10, "p": P(rel=2) @ 10, "rr": RR(rel=2), "ap": AP(rel=2)}
    found = ir_measures.calc_aggregate(measures.values(), qrels, run)
    requests = rows.group_by("request_id", maintain_order=True).agg(pl.all())
    labels = torch.tensor(requests["level"].to_list(), dtype=torch.float64)
    # What a stage cut is not retrieved: it comes after everything that is.
    ranks = rows.with_columns(-pl.col("rank").fill_null(1000)).group_by(
        "request_id", maintain_order=True
    )
    scores = torch.tensor(ranks.agg("rank")["rank"].to_list(), dtype=torch.float64)
    retrieved = scores > -1000
    # nDCG of the whole list of judged candidates as the ideal; the list has more than 10.
    assert found[measures["ndcg"]] == pytest.approx(
        float(ndcg_metric(scores, labels, k=10, gain="linear").mean()), abs=1e-12
    )
    assert found[measures["p"]] == pytest.approx(
        float(precision_metric(scores, labels, m=10, threshold=2).mean()), abs=1e-12
    )
    relevant = ((labels >= 2) & retrieved).double()
    rr = reciprocal_rank_metric(scores, relevant, threshold=1, mask=retrieved).nan_to_num(0)
    assert found[measures["rr"]] == pytest.approx(float(rr.mean()), abs=1e-12)
    # AP divides by all relevant candidates, also by those that were cut.
    part = relevant.sum(-1) / (labels >= 2).sum(-1)
    ap = average_precision_metric(scores, relevant, threshold=1, mask=retrieved).nan_to_num(0)
    assert found[measures["ap"]] == pytest.approx(float((ap * part).mean()), abs=1e-12)


@pytest.mark.parametrize(
    "scores",
    [
        [0.5, 0.5, 0.5],
        [1e-45, 0.0, -0.0, -0.0],
        [float("inf"), float("inf"), 3.4028235e38, 1.0],
        [-3.4028235e38, float("-inf"), float("-inf")],
        [2.0, 1.0, 1.0, 0.99999994, 0.5],
    ],
)
def test_trec_scores_decrease_strictly_and_change_as_little_as_possible(scores):
    given = pl.Series("s", scores, dtype=pl.Float32)
    rows = pl.DataFrame({"request_id": "q", "item_key": range(len(given)), "s": given})
    rows = rows.with_columns(rank=pl.int_range(1, pl.len() + 1))
    written = trec_lines(rows, tag="x", score="s")["score"].to_numpy()
    assert (np.diff(written) < 0).all()
    assert np.isfinite(written).all()
    assert np.allclose(written, given.to_numpy().clip(-3.4028235e38, 3.4028235e38), rtol=1e-5)
    strict = given.is_unique() & given.is_finite()
    if strict.all():
        assert written.tolist() == given.to_list()


def test_ids_of_a_trec_file_have_no_spaces(tmp_path):
    rows = {"item_key": ["a", "b"], "rank": [1, 2], "s": [1.0, 0.5]}
    with pytest.raises(DataError, match=r"expected a request id without spaces, found 'a b'"):
        trec_lines(pl.DataFrame({"request_id": "a b", **rows}), tag="x", score="s")
    wrong = {**rows, "item_key": ["a", None]}
    with pytest.raises(DataError, match=r"item key without spaces, found None in request 'q'"):
        trec_lines(pl.DataFrame({"request_id": "q", **wrong}), tag="x", score="s")


def test_a_document_is_once_in_a_trec_list(shop_run, tmp_path):
    frame = shop_frame(9).with_columns(
        pl.col("video").list.eval(pl.element().first().repeat_by(pl.len()).explode())
    )
    log = write_shop(tmp_path / "log", [frame])
    stages = {n: {**stage, "quota": 2} for n, stage in STAGES.items()}
    run = untrained(tmp_path / "run", log, stages)
    done = score(run, log.path, to=tmp_path / "s.run", item="video", part="all")
    lines = (tmp_path / "s.run").read_text().splitlines()
    assert done.written == len(lines)
    assert done.repeated > 0
    assert len({tuple(line.split()[0:3:2]) for line in lines}) == len(lines)


# Identity of items.


def test_keys_come_from_the_first_of_the_places_that_has_them(shop, shop_run, tmp_path):
    settings = read_settings(shop_run / "config.toml")
    assert item_keys(shop, settings).column is None
    assert str(item_keys(shop, settings)) == "position in the logged list, from 0"
    recorded = write_shop(tmp_path / "recorded", extra={ITEM: "video"})
    assert item_keys(recorded, settings).column == "video"
    catalogue = settings.changed({"catalogue.item": "video"})
    assert item_keys(shop, catalogue).reason == "catalogue.item of the run"
    keyed = shop_frame(3).with_columns(
        pl.col("video").list.eval(pl.format("d{}", pl.element())).alias("item_key")
    )
    log = write_shop(tmp_path / "keyed", [keyed], extra={ITEM: "video"})
    assert item_keys(log, catalogue).column == "item_key"
    assert item_keys(log, catalogue, "video").column == "video"
    with pytest.raises(ConfigError, match=r"or item_key \(did you mean 'video'\?\); got 'vidoe'"):
        item_keys(log, settings, "vidoe")
    with pytest.raises(ConfigError, match="categorical item feature"):
        item_keys(log, settings, "price")


def test_positions_and_keys_of_the_log_are_written(shop_run, shop, tmp_path):
    score(shop_run, shop.path, to=tmp_path / "s.parquet", part="all")
    found = pl.read_parquet(tmp_path / "s.parquet").group_by("request_id", maintain_order=True)
    for keys in found.agg("item_key")["item_key"].to_list():
        assert keys == list(range(len(keys)))
    frame = shop_frame(7).with_columns(
        pl.col("video").list.eval(pl.format("doc {}", pl.element())).alias("item_key")
    )
    log = write_shop(tmp_path / "log", [frame])
    score(shop_run, log.path, to=tmp_path / "k.parquet")
    assert pl.read_parquet(tmp_path / "k.parquet")["item_key"].to_list() == (
        frame["item_key"].explode().to_list()
    )


def test_sources_record_the_feature_of_items(funnel):
    log = RequestLog.open(funnel)
    assert log.manifest.extra[ITEM] == "item_id"
    assert "item_key" not in log.manifest.columns


# Other data.


def test_a_log_without_labels_and_unread_features_is_scored(shop_run, shop, tmp_path):
    unread = ("query", "level", "position", "label", "feedback")
    schema = Schema(features=tuple(f for f in SCHEMA.features if f.name not in unread))
    log = write_shop(tmp_path / "log", [shop_frame(9).drop(unread)], schema=schema, level_names=())
    done = score(shop_run, log.path, to=tmp_path / "s.parquet")
    assert (done.part, done.requests) == ("all", 9)
    score(shop_run, shop.path, to=tmp_path / "own.parquet", part="all")
    same = pl.read_parquet(tmp_path / "own.parquet").filter(pl.col("request_id") < "r0009")
    assert (
        pl.read_parquet(tmp_path / "s.parquet")
        .drop("score/ranking", "score/retrieval")
        .equals(same.drop("score/ranking", "score/retrieval"))
    )


def test_a_feature_that_a_stage_reads_is_needed(shop_run, tmp_path):
    schema = Schema(features=tuple(f for f in SCHEMA.features if f.name != "price"))
    log = write_shop(tmp_path / "log", [shop_frame(3).drop("price")], schema=schema)
    with pytest.raises(SchemaError, match="no 'price'"):
        score(shop_run, log.path, to=tmp_path / "s.parquet")
    assert not (tmp_path / "s.parquet").exists()


# Atomic files.


def test_large_files_are_written_in_blocks(shop_run, shop, tmp_path, monkeypatch):
    monkeypatch.setattr(score_files, "_ROWS", 20)
    monkeypatch.setattr(saved_parts, "_ROWS", 5)
    score(shop_run, shop.path, to=tmp_path / "s.parquet", part="all")
    file = pq.ParquetFile(tmp_path / "s.parquet")
    assert file.num_row_groups > 2
    assert file.read().num_rows == shop.manifest.candidates


@pytest.mark.parametrize("name", ["s.parquet", "s.jsonl", "s.run"])
@pytest.mark.parametrize("before", [None, b"old"])
def test_an_interrupted_writer_leaves_nothing(shop_run, shop, tmp_path, monkeypatch, name, before):
    target, calls = tmp_path / "new" / name, []
    if before is not None:
        target.parent.mkdir()
        target.write_bytes(before)
    original = score_run.scores_of

    def interrupted(*arguments):
        calls.append(arguments)
        assert target.exists() == (before is not None), "the file appears when it is complete"
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(score_run, "scores_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        score(shop_run, shop.path, to=target, part="all", item="video", overwrite=True)
    assert [p.name for p in tmp_path.rglob("*")] == (["new", name] if before else [])
    assert before is None or target.read_bytes() == before


def test_files_of_a_killed_process_are_removed_and_those_of_a_living_one_are_not(tmp_path):
    target, killed = tmp_path / "s[1].run", tmp_path / ".s[1].run.0000.partial"
    killed.write_text("half")
    other = tmp_path / ".s2.run.0000.partial"
    other.write_text("of another file")
    with new_file(target) as first, new_file(target) as second:
        assert sorted(tmp_path.iterdir()) == sorted([first, second, other])
        first.write_text("first")
        second.write_text("second")
    assert sorted(tmp_path.iterdir()) == sorted([target, other])
    assert target.read_text() == "first"


def test_files_have_the_permissions_of_the_user(shop_run, shop, tmp_path):
    before = os.umask(0o022)
    try:
        score(shop_run, shop.path, to=tmp_path / "s.parquet", vectors=tmp_path / "v", item="video")
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.rglob("*") if p.is_file()} == {0o644}


def test_files_are_replaced_only_if_requested(shop_run, shop, tmp_path):
    target = tmp_path / "s.parquet"
    target.write_bytes(b"old")
    with pytest.raises(ConfigError, match=r"s\.parquet exists; .* --overwrite"):
        score(shop_run, shop.path, to=target)
    score(shop_run, shop.path, to=target, overwrite=True)
    assert pl.read_parquet(target).height
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "requests.npy").write_bytes(b"old")
    with pytest.raises(ConfigError, match=r"requests\.npy exists"):
        score(shop_run, shop.path, vectors=tmp_path / "v", item="video")
    with pytest.raises(ConfigError, match="expected a file, found a folder"):
        score(shop_run, shop.path, to=tmp_path / "v", kind="trec", overwrite=True)


def test_mistakes_are_found_before_the_run_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match="nothing to write"):
        score(tmp_path, tmp_path)
    with pytest.raises(ConfigError, match=r"must end with \.parquet, \.jsonl.* got 's\.csv'"):
        score(tmp_path, tmp_path, to="s.csv")
    with pytest.raises(ConfigError, match="one of parquet, jsonl, trec; got 'csv'"):
        format_of("s.parquet", "csv")


def test_a_place_that_is_not_writable_is_an_error(shop_run, shop, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be written: .*; choose another place"):
        score(shop_run, shop.path, to=tmp_path / "file" / "s.parquet")


# Vectors.


@pytest.mark.parametrize("model", ["two_tower", "matrix_factorisation"])
def test_dot_products_of_vectors_are_scores(shop, tmp_path, model):
    stage = {k: v for k, v in STAGES["retrieval"].items() if k in ("quota", "features")}
    stages = {"retrieval": {"model": model, **stage}, "ranking": STAGES["ranking"]}
    run = untrained(tmp_path / "run", shop, stages)
    done = score(
        run, shop.path, to=tmp_path / "s.parquet", vectors=tmp_path / "v", part="all", item="video"
    )
    assert sorted(p.name for p in (tmp_path / "v").iterdir()) == sorted(VECTOR_FILES["numpy"])
    items, requests = (np.load(tmp_path / "v" / f"{n}.npy") for n in ("items", "requests"))
    keys = pl.read_parquet(tmp_path / "v/item_keys.parquet")["item_key"].to_list()
    ids = pl.read_parquet(tmp_path / "v/request_ids.parquet")["request_id"].to_list()
    assert (done.stage, done.items, done.dim) == ("retrieval", len(keys), items.shape[1])
    assert items.dtype == requests.dtype == np.float32
    assert len(set(keys)) == len(keys) == len(items)
    assert len(ids) == len(requests) == shop.manifest.requests
    for row in pl.read_parquet(tmp_path / "s.parquet").iter_rows(named=True):
        product = requests[ids.index(row["request_id"])] @ items[keys.index(row["item_key"])]
        assert product == pytest.approx(row["score/retrieval"], abs=1e-5)


def test_vectors_in_parquet_are_those_in_numpy(shop_run, shop, tmp_path):
    words = {"part": "all", "item": "video"}
    score(shop_run, shop.path, vectors=tmp_path / "n", **words)
    score(shop_run, shop.path, vectors=tmp_path / "p", vectors_kind="parquet", **words)
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == sorted(VECTOR_FILES["parquet"])
    for name, ids, key in (
        ("items", "item_keys", "item_key"),
        ("requests", "request_ids", "request_id"),
    ):
        frame = pl.read_parquet(tmp_path / "p" / f"{name}.parquet")
        assert frame.schema["vector"] == pl.Array(pl.Float32, 4)
        assert (frame["vector"].to_numpy() == np.load(tmp_path / "n" / f"{name}.npy")).all()
        assert frame[key].equals(pl.read_parquet(tmp_path / "n" / f"{ids}.parquet")[key])
    with pytest.raises(ConfigError, match="--vectors-format must be one of numpy, parquet"):
        score(shop_run, shop.path, vectors=tmp_path / "q", vectors_kind="npz", **words)


def test_vectors_are_of_all_items_of_the_item_table(shop_run, tmp_path):
    with RequestLogWriter(
        tmp_path / "log", name="shop", schema=SCHEMA, level_names=("a", "b", "c")
    ) as w:
        w.write(shop_frame(3))
        w.write_catalogue(pl.DataFrame({"video": range(500)}))
        w.extra[ITEM] = "video"
    score(shop_run, tmp_path / "log", vectors=tmp_path / "v")
    assert pl.read_parquet(tmp_path / "v/item_keys.parquet")["item_key"].to_list() == [*range(500)]
    vectors = np.load(tmp_path / "v/items.npy")
    assert np.array_equal(vectors[497], vectors[499]), "both out of vocabulary"
    assert not np.array_equal(vectors[0], vectors[499])


def test_items_without_a_vector_of_their_own_are_an_error(shop, shop_run, tmp_path):
    with pytest.raises(ConfigError, match="choose one with --item"):
        score(shop_run, shop.path, vectors=tmp_path / "v")
    frame = shop_frame(9).with_columns(pl.col("video").list.eval(pl.element() % 2))
    log = write_shop(tmp_path / "log", [frame])
    stages = {"retrieval": {**STAGES["retrieval"], "features": ["user", "video", "price"]}}
    run = untrained(tmp_path / "run", log, stages)
    with pytest.raises(ConfigError, match="price has several values for video = 0, and for 0 more"):
        score(run, log.path, vectors=tmp_path / "v", item="video")
    assert not (tmp_path / "v").exists()
    assert not list(tmp_path.glob("**/*.partial"))


def test_the_stage_of_vectors_has_vectors(shop, shop_run, tmp_path):
    words = {"vectors": tmp_path / "v", "item": "video"}
    with pytest.raises(ConfigError, match="stages with vectors: retrieval"):
        score(shop_run, shop.path, stage="ranking", **words)
    with pytest.raises(ConfigError, match=r"no stage called 'rankin' \(did you mean 'ranking'"):
        score(shop_run, shop.path, stage="rankin", **words)
    run = untrained(tmp_path / "run", shop, {"ranking": STAGES["ranking"]})
    with pytest.raises(ConfigError, match="found none among ranking"):
        score(run, shop.path, **words)
