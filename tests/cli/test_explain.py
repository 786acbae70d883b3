"""The command ``cascaderank explain``: tables of at most 80 columns, files, JSON, and mistakes."""

import json
import re

import polars as pl
import pytest
from tests.cli.test_commands import refused
from tests.command_line import cascaderank
from tests.data.shops import shop_frame, write_shop
from tests.runs.conftest import STAGES, untrained

from cascaderank.data.log.request_log import RequestLog

LONG = {
    f"{name} of many words": {**STAGES["ranking"], "quota": quota, "features": ["*"]}
    for name, quota in (("retrieval", 30), ("preranking", 20), ("ranking", 12), ("reranking", 5))
}


@pytest.fixture(scope="module")
def run(funnel, tmp_path_factory):
    """Run of four stages with long names and random weights."""
    folder = tmp_path_factory.mktemp("runs") / "four"
    return untrained(folder, RequestLog.open(funnel), LONG, relevance={"top": 10})


def explained(*words, cwd=None):
    done = cascaderank("explain", *words, cwd=cwd)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    return done


def test_the_fates_of_a_request(run, tmp_path):
    done = explained(run, "--request", 3, "--top", 2, "--to", tmp_path / "fates.parquet")
    assert "item key: 'item_id' (recorded in the log)" in done.stderr
    assert "fates.parquet: 40 rows" in done.stderr
    titles = re.findall(r"^(final list|cut by \w+)", done.stdout, re.MULTILINE)
    assert titles == [
        "final list", "cut by reranking", "cut by ranking", "cut by preranking", "cut by retrieval"
    ]  # fmt: skip
    assert "request 3: 40 candidates, 10 of ground truth; quotas: " in done.stdout
    rows = pl.read_parquet(tmp_path / "fates.parquet")
    stars = len(re.findall(r" \* ", done.stdout))
    most = sum(
        min(n, 4) for n in rows.filter(pl.col("ground_truth") > 0)["cut_by"].value_counts()["count"]
    )
    assert 0 < most <= stars <= 10
    as_json = json.loads(explained(run, "--request", 3, "--json").stdout)
    assert [row["item_key"] for row in as_json["candidates"]] == rows["item_key"].to_list()
    assert as_json["item"] is None
    refusal = refused("explain", run, "--request", 3, "--to", tmp_path / "fates.parquet")
    assert "exists; choose another file, or add --overwrite" in refusal
    explained(run, "--request", 3, "--to", tmp_path / "fates.parquet", "--overwrite")


def test_one_item_in_words_and_numbers(run):
    rows = json.loads(explained(run, "--request", 3, "--json").stdout)["candidates"]
    found = json.loads(
        explained(run, "--request", 3, "--item", rows[-1]["item_key"], "--json").stdout
    )
    text = " ".join(explained(run, "--request", 3, "--item", rows[-1]["item_key"]).stdout.split())
    comparison = found["item"]["comparison"]
    size = f"{abs(comparison['difference']):.3g}"
    assert f"It lost to {comparison['other']}, the last of 30 that retrieval of many words" in text
    assert f"by {size}" in text
    largest = comparison["features"][0]
    assert re.search(rf"(Of that|In its favour), [\d.]+ is {largest['feature']}", text)
    assert "A quota of 40 (not 30) in retrieval of many words would have kept it; so would" in text
    assert "To reach the final list, it also needs a quota of" in text
    kept = " ".join(explained(run, "--request", 3, "--item", rows[0]["item_key"]).stdout.split())
    assert "kept by all stages" in kept
    assert "It beat " in kept
    assert kept.endswith("It is number 1 of the final list.")


def test_what_was_lost(run, tmp_path):
    done = explained(run, "--lost", "--top", 2, "--to", "lost.parquet", cwd=tmp_path)
    assert "requests: test of the data set of the run" in done.stderr
    cut = re.findall(
        r"^(\w+) of many words \(quota \d+\) cut (\d+) cand", done.stdout, re.MULTILINE
    )
    rows = pl.read_parquet(tmp_path / "lost.parquet")
    counts = dict(rows["stage"].value_counts().iter_rows())
    assert {f"{name} of many words": int(n) for name, n in cut} == counts
    assert f"lost.parquet: {rows.height:,} rows" in done.stdout
    found = json.loads(explained(run, "--lost", "--top", 2, "--json").stdout)
    assert [len(stage["worst"]) for stage in found["stages"]] == [2, 2, 2, 2]


def test_long_ids_and_values_fit(tmp_path):
    """Ids of 70 characters, names of features with 60, and markup."""
    frame = shop_frame(6).with_columns(
        request_id=pl.Series([f"[bold]{'r' * 70}{i}" for i in range(6)]),
        item_key=pl.Series([[f"[red]{'i' * 70}{i}" for i in range(r % 3 + 1)] for r in range(6)]),
    )
    log = write_shop(tmp_path / "log", [frame])
    stages = {"ranking": {"model": "linear", "quota": 1, "features": ["video", "price"]}}
    run = untrained(tmp_path / "run", log, stages)
    request = frame["request_id"][2]
    rows = json.loads(cascaderank("explain", run, "--request", request, "--json").stdout)
    item = rows["candidates"][-1]["item_key"]
    for words in (
        ["--request", request],
        ["--request", request, "--item", item],
        ["--lost", "--part", "all"],
    ):
        done = explained(run, *words)
        assert "[red]" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected either --request ID or --lost; found neither; give one"),
        (["--lost", "--request", "3"], "expected either --request ID or --lost; found both"),
        (["--item", "3"], "--item needs --request ID, the request of the candidate; give both"),
        (["--lost", "--item", "3"], "--item and --stage need --request ID"),
        (["--request", "3", "--part", "all"], "--part needs --lost"),
        (["--request", "3", "--stage", "ranking"], "--stage needs --item KEY"),
        (["--request", "2394"], "(did you mean '239'?)"),
        (["--request", "3", "--item", "none"], "request '3' has no item 'none'"),
        (["--lost", "--to", "lost.csv"], "expected a name that ends with .parquet; got 'lost.csv'"),
        (["--request", "3", "--to", "x.csv"], "expected a name that ends with .parquet"),
    ],
)
def test_mistakes_are_one_line(run, words, message):
    assert message in refused("explain", run, *words)
