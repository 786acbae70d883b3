"""The code and the commands of whole pages run, in the order of the page."""

import dataclasses
import json
import re

import polars as pl
import pytest

from cascaderank import RequestBatch
from tests.pages import ROOT, run_page


def test_from_a_log_to_production(tmp_path):
    output = run_page("docs/production.md", tmp_path, toml="shop.toml")
    for stage in ("retrieval", "preranking", "ranking"):
        assert stage in output
    assert (tmp_path / "first.toml").exists()
    scores = pl.read_parquet(tmp_path / "scores.parquet")
    assert scores["rank"].max() == 8, "the quota of the last stage"
    assert "shape: (8, 3)" in output
    assert len(json.loads(output.strip().splitlines()[-1])) == 20


def test_batches_and_loops(tmp_path):
    output = run_page("docs/loops.md", tmp_path)
    assert "300 float32 [ 0 40 80]" in output
    assert "joint recall@10" in output


def test_the_table_of_a_batch_has_its_fields():
    table = re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/loops.md").read_text(), re.MULTILINE)
    assert set(table) == {field.name for field in dataclasses.fields(RequestBatch)}


def test_off_policy_value(tmp_path):
    output = run_page("docs/off_policy.md", tmp_path)
    assert re.search(r"SNIPS .* first\n", output), "the better ranking stage has the higher value"
    assert "not ranked" not in output


def test_what_was_served_is_trained_on(tmp_path):
    output = run_page("docs/served_log.md", tmp_path, toml="funnel.toml")
    assert "recorded=40, written=40" in output
    assert "joined=40" in output
    assert "('retrieval_neg', 'ranking_neg', 'served')" in output
    assert "served/propensity" in output
    assert (tmp_path / "runs" / "second" / "report.json").exists()


def test_quotas_under_a_budget(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    output = run_page("docs/quotas.md", tmp_path)
    assert "Quotas for a recall of at least 0.6" in output
    assert "trained again" in output
    assert re.search(r"best quotas: \(\d+, \d+, 10\)", output)
    assert (tmp_path / "runs" / "front.png").read_bytes().startswith(b"\x89PNG")
    for name in ("front.csv", "quotas.toml", "again/report.json"):
        assert (tmp_path / "runs" / name).exists()


def test_report(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    output = run_page("docs/report.md", tmp_path)
    assert "loses most" in output
    assert "country = FR: 0.58, elsewhere 0.90" in output
    assert (tmp_path / "runs" / "report.html").stat().st_size < 6_000_000
    assert (tmp_path / "runs" / "slides" / "funnel.png").exists()


def test_why_an_item_was_kept_or_cut(tmp_path):
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    output = run_page("docs/explain.md", tmp_path)
    assert re.search(
        r"^retrieval \(quota 30\) cut \d+ candidates of the ground", output, re.MULTILINE
    )
    assert re.search(
        r"^request 7: 40 candidates, 10 of ground truth; quotas:", output, re.MULTILINE
    )
    assert re.search(r"^item 2771 of request 7: level \w+, ", output, re.MULTILINE)
    assert re.search(r"^sum +[+-]\d", output, re.MULTILINE)
    assert re.search(r"^\[\('ranking', \d+\)\]$", output, re.MULTILINE)
    assert max(map(len, output.splitlines())) <= 80


def test_check_before_training(tmp_path):
    output = run_page("docs/check.md", tmp_path)
    assert "funnel: 0 findings; read all 2,000 requests" in output
    assert "training takes 4 steps at most" in " ".join(output.split())
    assert output.splitlines()[-1] == "False []"
