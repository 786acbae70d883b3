"""``cascaderank score`` with a bundle: the served lists of a data set, of Parquet, of JSON lines."""

import json
import sys

import polars as pl
import pytest

from cascaderank.errors import ConfigError, DataError
from cascaderank.runs import saved_parts
from cascaderank.runs.load import load_run
from cascaderank.serving import Ranker
from cascaderank.serving.score_bundle import score_bundle
from tests.command_line import cascaderank
from tests.runs.test_saved_parts import killed
from tests.serving.conftest import market_frame, request_of

FRAME = market_frame(70)


@pytest.fixture(scope="module")
def expected(market_run):
    """Scores of the run, without those of stages that did not receive a candidate."""
    stages, alive = ["retrieval", "preranking", "ranking"], None
    scored = load_run(market_run).score(FRAME)
    per_item = [c for c in scored.columns if c.startswith(("score/", "alive/"))]
    rows = scored.select(
        "request_id", pl.col("video").alias("item_key"), *per_item, "rank", "stage_reached"
    ).explode(pl.exclude("request_id"))
    for stage in stages:
        if alive is not None:
            rows = rows.with_columns(pl.when(pl.col(alive)).then(f"score/{stage}"))
        alive = f"alive/{stage}"
    return rows


def check(path, expected):
    found = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_ndjson(path)
    scores = [c for c in expected.columns if c.startswith("score/")]
    others = [c for c in expected.columns if c not in scores]
    types = {name: expected.schema[name] for name in found.columns}
    assert found.columns == expected.columns
    assert found.cast(types).select(others).equals(expected.select(others), null_equal=True)
    for name in scores:
        difference = (found[name] - expected[name]).abs()
        assert difference.max() < 1e-5
        assert found[name].is_null().equals(expected[name].is_null())


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_files_of_requests_have_the_scores_of_the_run(bundle, expected, tmp_path, suffix):
    file = tmp_path / f"requests.{suffix}"
    FRAME.write_parquet(file) if suffix == "parquet" else FRAME.write_ndjson(file)
    done = score_bundle(bundle, file, to=tmp_path / f"scores.{suffix}")
    assert (done.requests, done.written, done.item_key) == (70, expected.height, "video")
    check(tmp_path / f"scores.{suffix}", expected)


def test_a_data_set_by_the_command(bundle, market, market_run, expected, tmp_path):
    done = cascaderank("score", bundle, market.path, "--to", tmp_path / "scores.parquet")
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'scores.parquet'}: " in done.stdout
    assert "80 requests" in done.stdout
    found = pl.read_parquet(tmp_path / "scores.parquet")
    assert found.filter(pl.col("request_id").is_in(FRAME["request_id"].to_list())).height
    content = cascaderank("score", bundle, market.path, "--to", tmp_path / "b.run", "--json")
    assert json.loads(content.stdout)["requests"] == 80
    assert len((tmp_path / "b.run").read_text().split("\n")) - 1 == found["rank"].count()


def test_lines_have_candidates_or_search(searching_bundle, tmp_path):
    rows = [request_of(row) for row in FRAME.head(3).iter_rows(named=True)]
    rows[1]["candidates"] = [100, 7, 103]
    rows[2] |= {"candidates": [{"video": 106, "price": 1.5}], "request_id": 9}
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(f"{json.dumps(row)}\n\n" for row in rows))
    done = score_bundle(searching_bundle, file, to=tmp_path / "scores.parquet")
    assert (done.requests, done.written, done.unknown) == (3, 8 + 2 + 1, 1)
    found = pl.read_parquet(tmp_path / "scores.parquet")
    assert found["request_id"].unique(maintain_order=True).to_list() == [0, 1, 9]
    ranked = found.filter(pl.col("request_id") == 0).drop_nulls("rank").sort("rank")
    assert ranked["item_key"].to_list() == Ranker.load(searching_bundle).rank(rows[0]).ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"user": "u1"', "line 1: not a request in JSON"),
        ("[1]", "line 1: not a request in JSON: expected an object"),
        ('{"user": "u1"}', r"request 0 \(0\): the request has no 'hour'"),
        ("", "expected at least one request, found none"),
    ],
)
def test_a_wrong_request_is_named(searching_bundle, tmp_path, text, message):
    file = tmp_path / "requests.jsonl"
    file.write_text(text)
    (tmp_path / "scores.parquet").write_text("earlier")
    with pytest.raises(DataError, match=message):
        score_bundle(searching_bundle, file, to=tmp_path / "scores.parquet", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["requests.jsonl", "scores.parquet"]
    assert (tmp_path / "scores.parquet").read_text() == "earlier"


def test_options_of_runs_are_refused(bundle, market, tmp_path):
    out = ("--to", tmp_path / "scores.parquet")
    for words, message in [
        ((*out, "--vectors", tmp_path / "v"), "--vectors needs a run"),
        ((*out, "--part", "all"), "--part needs a run"),
        ((), "nothing to write"),
    ]:
        done = cascaderank("score", bundle, market.path, *words)
        assert done.returncode == 2
        assert message in done.stderr
    with pytest.raises(ConfigError, match=r"ends with .parquet, .jsonl or .ndjson"):
        score_bundle(bundle, tmp_path / "x.csv", to=tmp_path / "scores.parquet")


def test_a_killed_score_ends_with_the_same_bytes(bundle, tmp_path, monkeypatch):
    file = tmp_path / "requests.jsonl"
    frame = market_frame(400)
    frame.write_ndjson(file)
    for module in (saved_parts, sys.modules[score_bundle.__module__]):
        monkeypatch.setattr(module, "_ROWS", 16)
    whole, to = tmp_path / "whole.parquet", tmp_path / "scores.parquet"
    expected = score_bundle(bundle, file, to=whole)
    parts = killed(to, "score", bundle, file, rows=16, parts=5)
    ranked, rank = [], Ranker.rank
    monkeypatch.setattr(Ranker, "rank", lambda self, *a, **o: ranked.append(0) or rank(self, *a, **o))  # fmt: skip
    assert score_bundle(bundle, file, to=to) == expected
    assert len(ranked) <= 400 - 16 * parts + 16  # and those that warm the ranker up
    assert to.read_bytes() == whole.read_bytes()
    # other requests: nothing of the earlier ones is used
    to.unlink()
    killed(to, "score", bundle, file, rows=16, parts=2)
    frame.head(40).write_ndjson(file)
    assert score_bundle(bundle, file, to=to).requests == 40
    assert pl.read_parquet(to).equals(pl.read_parquet(whole)[: pl.read_parquet(to).height])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "requests.jsonl", "scores.parquet", "whole.parquet"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", 1], r"request 1 \(1\): request_id: expected a text, as before, found 1"),
        ([1, "a"], r"request 1 \('a'\): request_id: expected an integer"),
        ([[1]], "request_id: expected an integer"),
        ([True], "request_id: expected an integer"),
        ([None], "request_id: expected an integer"),
    ],
)
def test_request_ids_are_all_texts_or_all_integers(searching_bundle, tmp_path, ids, message):
    rows = [request_of(row) for row in FRAME.head(len(ids)).iter_rows(named=True)]
    file = tmp_path / "requests.jsonl"
    lines = [json.dumps({**row, "request_id": key}) for row, key in zip(rows, ids, strict=True)]
    file.write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        score_bundle(searching_bundle, file, to=tmp_path / "scores.parquet")
