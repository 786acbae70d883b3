"""Boosted trees: fitting, tuning and evaluation like any other method."""

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.errors import ConfigError, MissingExtraError
from cascaderank.evaluation import evaluate
from cascaderank.experiments import scorers
from cascaderank.experiments.compare import compare
from cascaderank.experiments.methods import methods_of
from cascaderank.experiments.scorers import SCORERS, fit_scorer
from cascaderank.runs.data import run_data
from cascaderank.schema import Schema
from cascaderank.settings.run import check_settings

pytest.importorskip("lightgbm")
FAST = {"rounds": 40, "patience": 10, "min_data_in_leaf": 2, "num_leaves": 7}


def write_log(path, *, grades=lambda gain: gain.round()):
    """Grades are x * y, which no linear model and no single feature can rank; some x are missing."""
    rng = np.random.default_rng(0)
    schema = Schema(
        features=(
            {"name": "x", "role": "item", "kind": "numeric", "missing": True},
            {"name": "y", "role": "item", "kind": "numeric"},
            {"name": "shop", "role": "item", "kind": "categorical"},
            {"name": "hour", "role": "request", "kind": "numeric"},
        )
    )
    x, y = rng.choice([-2.0, 2.0], (80, 12)), rng.normal(size=(80, 12))
    with RequestLogWriter(path, name="log", schema=schema) as writer:
        writer.write(
            pl.DataFrame(
                {
                    "request_id": range(80),
                    "x": [[None if v < 0 else v for v in row] for row in x.tolist()],
                    "y": y.tolist(),
                    "shop": rng.integers(3, size=(80, 12)).tolist(),
                    "hour": rng.normal(size=80),
                    "label": grades(np.clip(2 + x * y, 0, 4)).tolist(),
                }
            )
        )
    return path


def run_of(path, **compared):
    return check_settings(
        {
            "data": {"path": str(path), "target": "label", "split": {"by": "request", "test": 0.3}},
            "relevance": {"top": 3},
            "stages": {
                "a": {"model": "linear", "quota": 6},
                "b": {"model": "linear", "quota": 3},
            },
            "train": {"epochs": 2},
            "evaluation": {"bootstrap": 20, "metrics": ["ndcg@3"]},
            "compare": {"seeds": 2, "baselines": [], **compared},
        }
    )


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("log") / "log")


@pytest.mark.parametrize("name", SCORERS)
def test_trees_fit_an_interaction_that_no_linear_model_can(log, name):
    settings = run_of(log)
    with run_data(settings) as data:
        cascade, validation = fit_scorer(name, FAST, settings, data)
        report = evaluate(cascade, RequestLoader(data.encoded, data.split.test, batch_size=7), k=3)
    assert report.metrics["joint_recall"].mean > 0.75
    assert validation > 0.75
    # With one ranking in every stage, no earlier stage cuts candidates that the last would keep.
    assert report.stages["a"].recall.mean >= report.stages["b"].recall.mean
    assert report.stages["b"].recall.mean == report.metrics["joint_recall"].mean


def test_early_stopping_uses_the_validation_ndcg_after_the_first_trees(log):
    """Labels of the validation requests are reversed, so that NDCG falls from the first tree on."""
    settings = run_of(log)
    with run_data(settings) as data:
        labels = data.encoded.labels.copy()
        for row in data.split.validation:
            of = slice(data.encoded.offsets[row], data.encoded.offsets[row + 1])
            labels[of] = 4 - labels[of]
        object.__setattr__(data.encoded, "labels", labels)
        trees = {}
        for least in (1, 8, 100):
            options = {**FAST, "min_rounds": least}
            cascade, _ = fit_scorer("lightgbm_lambdarank", options, settings, data)
            booster = cascade.stages["a"].booster
            trees[least] = booster.best_iteration
            assert booster.num_trees() >= trees[least]
    assert trees[1] < 5
    assert trees[8] >= 8
    assert trees[100] == 40, "at most rounds"


@pytest.mark.parametrize(
    ("values", "least", "expected"),
    [([0.9, 0.1, 0.2, 0.2], 2, 3), ([0.9, np.nan, 0.2], 2, 3), ([np.nan] * 3, 2, 2), ([0.9], 2, 1)],
)
def test_the_best_round_is_the_first_of_the_highest_values(values, least, expected):
    assert scorers.best_round(values, least) == expected


def test_the_validation_value_is_the_joint_recall(log):
    settings = run_of(log)
    with run_data(settings) as data:
        cascade, validation = fit_scorer("lightgbm_lambdarank", FAST, settings, data)
        loader = RequestLoader(data.encoded, data.split.validation, batch_size=50)
        report = evaluate(cascade, loader, k=3)
    assert report.metrics["joint_recall"].mean == pytest.approx(validation)


def test_test_requests_do_not_affect_training(log, tmp_path):
    changed = write_log(tmp_path / "log")
    settings = run_of(log)

    def scores(path):
        with run_data(run_of(path)) as data:
            labels = data.encoded.labels.copy()
            if path == changed:
                for row in data.split.test:
                    of = slice(data.encoded.offsets[row], data.encoded.offsets[row + 1])
                    labels[of] = 4 - labels[of]
            object.__setattr__(data.encoded, "labels", labels)
            cascade, _ = fit_scorer("lightgbm_lambdarank", FAST, settings, data)
            loader = RequestLoader(data.encoded, data.split.test, batch_size=50)
            return torch.cat([cascade(batch)[0] for batch in loader.epoch(0)])

    assert scores(log).equal(scores(changed))


def test_scorers_are_methods_with_trials_gains_and_their_own_grid(log, tmp_path):
    name = "lightgbm_lambdarank"
    settings = run_of(
        log,
        objectives=["bce", name],
        reference="bce",
        variants={name: {k: v for k, v in FAST.items() if k != "num_leaves"}},
        grid={
            "*": {"train.learning_rate": [0.01, 0.03, 0.1]},
            name: {"num_leaves": [3, 7], "learning_rate": [0.05, 0.1]},
        },
        tuning={"trials": 3, "extend": 0},
    )
    found = compare(settings, tmp_path / "runs")
    bce, trees = found.methods
    assert trees.trained
    assert [len(m.tuning[0]["tried"]) for m in found.methods] == [3, 3]
    assert set(trees.tuning[0]["chosen"]) == {"num_leaves", "learning_rate"}
    assert trees.gain == pytest.approx(trees.joint_recall - bce.joint_recall)
    assert trees.gain_low > 0
    assert len(trees.by_seed) == 2
    assert trees.stage_metrics[0].metric == "ndcg@3"
    assert compare(settings, tmp_path / "runs").methods[1].by_seed == trees.by_seed


def test_scorers_are_the_same_in_several_processes(log, tmp_path):
    settings = run_of(
        log,
        objectives=["lightgbm_xendcg", "bce"],
        variants={"lightgbm_xendcg": FAST},
    )
    alone = compare(settings, tmp_path / "one")
    beside = compare(settings, tmp_path / "two", jobs=2)
    assert [m.by_seed for m in beside.methods] == [m.by_seed for m in alone.methods]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"leaves": 7}, "unknown option 'leaves'"),
        ({"num_leaves": 1}, "num_leaves: Input should be greater"),
        ({"rounds": 5}, "patience must be at most rounds; got patience=50 and rounds=5"),
    ],
)
def test_an_invalid_option_is_rejected_before_any_work(log, tmp_path, options, message):
    settings = run_of(log, objectives=["lightgbm_xendcg"], variants={"lightgbm_xendcg": options})
    with pytest.raises(ConfigError) as error:
        compare(settings, tmp_path / "runs")
    assert "method 'lightgbm_xendcg'" in str(error.value)
    assert message in str(error.value)
    assert not (tmp_path / "runs").exists()


def test_a_misspelt_scorer_suggests_the_nearest(log):
    settings = run_of(log)
    with pytest.raises(ConfigError, match=r"nor a scorer \(did you mean 'lightgbm_xendcg'"):
        methods_of(settings, ["lightgbm_xendgc"])


def test_labels_that_are_not_grades_are_rejected(tmp_path):
    settings = run_of(write_log(tmp_path / "log", grades=lambda gain: gain))
    with (
        run_data(settings) as data,
        pytest.raises(ConfigError, match="whole numbers from 0 to 30; got labels from 0 to 4"),
    ):
        fit_scorer("lightgbm_xendcg", FAST, settings, data)


def test_without_lightgbm_the_error_names_the_extra(log, tmp_path, monkeypatch):
    def gone(module, *, extra):
        raise MissingExtraError(f"pip install 'cascaderank[{extra}]'")

    monkeypatch.setattr("cascaderank.experiments.compare.require", gone)
    monkeypatch.setattr(scorers, "require", gone)
    with pytest.raises(MissingExtraError, match=r"cascaderank\[baselines\]"):
        compare(run_of(log, objectives=["lightgbm_xendcg"]), tmp_path / "runs")


def test_candidates_of_weight_0_are_not_fitted(tmp_path):
    """Half of the labels are reversed, and have weight 0."""
    rng = np.random.default_rng(1)
    schema = Schema(features=({"name": "x", "role": "item", "kind": "numeric"},))
    x = rng.normal(size=(120, 10))
    wrong = np.arange(120) % 2 == 0
    wrong[80:] = False
    label = np.clip((np.where(wrong[:, None], -x, x) + 1).round(), 0, 3)
    frame = {
        "request_id": [f"{i:03}" for i in range(120)],
        "x": x.tolist(),
        "label": label.tolist(),
    }
    weights = np.repeat(1.0 - wrong[:, None], 10, axis=1).tolist()
    found = []
    for name, more in {"plain": {}, "weighted": {"candidate_weight": weights}}.items():
        with RequestLogWriter(tmp_path / name, name="log", schema=schema) as writer:
            writer.write(
                pl.DataFrame({k: v[:80] for k, v in (frame | more).items()}), given="train"
            )
            for part, rows in {"validation": slice(80, 100), "test": slice(100, None)}.items():
                of_part = {k: v[rows] for k, v in (frame | more).items()}
                writer.write(pl.DataFrame(of_part), given=part)
        settings = run_of(tmp_path / name).changed({"data.split": {"by": "given"}})
        with run_data(settings) as data:
            cascade, _ = fit_scorer("lightgbm_lambdarank", FAST, settings, data)
            batch = next(data.loader(data.split.test).epoch(0))
        pairs = torch.stack([cascade(batch)[0].flatten(), batch.items["x"].double().flatten()])
        found.append(float(torch.corrcoef(pairs)[0, 1]))
    assert found[1] > 0.8 > 0.6 > found[0]
