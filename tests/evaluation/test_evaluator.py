"""Evaluator: contents of the report, and independence of the batches."""

import json
import math

import numpy as np
import pytest
import torch

from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.evaluation import Evaluator, Report, attribute
from cascaderank.metrics.cascade_recall import cascade_recall_metric
from cascaderank.metrics.ndcg import ndcg_metric
from cascaderank.metrics.recall import recall_metric
from cascaderank.selection import select

REQUESTS, LENGTH, QUOTAS, NAMES = 53, 41, (30, 20), ("retrieval", "ranking")


@pytest.fixture
def requests():
    """Scores and labels with ties, in lists of very different lengths."""
    g = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 5, (REQUESTS, LENGTH), generator=g) + 0.1
    scores = (labels + 3 * torch.randn(2, REQUESTS, LENGTH, generator=g)).mul(4).round() / 7
    lengths = torch.randint(1, LENGTH + 1, (REQUESTS, 1), generator=g)
    lengths[0] = LENGTH
    return scores, labels, torch.arange(LENGTH) < lengths


def evaluated(requests, rows, batch_size, **by):
    """Evaluate rows in batches, each padded to its longest list as by a loader."""
    scores, labels, mask = requests
    evaluator = Evaluator(quotas=QUOTAS, stage_names=NAMES, **by)
    for batch in rows.split(batch_size):
        longest = int(mask[batch].sum(-1).max())
        evaluator.update(
            scores[:, batch, :longest],
            labels[batch, :longest],
            mask=mask[batch, :longest],
            rows=batch,
        )
    return evaluator


@pytest.mark.parametrize("by", [{"k": 10}, {"threshold": 3.1}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_report_is_bitwise_independent_of_batch_size_and_order(requests, by, dtype):
    requests = (requests[0].to(dtype), *requests[1:])
    rows = torch.arange(REQUESTS)
    whole = evaluated(requests, rows, REQUESTS, **by)
    want, values = json.dumps(whole.report(bootstrap=50).to_json()), whole.per_request()
    shuffled = torch.randperm(REQUESTS, generator=torch.Generator().manual_seed(2))
    for order in (rows, shuffled):
        for batch_size in (1, 7, REQUESTS):
            evaluator = evaluated(requests, order, batch_size, **by)
            assert json.dumps(evaluator.report(bootstrap=50).to_json()) == want
            for name, value in evaluator.per_request().items():
                assert value.tobytes() == values[name].tobytes(), name


def test_values_per_request_are_those_of_the_metrics(requests):
    scores, labels, mask = requests
    got = evaluated(requests, torch.arange(REQUESTS), 10, k=10).per_request()
    by, exact = {"k": 10, "mask": mask}, scores.double()
    found = attribute(exact, labels, quotas=QUOTAS, **by)
    want = {
        "joint_recall": cascade_recall_metric(exact, labels, quotas=QUOTAS, **by),
        "reachable": found.reachable,
    }
    want["joint_recall_decided"] = want["joint_recall"].masked_fill(mask.sum(-1) <= 20, torch.nan)
    final = {"mask": mask, "retrieved": select(exact, QUOTAS, mask)[-1]}
    for gain in ("linear", "exponential"):
        want[f"ndcg_{gain}"] = ndcg_metric(exact[1], labels, k=10, gain=gain, **final)
    for i, name in enumerate(NAMES):
        want |= {
            f"recall/{name}": recall_metric(exact[i], labels, m=QUOTAS[i], **by),
            f"ndcg_linear/{name}": ndcg_metric(exact[i], labels, gain="linear", **by),
            f"ndcg_exponential/{name}": ndcg_metric(exact[i], labels, gain="exponential", **by),
            f"survival/{name}": found.alive[i],
            f"lost/{name}": found.lost[i],
            f"ceiling_if_perfect/{name}": found.ceiling[i],
            f"depth/{name}": found.depth[i],
        }
    assert got.keys() == {"row", "ground_truth", *want}
    for name, value in want.items():
        np.testing.assert_array_equal(got[name], value.numpy(), err_msg=name)
    assert got["row"].tolist() == list(range(REQUESTS))
    np.testing.assert_allclose(got["ground_truth"], mask.sum(-1).clamp(max=10))


def test_a_mean_is_over_the_requests_where_it_is_defined(requests):
    requests[1][::5].clamp_(max=3)
    evaluator = evaluated(requests, torch.arange(REQUESTS), 10, threshold=4.0)
    report, values = evaluator.report(bootstrap=20), evaluator.per_request()
    missing = int((values["ground_truth"] == 0).sum())
    assert 0 < missing == report.without_ground_truth
    joint = report.metrics["joint_recall"]
    assert (joint.requests, joint.undefined) == (REQUESTS - missing, missing)
    assert joint.mean == pytest.approx(np.nanmean(values["joint_recall"]))
    depth = report.stages["ranking"].depth
    assert depth.requests == (values["lost/ranking"] > 0).sum()
    assert report.per_request.keys() == values.keys()


def test_keys_of_the_json_are_stable(requests):
    report = evaluated(requests, torch.arange(REQUESTS), 10, k=10).report(bootstrap=9)
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert list(data) == [
        "requests", "without_ground_truth", "ground_truth", "bootstrap", "metrics", "stages", "notes",
    ]  # fmt: skip
    assert data["ground_truth"] == {"k": 10, "threshold": None}
    assert data["bootstrap"] == {"resamples": 9, "confidence": 0.95}
    assert list(data["metrics"]) == [
        "joint_recall", "joint_recall_decided", "reachable", "ndcg_linear", "ndcg_exponential",
    ]  # fmt: skip
    assert list(data["stages"]) == list(NAMES)
    for name, quota in zip(NAMES, QUOTAS, strict=True):
        stage = data["stages"][name]
        assert list(stage) == [
            "quota", "recall", "ndcg_linear", "ndcg_exponential", "survival", "lost",
            "ceiling_if_perfect", "depth", "all_candidates",
        ]  # fmt: skip
        assert stage["quota"] == quota
        assert list(stage["recall"]) == ["mean", "low", "high", "requests", "undefined"]
    assert Report.from_json(data) == report


def test_a_report_without_ground_truth_is_undefined_and_serialisable(requests):
    report = evaluated(requests, torch.arange(REQUESTS), 10, threshold=99.0).report(bootstrap=9)
    assert report.without_ground_truth == REQUESTS
    data = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert data["metrics"]["joint_recall"]["mean"] is None
    assert data["metrics"]["joint_recall"]["undefined"] == REQUESTS
    assert math.isnan(Report.from_json(data).metrics["joint_recall"].mean)


def test_labels_above_the_highest_grade_have_no_exponential_gain(requests):
    scores, labels, mask = requests
    few = evaluated(requests, torch.arange(REQUESTS), 10, k=5).report(bootstrap=0)
    assert few.notes == ()
    assert few.stages["ranking"].ndcg_exponential is not None
    many = labels.clone()
    many[7, 0] = 31
    report = evaluated((scores, many, mask), torch.arange(REQUESTS), 10, k=5).report()
    assert all(stage.ndcg_exponential is None for stage in report.stages.values())
    assert report.stages["ranking"].ndcg_linear.requests == REQUESTS
    assert "grades up to 30; the highest label is 31" in report.notes[0]
    names = ["ndcg@3", 'ndcg(gain="linear")@3', "recall@3"]
    by = {"metrics": names, "k": 5}
    assert names[0] in evaluated(requests, torch.arange(REQUESTS), 10, **by).report().metrics
    some = evaluated((scores, many, mask), torch.arange(REQUESTS), 10, **by).report(bootstrap=0)
    assert [*some.metrics][-2:] == [*some.stages["ranking"].over_all_candidates] == names[1:]
    assert some.notes[0].startswith("ndcg_exponential and ndcg@3 are omitted")
    assert not [name for name in some.per_request if "ndcg@3" in name]
    assert Report.from_json(report.to_json()) == report
    padded = labels.masked_fill(~mask, 1e9)
    report = evaluated((scores, padded, mask), torch.arange(REQUESTS), 10, k=5).report()
    assert report.notes == ()


def test_a_note_reports_that_labels_below_zero_leave_ndcg_undefined(requests):
    scores, labels, mask = requests
    report = evaluated((scores, labels - 2, mask), torch.arange(REQUESTS), 10, k=5).report()
    assert "the lowest label is -1.9" in report.notes[0]
    assert report.stages["ranking"].ndcg_linear.undefined > 0
    assert report.stages["ranking"].recall.undefined == 0


def test_ndcg_is_of_the_whole_list_where_ground_truth_has_no_size(requests):
    scores, labels, mask = requests
    got = evaluated(requests, torch.arange(REQUESTS), 10, threshold=3.1).per_request()
    want = ndcg_metric(scores[1].double(), labels, gain="linear", mask=mask)
    want = want.masked_fill(~((labels >= 3.1) & mask).any(-1), torch.nan)
    np.testing.assert_array_equal(got["ndcg_linear/ranking"], want.numpy())


def test_without_rows_requests_are_numbered_in_order_of_arrival(requests):
    scores, labels, mask = requests
    evaluator = Evaluator(quotas=QUOTAS, k=10)
    for part in torch.arange(REQUESTS).split(20):
        evaluator.update(scores[:, part], labels[part], mask=mask[part])
    assert len(evaluator) == REQUESTS
    assert evaluator.per_request()["row"].tolist() == list(range(REQUESTS))
    assert list(evaluator.report(bootstrap=0).stages) == ["stage_1", "stage_2"]


def test_a_repeated_request_is_rejected(requests):
    rows = torch.tensor([3, 5, 3])
    with pytest.raises(DataError, match="evaluated once; got 1 repeated rows, such as row 3"):
        evaluated(requests, rows, 2, k=10).report()


def test_an_evaluation_without_requests_is_rejected():
    with pytest.raises(DataError, match="at least one request"):
        Evaluator(quotas=QUOTAS, k=10).report()


def test_nan_scores_are_rejected_except_under_the_mask(requests):
    scores, labels, mask = requests
    evaluator = Evaluator(quotas=QUOTAS, stage_names=NAMES, k=10)
    evaluator.update(scores.masked_fill(~mask, torch.nan), labels, mask=mask)
    broken = scores.clone()
    broken[1, 0, :3] = torch.nan
    with pytest.raises(
        DataError, match=f"'ranking' must be numbers; got NaN for 3 of {mask.sum()}"
    ):
        evaluator.update(broken, labels, mask=mask)
    broken = labels.clone()
    broken[0, 0] = torch.nan
    with pytest.raises(DataError, match=f"labels must be numbers; got NaN for 1 of {mask.sum()}"):
        evaluator.update(scores, broken, mask=mask)
    assert len(evaluator) == REQUESTS, "what was refused leaves no trace"


def test_scores_may_require_gradients(requests):
    scores, labels, mask = requests
    evaluator = Evaluator(quotas=QUOTAS, k=10)
    evaluator.update(scores.clone().requires_grad_(), labels, mask=mask)
    assert len(evaluator.per_request()["joint_recall"]) == REQUESTS


def test_invalid_arguments_are_rejected(requests):
    scores, labels, mask = requests
    with pytest.raises(ConfigError, match="got neither"):
        Evaluator(quotas=QUOTAS)
    with pytest.raises(ConfigError, match="never grow"):
        Evaluator(quotas=(1, 2), k=1)
    for names in (["a"], ["a", "a"]):
        with pytest.raises(ConfigError, match="one distinct name per stage"):
            Evaluator(quotas=QUOTAS, stage_names=names, k=1)
    evaluator = Evaluator(quotas=QUOTAS, k=1)
    with pytest.raises(ShapeError, match="rows must be"):
        evaluator.update(scores, labels, mask=mask, rows=torch.arange(3))
    with pytest.raises(ShapeError, match="2 quotas for 1 stages"):
        evaluator.update(scores[:1], labels, mask=mask)
