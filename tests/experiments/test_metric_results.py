"""Metrics of the final list in a comparison: gains, tests, and runs that lack them."""

import json

import numpy as np
import pytest

from cascaderank.evaluation import holm, paired_test
from cascaderank.experiments.results import summarise
from tests.experiments.runs import runs_of, with_final_lists

MEANS = {"random order": 0.5, "bce": 0.7, "arf": 0.72, "lcron": 0.8}


@pytest.fixture
def settings(settings_for):
    changes = {"evaluation.metrics": ["ndcg@5", "opa"], "evaluation.bootstrap": 50}
    return settings_for("log").changed(changes)


def summary(settings, runs):
    return summarise(settings, runs, dataset="log", fold_names=["fold 0"])


def test_final_metrics_have_gains_and_adjusted_p(settings):
    runs = with_final_lists(runs_of(MEANS))
    found = summary(settings, runs)
    by_name = {m.name: {v.metric: v for v in m.final_metrics} for m in found.methods}
    assert list(by_name["lcron"]) == ["joint_recall_decided", "ndcg_linear", "ndcg@5"]
    by_seed = {
        name: np.array([x["ndcg@5"][0] for x in runs[name].values.values()]) for name in MEANS
    }
    p = {
        name: paired_test(by_seed[name].mean(0) - by_seed["bce"].mean(0)).p
        for name in ("arf", "lcron")
    }
    for name in ("arf", "lcron"):
        of, base = by_name[name]["ndcg@5"], by_name["bce"]["ndcg@5"]
        assert of.mean == pytest.approx(np.nanmean(by_seed[name]))
        assert of.gain == pytest.approx(of.mean - base.mean)
        assert of.gain_low < of.gain < of.gain_high
        assert (of.p, of.p_holm) == (p[name], holm(p)[name])
    for name in ("random order", "bce"):
        assert {(v.gain, v.p) for v in by_name[name].values()} == {(None, None)}
    decided = by_name["lcron"]["joint_recall_decided"]
    assert decided.requests == 180
    assert by_name["lcron"]["ndcg_linear"].requests == 360
    assert json.loads(json.dumps(found.to_json()))["absent"] == []


def test_recall_of_decided_lists_is_left_out_where_all_lists_are(settings):
    found = summary(settings, with_final_lists(runs_of(MEANS), undecided=slice(0, 0)))
    assert [v.metric for v in found.methods[0].final_metrics] == ["ndcg_linear", "ndcg@5"]


def test_metrics_that_a_run_of_version_0_2_lacks_are_left_out_and_listed(settings):
    runs = with_final_lists(runs_of(MEANS))
    for metric in ("joint_recall_decided", "ndcg_linear"):
        del runs["arf"].values[1][metric]
    found = summary(settings, runs)
    assert found.absent == ["joint_recall_decided", "ndcg_linear"]
    assert {tuple(v.metric for v in m.final_metrics) for m in found.methods} == {("ndcg@5",)}


def test_what_sees_more_is_recorded(settings):
    runs = with_final_lists(runs_of(MEANS))
    runs["arf"].sees_more = True
    found = summary(settings, runs)
    assert [m.name for m in found.methods if m.sees_more] == ["arf"]
