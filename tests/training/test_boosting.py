"""Stages of boosted trees in training: gradients, resuming, pruning, schedules and reloading."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from cascaderank.cascade import Cascade, build_stage
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import DivergedError
from cascaderank.layers.feature_matrix import feature_matrix
from cascaderank.metrics.recall import recall_metric
from cascaderank.objectives import OBJECTIVES, CascadeInputs, build_objective
from cascaderank.runs.data import run_data
from cascaderank.runs.load import load_run
from cascaderank.stages.boosted_trees import BoostedTrees
from cascaderank.training.boosting import Boosting
from cascaderank.training.evaluate_run import evaluate_rows
from cascaderank.training.optimizer import build_optimizer
from cascaderank.training.train_run import train_run
from tests.training.test_resume import StopAfter, StoppedError, bits_of

pytest.importorskip("lightgbm")

OPTIONS = {"model": "boosted_trees", "num_leaves": 7, "trees_per_epoch": 2}
TREES = {"retrieval": {**OPTIONS, "quota": 30}, "ranking": {**OPTIONS, "quota": 20}}


@pytest.fixture
def settings_of(funnel, settings_for):
    """Settings of a cascade of two tree stages, or of a network and trees."""

    def build(*, network=False, **changes):
        settings = settings_for(funnel)
        stages = settings.model_dump(mode="json")["stages"] if network else TREES
        stages = {**stages, "ranking": TREES["ranking"]}
        return settings_for(funnel, stages=stages, **changes)

    return build


def trees_of(folder):
    return [s.trees for s in load_run(folder).cascade.stages.values() if hasattr(s, "trees")]


def validation_of(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["validation"]["joint_recall"] for line in lines]


@pytest.mark.parametrize("name", ["lcron", "bce", "cut_likelihood"])
def test_the_collected_gradient_is_that_of_autograd(settings_of, name):
    settings = settings_of(objective={"name": name})
    objective = build_objective(name, stages=list(TREES), quotas=(30, 20), ground_truth=10)
    with run_data(settings) as data:
        stages = {n: build_stage("boosted_trees", data.schema) for n in TREES}
        batch = next(data.loader(data.split.train[:9]).epoch(0))
    for seed, stage in enumerate(stages.values()):
        values = feature_matrix(batch, stage.features)
        stage.fit_tree(values, np.sin(values.sum(-1)), seed=seed)
    cascade = Cascade(stages, (30, 20))
    objective.evaluate(CascadeInputs.of_batch(batch, cascade.outputs(batch))).total.backward()
    scores = cascade.eval()(batch).requires_grad_()
    assert scores.std() > 0
    total = objective(scores, batch.labels, mask=batch.mask, levels=batch.levels).total
    (expected,) = torch.autograd.grad(total, scores)
    assert expected.abs().sum((1, 2)).min() > 0
    for stage, of_stage in zip(stages.values(), expected, strict=True):
        _, gradient = stage.take_gradient()
        torch.testing.assert_close(torch.from_numpy(gradient), of_stage[batch.mask])


def test_gradients_from_before_a_frozen_phase_or_restored_trees_are_dropped(settings_of):
    with run_data(settings_of()) as data:
        stage = build_stage("boosted_trees", data.schema, options={"trees_per_epoch": 1})
        batch = next(data.loader(data.split.train[:9]).epoch(0))
    boosting = Boosting([stage], batches=3)

    def step():
        stage(batch).sum().backward() if stage.training else stage(batch)
        boosting.step()

    step()
    stage.eval()
    step()
    step()
    assert stage.trees == 0  # all gradients are from before the stage was frozen
    stage.train()
    step()
    state = stage.get_extra_state()
    stage.fit_tree(*some_values(batch, stage), seed=0)
    step()
    assert len(boosting.state_dict()["collected"][0]) == 1  # that of the step before is dropped
    stage.set_extra_state(state)
    boosting.load_state_dict(boosting.state_dict())
    step()
    assert stage.trees == 1
    assert boosting.state_dict()["trees"] == [1]


def some_values(batch, stage):
    values = feature_matrix(batch, stage.features)
    return values, np.sin(values.sum(-1))


def test_a_stage_of_trees_can_be_copied(settings_of):
    with run_data(settings_of()) as data:
        stage = build_stage("boosted_trees", data.schema)
        batch = next(data.loader(data.split.train[:9]).epoch(0))
    stage.fit_tree(*some_values(batch, stage), seed=0)
    torch.testing.assert_close(copy.deepcopy(stage).eval()(batch), stage.eval()(batch))


def test_lightgbm_receives_the_gradients_of_the_steps_of_a_part(settings_of, monkeypatch):
    """An epoch of 5 steps with 2 trees has parts of 2 and 3 steps, all with the same trees."""
    fitted, plain = [], BoostedTrees.fit_tree

    def noted(self, values, gradient, *, seed):
        fitted.append((len(steps), values, gradient))
        plain(self, values, gradient, seed=seed)

    monkeypatch.setattr(BoostedTrees, "fit_tree", noted)
    with run_data(settings_of()) as data:
        options = {"trees_per_epoch": 2, "min_data_in_leaf": 1}
        stage = build_stage("boosted_trees", data.schema, options=options)
        batches = (
            list(RequestLoader(data.encoded, data.split.train[:10], batch_size=2).epoch(0)) * 2
        )
    optimizer, steps = Boosting([stage], batches=5), []
    for batch in batches:
        scores = stage(batch)
        steps.append((scores, batch.mask))
        (scores - batch.levels).square().sum().backward()
        optimizer.step()
    assert [n for n, _, _ in fitted] == [3, 5, 8, 10]
    first = 0
    for last, values, gradient in fitted:
        part = slice(first, last)
        expected = torch.cat([s.grad[mask] for s, mask in steps[part]])
        assert torch.equal(torch.from_numpy(gradient), expected)
        rows = [feature_matrix(batch, stage.features) for batch in batches[part]]
        assert np.array_equal(values, np.concatenate(rows))
        first = last
    assert stage.trees == 4


def test_more_trees_than_steps_are_one_per_step(settings_of):
    with run_data(settings_of()) as data:
        options = {"trees_per_epoch": 100, "min_data_in_leaf": 1}
        stage = build_stage("boosted_trees", data.schema, options=options)
        batches = RequestLoader(data.encoded, data.split.train[:10], batch_size=2).epoch(0)
    optimizer = Boosting([stage], batches=5)
    for n, batch in enumerate(batches, start=1):
        (stage(batch) - batch.levels).square().sum().backward()
        optimizer.step()
        assert stage.trees == n


def test_a_gradient_that_is_not_finite_ends_training(settings_of):
    with run_data(settings_of()) as data:
        stage = build_stage("boosted_trees", data.schema)
        batch = next(data.loader(data.split.train[:5]).epoch(0))
    optimizer = Boosting([stage], batches=1)
    (stage(batch) * torch.nan).sum().backward()
    with pytest.raises(DivergedError, match="gradient of a stage of boosted trees is not finite"):
        optimizer.step()


@pytest.mark.parametrize("network", [False, True], ids=["trees", "network and trees"])
def test_resuming_is_bitwise_identical(settings_of, tmp_path, network):
    settings = settings_of(network=network, train__epochs=2)
    train_run(settings, tmp_path / "whole")
    whole = bits_of(tmp_path / "whole")
    for stop in (3, 8):  # within a part, and in the second epoch; an epoch has 6 steps
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(StoppedError):
            train_run(settings, folder, progress=StopAfter(stop))
        train_run(settings, folder)
        assert bits_of(folder) == whole, f"differs when stopped after step {stop}"


def test_the_trees_of_the_best_epoch_are_kept(settings_of, tmp_path):
    settings = settings_of(train__epochs=9, train__patience=2, stages__ranking__learning_rate=2.0)
    result = train_run(settings, tmp_path / "run")
    validation = validation_of(tmp_path / "run")
    best = int(np.argmax(validation))
    assert best + 1 < len(validation), "the test needs an epoch after the best"
    assert trees_of(tmp_path / "run") == [2 * (best + 1)] * 2
    with run_data(settings) as data:
        cascade = load_run(tmp_path / "run").cascade
        report = evaluate_rows(settings, cascade, data, data.split.validation)
        again = evaluate_rows(settings, cascade, data, data.split.test)
    assert report.metrics["joint_recall"].mean == pytest.approx(max(validation))
    assert again.metrics["joint_recall"].mean == result.test.metrics["joint_recall"].mean


def test_a_schedule_can_boost_the_stages_in_turn(settings_of, tmp_path):
    settings = settings_of(train__epochs=3, train__schedule="alternating", train__patience=9)
    train_run(settings, tmp_path / "run")
    best = int(np.argmax(validation_of(tmp_path / "run")))
    assert trees_of(tmp_path / "run") == [2 * (best // 2 + 1), 2 * ((best + 1) // 2)]


def test_a_run_continues_from_the_trees_of_another(settings_of, tmp_path):
    train_run(settings_of(train__epochs=1), tmp_path / "first")
    settings = settings_of(train__epochs=1, train__start=str(tmp_path / "first"))
    train_run(settings, tmp_path / "second")
    first, second = trees_of(tmp_path / "first"), trees_of(tmp_path / "second")
    assert first == [2, 2]
    assert second == [4, 4]


@pytest.mark.parametrize("name", list(OBJECTIVES))
def test_every_objective_of_a_funnel_log_trains_trees(settings_of, tmp_path, name):
    if name in ("entire_chain", "icc"):
        pytest.skip("needs outputs of stages beyond scores")
    settings = settings_of(objective={"name": name}, train__epochs=1)
    with run_data(settings) as data:
        cascade = Cascade({n: build_stage("boosted_trees", data.schema) for n in TREES}, (30, 20))
        objective = build_objective(name, stages=list(TREES), quotas=(30, 20), ground_truth=10)
        optimizer = build_optimizer(cascade, objective, settings.train)
        batch = next(data.loader(data.split.train[:40]).epoch(0))
    batch = replace(batch, labels=batch.labels.argsort().argsort() / 10)  # grades, for some
    for _ in range(4):
        inputs = CascadeInputs.of_batch(batch, cascade.outputs(batch))
        total = objective.evaluate(inputs).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
    scores = cascade.eval()(batch)
    recall = recall_metric(scores, batch.labels.expand(scores.shape), m=20, k=10)
    assert recall.mean(-1).min() > 0.65, "chance has .5"
