"""Comparisons use the requests, seeds and references that they claim to use."""

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.evaluation import evaluate
from cascaderank.experiments.baselines import build_baseline
from cascaderank.experiments.compare import compare
from cascaderank.experiments.heatmap import heatmap
from cascaderank.experiments.results import summarise
from cascaderank.experiments.scorers import fit_scorer
from cascaderank.runs.data import run_data
from cascaderank.schema import Schema
from cascaderank.settings.run import check_settings, read_settings
from tests.experiments.runs import runs_of


def test_baselines_are_evaluated_on_the_test_requests_with_every_seed(
    funnel, settings_for, tmp_path
):
    settings = settings_for(
        funnel,
        train__epochs=1,
        compare__seeds=2,
        compare__baselines=["random", "feature:quality"],
        compare__objectives=["bce"],
    )
    random, feature, _ = compare(settings, tmp_path).methods

    def recall(baseline, part, seed=0):
        with run_data(settings) as data:
            seeded = settings.changed({"train.seed": seed})
            cascade = build_baseline(baseline, seeded, data).cascade
            loader = RequestLoader(data.encoded, getattr(data.split, part), batch_size=99)
            report = evaluate(cascade, loader, k=10, bootstrap=1)
        return report.metrics["joint_recall"].mean

    assert random.by_seed == pytest.approx([recall("random", "test", seed) for seed in (0, 1)])
    assert random.by_seed[0] != random.by_seed[1]
    assert feature.joint_recall == pytest.approx(recall("feature:quality", "test"))
    assert feature.joint_recall != recall("feature:quality", "validation")


def test_the_best_feature_is_chosen_on_the_training_requests(tmp_path):
    """``good`` ranks the training requests perfectly, ``late`` the others."""
    schema = Schema(
        features=tuple({"name": n, "role": "item", "kind": "numeric"} for n in ("good", "late"))
    )
    chance = np.random.default_rng(0)
    with RequestLogWriter(tmp_path / "log", name="log", schema=schema) as writer:
        for first, part in enumerate(("train", "validation", "test")):
            columns = {name: chance.normal(size=(20, 10)).tolist() for name in ("good", "late")}
            columns["label"] = columns["good" if part == "train" else "late"]
            ids = range(20 * first, 20 * first + 20)
            writer.write(pl.DataFrame({"request_id": ids, **columns}), given=part)
    settings = check_settings(
        {
            "data": {
                "path": str(tmp_path / "log"),
                "target": "label",
                "split": {"by": "given"},
            },
            "relevance": {"top": 2},
            "stages": {"a": {"model": "linear", "quota": 2}},
        }
    )
    with run_data(settings) as data:
        best = build_baseline("best_feature", settings, data)
    assert set(best.chosen.values()) == {"good"}


def test_a_heat_map_trains_every_fold_with_every_seed(funnel, settings_for, tmp_path):
    settings = settings_for(
        funnel, data__split={"by": "fold", "folds": 3, "seed": 2}, train__epochs=1
    )
    settings = settings.changed(
        {"stages": {"ranking": {"model": "linear", "quota": 20}}, "objective": {"name": "ranknet"}}
    )
    found = heatmap(settings, tmp_path, losses=["ranknet"], m=[10], k=[5], seeds=2)
    assert (found.folds, found.seeds, found.requests) == (3, 2, 240)
    by_seed, tested = [], []
    for seed in range(2):
        of_seed = []
        for fold in range(3):
            run = tmp_path / "ranknet" / "m-10-k-5" / f"fold-{fold}" / f"seed-{seed}"
            used = read_settings(run / "config.toml")
            assert (used.train.seed, used.data.split.fold) == (seed, fold)
            requests = pl.read_parquet(run / "per_request.parquet")
            tested += requests["row"].to_list()
            of_seed.append(requests["all_candidates/recall@10@5/ranking"].to_numpy())
        by_seed.append(np.concatenate(of_seed))
    assert sorted(tested) == sorted([*range(240)] * 2)
    assert not np.array_equal(*by_seed)
    assert found.losses[0].recall == [[pytest.approx(np.mean(by_seed))]]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({}, "planted"),
        ({"relevance": {"top": 5}}, "quotas"),
        ({"data.target": "level"}, "quotas"),
    ],
)
def test_the_planted_ceiling_is_for_the_planted_ground_truth(settings_for, changes, kind):
    settings = settings_for("log").changed({"evaluation.bootstrap": 20, **changes})
    stages = [{"features": ["quality"]}] * 2
    planted = {"quotas": [30, 20], "ground_truth": 10, "joint_recall": 0.9, "stages": stages}
    runs = runs_of({"bce": 0.8})
    found = summarise(settings, runs, dataset="log", fold_names=["fold 0"], planted=planted)
    assert (found.ceiling, found.ceiling_kind) == (0.9 if kind == "planted" else 1.0, kind)


def test_the_metrics_of_a_stage_gain_over_the_reference(settings_for):
    changes = {"evaluation.metrics": ["ndcg@5"], "compare.reference": "lcron"}
    settings = settings_for("log").changed({"evaluation.bootstrap": 50, **changes})
    runs = runs_of({"random order": 0.5, "bce": 0.7, "arf": 0.75, "lcron": 0.85})
    for seen in runs.values():
        for values in seen.values.values():
            for place, stage in enumerate(("retrieval", "ranking")):
                values[f"all_candidates/ndcg@5/{stage}"] = [
                    v * (0.5 + place / 4) for v in values["joint_recall"]
                ]
    found = summarise(settings, runs, dataset="log", fold_names=["fold 0"])
    of = {m.name: {v.stage: v for v in m.stage_metrics} for m in found.methods}
    for stage in ("retrieval", "ranking"):
        reference = of["lcron"][stage]
        for name in ("random order", "lcron"):
            assert of[name][stage].gain is None
        for name in ("bce", "arf"):
            metric = of[name][stage]
            assert metric.gain == pytest.approx(metric.mean - reference.mean)
            assert metric.gain_low < metric.gain < metric.gain_high < 0


def test_trees_are_drawn_by_the_seed_of_the_run(tmp_path):
    pytest.importorskip("lightgbm")
    schema = Schema(
        features=tuple({"name": n, "role": "item", "kind": "numeric"} for n in ("x", "y", "z"))
    )
    chance = np.random.default_rng(0)
    values = {name: chance.normal(size=(60, 10)) for name in ("x", "y", "z")}
    grades = np.clip(np.round(1 + values["x"] * values["y"]), 0, 4)
    with RequestLogWriter(tmp_path / "log", name="log", schema=schema) as writer:
        columns = {name: column.tolist() for name, column in values.items()}
        writer.write(pl.DataFrame({"request_id": range(60), **columns, "label": grades.tolist()}))
    settings = check_settings(
        {
            "data": {"path": str(tmp_path / "log"), "target": "label"},
            "relevance": {"top": 3},
            "stages": {"a": {"model": "linear", "quota": 3}},
        }
    )
    options = {"rounds": 5, "patience": 5, "min_data_in_leaf": 2, "num_leaves": 4}
    with run_data(settings) as data:
        (batch,) = RequestLoader(data.encoded, data.split.test, batch_size=99).epoch(0)

        def scores(seed):
            seeded = settings.changed({"train.seed": seed})
            cascade, _ = fit_scorer("lightgbm_lambdarank", options, seeded, data)
            return cascade(batch)

        assert torch.equal(scores(1), scores(1))
        assert not torch.equal(scores(0), scores(1))
