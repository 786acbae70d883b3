"""Summaries of synthetic results: means, intervals and tests."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from cascaderank.errors import ConfigError, DataError
from cascaderank.experiments.results import summarise
from cascaderank.reports import cells
from tests.experiments.runs import runs_of, searched


@pytest.fixture
def settings(settings_for):
    return settings_for("log").changed({"evaluation.bootstrap": 400})


def judged(settings, runs, folds=1, **options):
    names = [f"fold {i}" for i in range(folds)]
    return summarise(settings, runs, dataset="by hand", fold_names=names, **options)


MEANS = {"random order": 0.5, "bce": 0.8, "arf": 0.8, "lcron": 0.84}


def method(found, name):
    return next(m for m in found.methods if m.name == name)


def test_means_are_over_folds_seeds_and_requests(settings):
    runs = runs_of(MEANS, folds=2, seeds=3)
    found = judged(settings, runs, folds=2)
    assert [m.name for m in found.methods] == list(MEANS)
    assert [m.trained for m in found.methods] == [False, True, True, True]
    assert (found.requests, found.undefined, found.seeds) == (720, 80, 3)
    lcron, values = method(found, "lcron"), runs["lcron"].values
    joint = np.array([np.concatenate(values[s]["joint_recall"]) for s in range(3)])
    assert lcron.joint_recall == pytest.approx(np.nanmean(joint), abs=1e-12)
    assert lcron.by_seed == pytest.approx(np.nanmean(joint, axis=1), abs=1e-12)
    assert lcron.seed_deviation == pytest.approx(np.std(lcron.by_seed, ddof=1))
    assert lcron.by_fold == pytest.approx([np.nanmean(joint[:, :400]), np.nanmean(joint[:, 400:])])
    for name, table in (
        ("survival", lcron.stage_survival),
        ("recall", lcron.stage_recall),
        ("ndcg_linear", lcron.stage_ndcg),
    ):
        for stage in ("retrieval", "ranking"):
            of = [np.concatenate(values[s][f"{name}/{stage}"]) for s in range(3)]
            assert table[stage] == pytest.approx(np.nanmean(of))
    assert lcron.seconds == np.mean(runs["lcron"].seconds)
    assert lcron.peak_memory == 250_000_000
    random = method(found, "random order")
    assert (random.seconds, random.peak_memory, random.gain, random.p) == (None,) * 4
    assert random.seed_deviation is None


@pytest.mark.parametrize(("asked", "reference"), [(None, "bce"), ("lcron", "lcron")])
def test_gains_are_over_the_reference(settings, asked, reference):
    runs = runs_of(MEANS)
    found = judged(settings.changed({"compare.reference": asked}), runs)
    assert found.reference == reference
    base = method(found, reference)
    assert (base.gain, base.p, base.p_holm) == (None, None, None)
    for m in found.methods:
        if m.trained and m.name != reference:
            assert m.gain == pytest.approx(m.joint_recall - base.joint_recall)
            assert m.gain_low < m.gain < m.gain_high


def test_p_is_of_the_difference_request_by_request_and_adjusted(settings):
    runs = runs_of(MEANS)
    found = judged(settings, runs)
    by_seed = {
        name: np.array([runs[name].values[s]["joint_recall"][0] for s in range(3)])
        for name in ("bce", "arf", "lcron")
    }
    difference = by_seed["arf"].mean(0) - by_seed["bce"].mean(0)
    t = stats.ttest_1samp(difference[~np.isnan(difference)], 0).pvalue
    arf, lcron = method(found, "arf"), method(found, "lcron")
    assert arf.p == pytest.approx(t, abs=0.03)
    assert lcron.p < 0.001
    assert lcron.p_holm == 2 * lcron.p
    assert arf.p_holm == arf.p
    assert (cells.mark(arf), cells.mark(lcron)) == ("", "better")
    turned = judged(settings.changed({"compare.reference": "lcron"}), runs)
    assert cells.mark(method(turned, "bce")) == "worse"


def test_a_gain_within_the_variance_of_seeds_is_not_marked(settings):
    runs = runs_of({"bce": 0.8, "lcron": 0.8}, seeds=5)
    for seed in range(5):
        of_seed = runs["bce"].values[seed]["joint_recall"][0]
        # An offset per seed, equal for all requests, so the mean over seeds is higher on every request.
        luck = 0.02 + (0.1 if seed % 2 else -0.1 + 0.04 * (seed == 0))
        runs["lcron"].values[seed]["joint_recall"][0] = of_seed + luck
    lcron = method(judged(settings, runs), "lcron")
    assert lcron.p_holm < 0.001
    assert lcron.gain_low < 0 < lcron.gain < lcron.gain_high
    assert cells.mark(lcron) == ""


def test_nothing_is_marked_with_one_seed(settings):
    lcron = method(judged(settings, runs_of({"bce": 0.7, "lcron": 0.9}, seeds=1)), "lcron")
    assert lcron.p_holm < 0.001
    assert lcron.gain_low > 0
    assert cells.mark(lcron) == ""


def test_differing_seeds_widen_the_interval(settings):
    runs = runs_of({"bce": 0.8, "lcron": 0.8}, seeds=4)
    before = method(judged(settings, runs), "lcron")
    for seed in range(4):
        runs["lcron"].values[seed]["joint_recall"][0] += 0.05 * (-1) ** seed
    after = method(judged(settings, runs), "lcron")
    assert after.high - after.low > 2 * (before.high - before.low)


def test_the_planted_ceiling_is_that_of_its_own_cascade(settings):
    every = {"features": ["quality", "match_2"]}
    planted = {"quotas": [30, 20], "ground_truth": 10, "joint_recall": 0.9, "stages": [every] * 2}
    found = judged(settings, runs_of(MEANS), planted=planted)
    assert (found.ceiling, found.ceiling_kind) == (0.9, "planted")
    assert method(found, "bce").share_of_ceiling == method(found, "bce").joint_recall / 0.9
    other = judged(settings, runs_of(MEANS), planted={**planted, "quotas": [30, 10]})
    assert (other.ceiling, other.ceiling_kind) == (1.0, "quotas")


def test_the_planted_ceiling_does_not_apply_to_stages_with_more_features(settings):
    planted = {"quotas": [30, 20], "ground_truth": 10, "joint_recall": 0.9}
    planted["stages"] = [{"features": ["quality"]}, {"features": ["quality", "match_2"]}]

    def kind(features):
        changed = settings.changed({"stages.retrieval.features": features})
        return judged(changed, runs_of(MEANS), planted=planted).ceiling_kind

    assert kind(["*"]) == kind(["quality", "match_*"]) == "quotas"
    assert kind(["*", "!match_*"]) == "planted"


def test_published_values_are_included_with_a_note_on_the_data(settings):
    asked = settings.changed({"compare.published": "lcron_table_2"})
    runs = runs_of(MEANS)
    found = judged(asked, runs)
    lcron = method(found, "lcron").published
    assert (lcron.mean, lcron.std) == (0.8732, 0.0005)
    assert method(found, "random order").published is None
    assert "not on this data set" in found.published["note"]
    same = summarise(asked, runs, dataset="recflow, two stages", fold_names=["fold 0"])
    assert "the same data set" in same.published["note"]
    assert judged(settings, runs).published is None


def test_search_is_tested_over_repeated_runs(settings):
    runs = searched(runs_of(MEANS, folds=2, seeds=5))
    found = judged(settings, runs, folds=2)
    assert method(found, "random order").search == []
    bce, arf, lcron = (method(found, name).search for name in ("bce", "arf", "lcron"))
    assert [v.metric for v in lcron] == ["recall@20", "recall@50"]
    by_seed = {
        name: [
            np.nanmean(np.concatenate(runs[name].values[s]["catalogue/recall@50"]))
            for s in range(5)
        ]
        for name in ("bce", "arf", "lcron")
    }
    assert lcron[1].mean == pytest.approx(np.mean(by_seed["lcron"]))
    assert lcron[1].deviation == pytest.approx(np.std(by_seed["lcron"], ddof=1))
    assert lcron[1].low < lcron[1].mean < lcron[1].high
    assert lcron[1].gain == pytest.approx(lcron[1].mean - bce[1].mean)
    p = {
        name: stats.ttest_ind(by_seed[name], by_seed["bce"], equal_var=False).pvalue
        for name in ("arf", "lcron")
    }
    assert (arf[1].p, lcron[1].p) == pytest.approx((p["arf"], p["lcron"]))
    smaller, larger = sorted((arf[1].p, lcron[1].p))
    adjusted = sorted((arf[1].p_holm, lcron[1].p_holm))
    assert adjusted == pytest.approx(sorted((2 * smaller, max(2 * smaller, larger))))
    assert (bce[1].gain, bce[1].p, bce[1].p_holm) == (None, None, None)


def test_a_method_without_retrieval_has_no_retrieval_metrics(settings):
    runs = searched(runs_of(MEANS))
    for values in runs["arf"].values.values():
        for metric in ("recall@20", "recall@50"):
            del values[f"catalogue/{metric}"]
    found = judged(settings, runs)
    assert method(found, "arf").search == []
    assert len(method(found, "lcron").search) == 2
    turned = judged(settings.changed({"compare.reference": "arf"}), runs)
    assert method(turned, "lcron").search == []


def test_undefined_values_are_null_in_json(settings):
    runs = runs_of(MEANS)
    for seen in runs.values():
        for of_seed in seen.values.values():
            of_seed["ndcg_linear/ranking"] = [np.full(400, np.nan)]
    found = judged(settings, runs)
    assert math.isnan(method(found, "bce").stage_ndcg["ranking"])
    plain = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert plain["methods"][1]["stage_ndcg"]["ranking"] is None
    assert plain["methods"][1]["tuning"] == runs["bce"].tuning


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compare.reference": "lcorn"}, r"got 'lcorn' \(did you mean 'lcron'\?\)"),
        ({"compare.published": "lcron_table_22"}, "unknown published table 'lcron_table_22'"),
    ],
)
def test_invalid_arguments_are_rejected(settings, changes, message):
    with pytest.raises(ConfigError, match=message):
        judged(settings.changed(changes), runs_of(MEANS))


def test_test_requests_without_ground_truth_are_rejected(settings):
    runs = runs_of({"bce": 0.8})
    runs["bce"].values[0]["reachable"] = [np.full(400, np.nan)]
    with pytest.raises(DataError, match="log: no test request has ground truth"):
        judged(settings, runs)
