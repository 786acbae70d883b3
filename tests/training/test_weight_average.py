"""The average of the weights: its values, where it is used, and resuming."""

import io
import json
import math
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cascaderank import limits
from cascaderank.cascade import Cascade
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError
from cascaderank.evaluation import evaluate
from cascaderank.objectives import build_objective
from cascaderank.runs.build import build_cascade, build_run_objective
from cascaderank.runs.data import run_data
from cascaderank.runs.folder import RunFolder
from cascaderank.runs.load import load_run
from cascaderank.settings.run import TrainSettings
from cascaderank.training.optimizer import Optimizers, build_optimizer
from cascaderank.training.pruning import prune_run
from cascaderank.training.train_run import train_run
from cascaderank.training.trainer import Trainer
from cascaderank.training.weight_average import WeightAverage
from tests.training.test_entire_chain import settings_of as settings_with_gates
from tests.training.test_entire_chain import written
from tests.training.test_pruning import scores_of
from tests.training.test_resume import StopAfter, StoppedError, bits_of

STEPS = 6  # batches of an epoch: 192 training requests in batches of 32


def copied(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def average_of(steps, decay):
    """Average of the weights after each step: the definition in plain Python numbers."""
    means = {}
    for t, weights in enumerate(steps):
        for name, tensor in weights.items():
            values = tensor.double().flatten().tolist()
            if t == 0:
                means[name] = values
                continue
            d = min(decay, (1 + t) / (10 + t))
            old = means[name]
            means[name] = [d * m + (1 - d) * w for m, w in zip(old, values, strict=True)]
    return means


def assert_average(found, steps, decay):
    for name, expected in average_of(steps, decay).items():
        assert found[name].flatten().tolist() == pytest.approx(expected, abs=2e-6), name


@pytest.fixture
def recorded(funnel, settings_for, tmp_path, monkeypatch):
    """Train; return the weights after each step and at each validation, the trainer and folder."""

    def run(*, values=(), folder="run", **changes):
        settings = settings_for(funnel, **changes)
        steps, validated, values = [], [], list(values)
        with run_data(settings) as data:
            torch.manual_seed(0)

            def decides():
                validated.append(copied(trainer.cascade))
                return values[len(validated) - 1] if values else float(len(validated))

            trainer = Trainer(
                build_cascade(settings, data.schema),
                build_run_objective(settings, data.log),
                train=RequestLoader(data.encoded, data.split.train, batch_size=32, seed=0),
                validation=RequestLoader(data.encoded, data.split.validation, batch_size=32),
                relevance=settings.relevance,
                decides=decides,
                settings=settings.train,
                folder=RunFolder(tmp_path / folder),
            )
            step = Optimizers.step

            def spy(self):
                step(self)
                steps.append(copied(trainer.cascade))

            with monkeypatch.context() as patch:
                patch.setattr(Optimizers, "step", spy)
                trainer.fit()
        return steps, validated, trainer, tmp_path / folder

    return run


@pytest.mark.parametrize("decay", [0.3, 0.999])
def test_the_average_over_all_steps_is_validated_kept_and_saved(recorded, decay):
    steps, validated, trainer, folder = recorded(train__average=decay, values=[0.2, 0.3, 0.1])
    assert len(steps) == 3 * STEPS
    for epoch, weights in enumerate(validated):
        assert_average(weights, steps[: (epoch + 1) * STEPS], decay)
    assert_equal(load_file(folder / "weights.safetensors"), validated[1])
    assert_equal(trainer.cascade.state_dict(), validated[1])


def test_training_goes_on_with_the_weights_of_the_last_step(recorded):
    steps, validated, _, _ = recorded(train__average=0.9)
    plain, last, _, _ = recorded(folder="plain")
    assert len(steps) == len(plain) == 3 * STEPS
    for own, expected in zip(steps, plain, strict=True):
        assert_equal(own, expected)
    assert_equal(last[0], plain[STEPS - 1])
    assert any(not torch.equal(validated[0][name], last[0][name]) for name in last[0])


def test_the_recorded_recall_is_that_of_the_saved_average(funnel, settings_for, tmp_path):
    settings = settings_for(funnel, train__average=0.9, train__learning_rate=0.1)
    with run_data(settings) as data:
        result = train_run(settings, tmp_path / "run", data=data)
        loader = RequestLoader(data.encoded, data.split.validation, batch_size=64)
        report = evaluate(load_run(tmp_path / "run").cascade, loader, k=10, bootstrap=0)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    values = [json.loads(line)["validation"]["joint_recall"] for line in lines]
    assert result.validation == max(values)
    assert report.metrics["joint_recall"].mean == pytest.approx(max(values), abs=1e-6)


def test_each_phase_starts_from_the_best_average_and_has_its_own(recorded):
    phases = [{"stages": ["retrieval"], "epochs": 2}, {"stages": ["ranking"], "epochs": 1}]
    changes = {"train__schedule": {"phases": phases}, "train__average": 0.95}
    steps, validated, _, folder = recorded(values=[0.5, 0.4, 0.3], **changes)
    assert_average(validated[1], steps[: 2 * STEPS], 0.95)
    assert_average(validated[2], steps[2 * STEPS :], 0.95)
    frozen = [name for name in validated[0] if name.startswith("stages.retrieval.")]
    saved = load_file(folder / "weights.safetensors")
    assert frozen
    for name in frozen:
        assert torch.equal(saved[name], validated[0][name])


def test_a_phase_without_a_validation_passes_on_its_average(recorded):
    phases = [{"stages": ["retrieval"], "steps": 3}, {"stages": ["ranking"], "steps": 3}]
    steps, _, _, folder = recorded(train__schedule={"phases": phases}, train__average=0.95)
    saved = load_file(folder / "weights.safetensors")
    expected = average_of(steps[:3], 0.95)
    for name in (n for n in saved if n.startswith("stages.retrieval.")):
        assert saved[name].flatten().tolist() == pytest.approx(expected[name], abs=2e-6)
        assert torch.equal(saved[name], steps[-1][name]), "the average is the weight from then on"


PHASES = {"phases": [{"stages": ["retrieval"], "steps": 7}, {"epochs": 1}]}
LAZY = {"train__embedding_optimizer": "row_wise_adagrad"}


@pytest.mark.parametrize(
    ("changes", "stops"),
    [({}, (3, 7)), ({"train__schedule": PHASES}, (7, 8)), (LAZY, (4,))],
    ids=["joint", "phases", "lazy"],
)
def test_resuming_is_bitwise_identical(funnel, settings_for, tmp_path, changes, stops):
    settings = settings_for(funnel, train__average=0.9, train__epochs=2, **changes)
    train_run(settings, tmp_path / "whole")
    whole = bits_of(tmp_path / "whole")
    for stop in stops:
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(StoppedError):
            train_run(settings, folder, progress=StopAfter(stop))
        train_run(settings, folder)
        assert bits_of(folder) == whole, f"differs when stopped after step {stop}"


def test_a_run_without_average_has_settings_and_checkpoints_as_before(
    funnel, settings_for, tmp_path
):
    settings = settings_for(funnel)
    assert "average" not in settings.to_toml()
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path, progress=StopAfter(5))
    _, _, payload = (tmp_path / "checkpoint.pt").read_bytes().partition(b"\n")
    content = torch.load(io.BytesIO(payload), weights_only=True)
    assert list(content["modules"]) == ["cascade", "objective", "optimizer"]


def test_bfloat16_layers_have_an_average_in_float32(recorded):
    steps, validated, _, _ = recorded(train__average=0.9, train__precision="bfloat16")
    assert {tensor.dtype for tensor in validated[0].values()} == {torch.float32}
    assert_average(validated[0], steps[:STEPS], 0.9)


def test_a_run_with_gates_is_pruned_by_its_average(tmp_path):
    log = written(tmp_path / "log")
    settings = settings_with_gates(log, ["ecmm", "ecm"]).changed({"train.average": 0.9})
    train_run(settings, tmp_path / "run")
    prune_run(tmp_path / "run", tmp_path / "small")
    scores = scores_of(tmp_path / "run")
    torch.testing.assert_close(scores_of(tmp_path / "small"), scores, rtol=0, atol=1e-6)


def test_trees_are_those_of_the_last_step(recorded):
    pytest.importorskip("lightgbm")
    trees = {"model": "boosted_trees", "num_leaves": 7, "trees_per_epoch": 2, "quota": 20}
    changes = {"stages__ranking": trees, "train__epochs": 1, "train__average": 0.9}
    steps, _, _, folder = recorded(**changes)
    saved = load_file(folder / "weights.safetensors")
    name = "stages.ranking._extra_state"
    assert len(saved[name])
    assert torch.equal(saved[name], steps[-1][name])
    networks = [{n: t for n, t in step.items() if n != name} for step in steps]
    assert_average(saved, networks, 0.9)
    with pytest.raises(ConfigError, match=r"no stage has any: boosted trees are not averaged"):
        recorded(stages__retrieval={**trees, "quota": 30}, folder="trees", **changes)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 1.5, math.nan, math.inf, True, "0.9", 1])
def test_a_decay_outside_of_0_to_1_is_refused(funnel, settings_for, decay):
    with pytest.raises(ConfigError, match=r"train\.average"):
        settings_for(funnel, train__average=decay)


def test_an_error_during_validation_restores_the_weights():
    layer = nn.Linear(2, 1)
    average = WeightAverage(layer, 0.5)
    for value in (1.0, 2.0):
        layer.weight.data.fill_(value)
        average.update()
    with suppress(StoppedError), average.applied():
        inside = layer.weight.mean().item()
        raise StoppedError
    assert inside < 2
    assert layer.weight.mean() == 2


def test_buffers_are_those_of_the_last_step():
    norm = nn.BatchNorm1d(1)
    average = WeightAverage(norm, 0.9)
    for value in (1.0, 5.0):
        norm(torch.tensor([[value], [value]]))
        average.update()
    last = norm.running_mean.clone()
    with average.applied():
        assert torch.equal(norm.running_mean, last)


@pytest.mark.parametrize(("choice", "copies"), [("adamw", 4), ("row_wise_adagrad", 1)])
def test_the_average_counts_in_the_estimate_of_memory(monkeypatch, choice, copies):
    table = nn.Embedding(1000, 16)
    cascade = Cascade({"a": table}, (1,))
    objective = build_objective("bce", stages=("a",), quotas=(1,), ground_truth=1)
    size = 4 * table.weight.numel()
    monkeypatch.setattr(limits, "machine_memory", lambda: copies * size)
    build_optimizer(cascade, objective, TrainSettings(embedding_optimizer=choice))
    settings = TrainSettings(embedding_optimizer=choice, average=0.9)
    with pytest.raises(ConfigError, match=r"training of 16,000 parameters needs about"):
        build_optimizer(cascade, objective, settings)
    monkeypatch.setattr(limits, "machine_memory", lambda: (copies + 1) * size)
    build_optimizer(cascade, objective, settings)
