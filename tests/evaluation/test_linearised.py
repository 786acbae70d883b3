"""Linearised values of metrics that are not means over requests."""

import numpy as np
import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.evaluation import Evaluator, bootstrap_interval, gauc, ranking_consistency
from cascaderank.evaluation.linearised import linearised_auc, linearised_gauc
from cascaderank.metrics import auc_metric, named_metric

CLICKS, EXPOSED = 4, 3
NAMES = ("gauc >= 4 among >= 3", "pooled_auc >= 4 among >= 3", "rcs", "rcs@3", "recall@10 >= 3")


def requests(count=80, *, seed=0):
    """Scores, labels and mask; requests differ in length and in ranking quality."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 5, (count, 30), generator=g).float()
    skill = torch.rand(count, 1, generator=g)
    scores = (
        skill * labels + torch.randn(2, count, 30, generator=g) + torch.rand(count, 1, generator=g)
    )
    mask = torch.rand(count, 30, generator=g) < torch.rand(count, 1, generator=g)
    return scores.double().round(decimals=1), labels, mask  # rounding creates ties


def reported(order, size):
    scores, labels, mask = requests()
    evaluator = Evaluator(quotas=(10, 5), threshold=CLICKS, metrics=NAMES)
    for rows in torch.as_tensor(order).split(size):
        evaluator.update(scores[:, rows], labels[rows], mask=mask[rows], rows=rows)
    return evaluator.report(bootstrap=50)


def test_the_report_contains_the_pooled_metrics():
    scores, labels, mask = requests()
    found = reported(range(80), 80).stages["stage_1"].metrics
    exposed = mask & (labels >= EXPOSED)
    pooled = auc_metric(scores[0][exposed], labels[exposed], threshold=CLICKS)
    aucs = auc_metric(scores[0], labels, threshold=CLICKS, mask=exposed)
    consistency = ranking_consistency(scores, quotas=(10, 5), mask=mask)
    assert found[NAMES[0]].mean == pytest.approx(float(gauc(aucs, exposed.sum(-1))), abs=1e-12)
    assert found[NAMES[1]].mean == pytest.approx(float(pooled), abs=1e-12)
    assert found["rcs"].mean == pytest.approx(float(consistency.nanmean()), abs=1e-12)
    assert found["rcs@3"].mean != found["rcs"].mean


def test_pooled_metrics_are_bitwise_independent_of_batches():
    found = [reported(range(80), 80), reported(range(79, -1, -1), 7)]
    whole, parts = (r.to_json() for r in found)
    assert whole == parts


def test_rcs_of_the_last_stage_is_undefined():
    found = reported(range(80), 80).stages["stage_2"].metrics["rcs"]
    assert found.requests == 0
    assert np.isnan(found.mean)


@pytest.mark.parametrize("name", NAMES[:2])
def test_the_interval_agrees_with_recomputing_the_metric_per_replicate(name):
    scores, labels, mask = requests(300, seed=1)
    exposed = mask & (labels >= EXPOSED)
    aucs = auc_metric(scores[0], labels, threshold=CLICKS, mask=exposed)
    g, drawn = torch.Generator().manual_seed(2), []
    for _ in range(400):
        rows = torch.randint(0, 300, (300,), generator=g)
        if name.startswith("gauc"):
            drawn.append(float(gauc(aucs[rows], exposed[rows].sum(-1))))
        else:
            some = exposed[rows]
            drawn.append(
                float(auc_metric(scores[0][rows][some], labels[rows][some], threshold=CLICKS))
            )
    if name.startswith("gauc"):
        values = linearised_gauc(aucs, exposed.sum(-1))
    else:
        request = exposed.nonzero()[:, 0]
        values = linearised_auc(scores[0][exposed], labels[exposed] >= CLICKS, request, 300)
    found = bootstrap_interval(values.numpy())
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.006)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.006)
    assert found.high - found.low > 0.03  # otherwise the comparison above is vacuous


def test_pooled_auc_of_one_class_is_undefined():
    one = torch.ones(3, dtype=torch.bool)
    assert linearised_auc(torch.rand(3), one, torch.tensor([0, 1, 1]), 2).isnan().all()


def test_a_request_without_impressions_is_excluded():
    scores, positive = torch.tensor([2.0, 1.0]), torch.tensor([True, False])
    values = linearised_auc(scores, positive, torch.tensor([0, 2]), 3)
    assert values.isnan().tolist() == [False, True, False]
    assert float(values.nanmean()) == 1.0


def test_errors_are_those_of_probabilities():
    odds = torch.tensor([[0.0, 2.0, -1.0, 9.0], [1.0, 0.0, 0.0, 0.0]])
    truth = torch.tensor([[0.25, 0.5, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True, False], [False] * 4])
    error = odds.double().sigmoid() - truth
    bias, size = (named_metric(n)(odds, truth, mask=mask) for n in ("bias", "absolute_error"))
    assert float(bias[0]) == pytest.approx(float(error[0, :3].mean()))
    assert float(size[0]) == pytest.approx(float(error[0, :3].abs().mean()))
    assert bias[1].isnan()
    some = named_metric("bias among >= 0.5")(odds, truth, mask=mask)
    assert float(some[0]) == pytest.approx(float(error[0, 1:3].mean()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("recall@10 >= 3 among >= 3", "lower than the threshold of the ground truth"),
        ("recall@10@5 >= 3", "takes one of k and a threshold"),
        ("opa >= 3", "takes no threshold of the ground truth"),
        ("rcs >= 3", "takes no threshold of the ground truth"),
        ("rcs among >= 3", "candidates that a stage passes on"),
        ("bias >= 0.5", "takes no threshold of the ground truth"),
        ("gauc@10", r"takes at most 0 number\(s\) after @"),
        ("gau", "did you mean 'gauc'"),
        ("auc > 3", "written as"),
    ],
)
def test_invalid_metric_names_are_rejected(text, message):
    with pytest.raises(ConfigError, match=message):
        named_metric(text)
