"""Quotas of a complete run: costs, parts, exhaustive evaluation, and training again."""

import numpy as np
import pytest

from cascaderank.data.sources import SOURCES
from cascaderank.errors import ConfigError, DataError, RunError, SchemaError
from cascaderank.evaluation.quotas import Goal, StageCost
from cascaderank.runs.load import load_run
from cascaderank.training.evaluate_run import evaluate_run
from cascaderank.training.quota_run import _free, retrain_with_quotas, run_quotas, with_quotas
from cascaderank.training.train_run import train_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run on a synthetic funnel, with the log beside it."""
    from cascaderank.settings.run import check_settings

    root = tmp_path_factory.mktemp("quotas")
    SOURCES["synthetic"](None, root / "log", requests=400, users=50, items=200, seed=3)
    settings = check_settings(
        {
            "data": {"path": str(root / "log"), "split": {"by": "request", "seed": 1}},
            "relevance": {"top": 10},
            "stages": {
                "retrieval": {"model": "two_tower", "quota": 30, "hidden": [8, 4]},
                "ranking": {"model": "mlp", "quota": 20, "hidden": [8]},
            },
            "objective": {"name": "lcron"},
            "train": {"epochs": 2, "batch_size": 32},
            "evaluation": {"bootstrap": 50, "batch_size": 37},
        }
    )
    train_run(settings, root / "run")
    return root / "run"


def test_the_best_is_that_of_evaluating_the_run_with_every_quota(run):
    """On a synthetic funnel: all quotas of the first stage, by the evaluation of a run."""
    present = run_quotas(run).present
    goal = Goal(kind="budget", value=present.cost * 0.9)
    found = run_quotas(run, goal=goal)
    trained = load_run(run)
    recalls = {}
    for quota in range(20, 41, 2):
        settings = with_quotas(trained.settings, (quota, 20))
        assert settings.quotas == (quota, 20)
        recalls[quota] = _validation_recall(run, settings)
    best, cost = found.best, found.costs
    recalls[best.quotas[0]] = _validation_recall(
        run, with_quotas(trained.settings, (best.quotas[0], 20))
    )
    assert best.recall == pytest.approx(recalls[best.quotas[0]])
    affordable = [q for q in recalls if _cost(cost, q) <= goal.value]
    assert best.quotas[0] in affordable
    assert best.recall == pytest.approx(max(recalls[q] for q in affordable))
    assert present.cost == pytest.approx(_cost(cost, 30))
    assert present.recall == pytest.approx(recalls[30])
    _, report = evaluate_run(run, trained.settings.data.path)
    assert vars(present.test) == pytest.approx(vars(report.metrics["joint_recall"]))


def _cost(costs, quota):
    first, second = costs.values()
    return float(first.of(np.array(40)) + second.of(np.array(quota)))


def _validation_recall(run, settings):
    from cascaderank.cascade import Cascade
    from cascaderank.evaluation import evaluate
    from cascaderank.runs.parts import part_of

    loaded = load_run(run)
    cascade = Cascade(dict(loaded.cascade.stages.items()), settings.quotas)
    with part_of(loaded, settings.data.path, "validation") as (data, _, rows):
        report = evaluate(cascade, data.loader(rows), k=10, bootstrap=0)
    return report.metrics["joint_recall"].mean


def test_milliseconds_grow_with_the_quota_and_samples_are_noted(run):
    found = run_quotas(run, unit="ms", most=15, seconds=0.001)
    assert found.unit == "ms"
    assert [cost.candidates[-1] for cost in found.costs.values()] == [40, 40]
    assert (found.validation, found.requests) == (15, 15)
    assert found.notes[0] == "a sample of 15 of 40 validation requests is used"
    assert found.present.cost > 0


def test_training_again_compares_three_recalls_of_the_same_requests(run, tmp_path):
    found = retrain_with_quotas(run, (25, 20), tmp_path / "again")
    assert load_run(tmp_path / "again").quotas == (25, 20)
    _, before = evaluate_run(run, load_run(run).settings.data.path)
    assert vars(found.before) == pytest.approx(vars(before.metrics["joint_recall"]))
    assert found.gain.mean == pytest.approx(found.after.mean - found.chosen.mean)
    same = retrain_with_quotas(run, (25, 20), tmp_path / "again")
    assert same == found, "a complete run is not trained again"
    assert not found.unchanged
    with pytest.raises(ConfigError, match="is the folder of the run itself"):
        retrain_with_quotas(run, (25, 20), run)


def test_an_objective_without_quotas_trains_the_same_weights(run, tmp_path):
    """LCRON cuts at the ground truth; with one epoch, none is selected by the recall."""
    train_run(load_run(run).settings.changed({"train.epochs": 1}), tmp_path / "one")
    found = retrain_with_quotas(tmp_path / "one", (25, 20), tmp_path / "again")
    assert found.unchanged
    assert found.gain.low == found.gain.high == 0


def test_another_data_set_and_other_features(run, tmp_path):
    SOURCES["synthetic"](None, tmp_path / "other", requests=200, users=50, items=200, seed=4)
    found = run_quotas(run, tmp_path / "other")
    assert (found.validation, found.requests) == (20, 20)
    (tmp_path / "rows.csv").write_text("request_id,item,label\n1,5,1\n1,6,0\n")
    SOURCES["long"]((tmp_path / "rows.csv",), tmp_path / "shop", item_features=["item"])
    with pytest.raises(SchemaError, match="shop"):
        run_quotas(run, tmp_path / "shop")


def test_stages_that_read_ranks_are_noted_and_their_inputs_kept(run, tmp_path):
    settings = load_run(run).settings
    stages = settings.of_run()["stages"]
    middle = {**stages["ranking"], "quota": 25}
    stages = {
        "retrieval": stages["retrieval"],
        "middle": middle,
        "ranking": {**stages["ranking"], "previous": ["rank"]},
    }
    train_run(
        settings.model_copy(update={"stages": {}}).changed({"stages": stages}), tmp_path / "a"
    )
    found = run_quotas(tmp_path / "a")
    assert set(found.without) == {"retrieval", "ranking"}
    notes = [note for note in found.notes if note.startswith("stage ")]
    assert len(notes) == 1
    assert notes[0].startswith("stage 'ranking' reads ranks, which depend on earlier quotas")


def test_stages_without_multiply_adds_are_noted_and_refused_if_all_are():
    linear, none = (StageCost(candidates=(0, 1), costs=(0.0, each)) for each in (1.0, 0.0))
    assert _free({"a": linear, "b": linear}) == []
    assert _free({"a": linear, "trees": none}) == [
        "stage 'trees' has no multiply-adds and counts as free"
    ]
    with pytest.raises(ConfigError, match=r"\(a, b\), so all quotas cost the same; use milli"):
        _free({"a": none, "b": none})


def test_mistakes_are_reported(run, tmp_path, settings_for):
    with pytest.raises(RunError, match="no such folder"):
        run_quotas(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="most must be at least 1"):
        run_quotas(run, most=0)
    path = load_run(run).settings.data.path
    one = settings_for(path, train__epochs=1)
    one = one.model_copy(update={"stages": {"ranking": one.stages["ranking"]}})
    one = one.changed({"objective.name": "ranknet"})
    train_run(one, tmp_path / "one")
    with pytest.raises(ConfigError, match="the run has one stage, whose quota"):
        run_quotas(tmp_path / "one")
    days = {"by": "day", "validation_days": 0, "test_days": 1}
    SOURCES["synthetic"](None, tmp_path / "days", requests=200, users=50, items=200, days=4)
    train_run(settings_for(tmp_path / "days", data__split=days, train__epochs=1), tmp_path / "no")
    with pytest.raises(DataError, match="the run has no validation requests"):
        run_quotas(tmp_path / "no")
