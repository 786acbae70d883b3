"""Metrics of the published experiments, computed outside this project."""

import json
import os
from pathlib import Path

import pytest
import torch

from cascaderank.evaluation import Evaluator
from cascaderank.metrics.cascade_recall import cascade_recall_metric
from cascaderank.metrics.ndcg import ndcg_metric
from cascaderank.metrics.recall import recall_metric


@pytest.fixture(scope="module", params=["two_stage", "three_stage"])
def golden(request):
    default = Path(__file__).parents[3] / "shared" / "golden"
    path = Path(os.environ.get("CASCADERANK_GOLDEN", default)) / f"{request.param}.json"
    if not path.is_file():
        pytest.skip(f"no golden values: {path} is absent; set CASCADERANK_GOLDEN")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(params=["distinct", "tied"])
def case(golden, request):
    scores = torch.tensor(golden["scores"], dtype=torch.float64)
    labels = torch.tensor(golden["cases"][request.param]["labels"], dtype=torch.float64)
    return scores, labels, golden["cases"][request.param]["metrics"], golden


def test_joint_recall(case):
    scores, labels, metrics, golden = case
    got = cascade_recall_metric(scores, labels, quotas=golden["quotas"], k=10)
    want = torch.tensor(metrics["joint_recall_per_list"], dtype=torch.float64)
    torch.testing.assert_close(got, want)
    assert got.mean().item() == pytest.approx(metrics["joint_recall"])


def test_stage_recall(case):
    scores, labels, metrics, golden = case
    for stage, name in zip(scores, golden["stages"], strict=True):
        got = recall_metric(stage, labels, m=metrics[name]["support_m"], k=10)
        want = torch.tensor(metrics[name]["recall10_per_list"], dtype=torch.float64)
        torch.testing.assert_close(got, want)


def test_stage_ndcg(case):
    scores, labels, metrics, golden = case
    for stage, name in zip(scores, golden["stages"], strict=True):
        got = ndcg_metric(stage, labels, k=10, gain="linear").mean().item()
        assert got == pytest.approx(metrics[name]["ndcg10"], abs=1e-11)


def test_a_report_says_the_same(case):
    scores, labels, metrics, golden = case
    evaluator = Evaluator(quotas=golden["quotas"], stage_names=golden["stages"], k=10)
    evaluator.update(scores, labels)
    report = evaluator.report(bootstrap=10)
    assert report.metrics["joint_recall"].mean == pytest.approx(metrics["joint_recall"])
    for name, stage in report.stages.items():
        assert stage.recall.mean == pytest.approx(metrics[name]["recall10"])
        assert stage.ndcg_linear.mean == pytest.approx(metrics[name]["ndcg10"], abs=1e-11)
