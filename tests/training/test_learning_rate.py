"""The learning rate of each step: warm-up, decay, phases, parameter groups, and resuming."""

import math

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LinearLR, SequentialLR

from cascaderank.errors import ConfigError
from cascaderank.settings.run import TrainSettings
from cascaderank.settings.schedule import Phase, Timetable
from cascaderank.training import trainer as trainer_module
from cascaderank.training.learning_rate import LearningRate, learning_rate_factor
from cascaderank.training.optimizer import Optimizers, build_optimizer
from cascaderank.training.train_run import train_run
from tests.training.test_resume import StopAfter, StoppedError, bits_of

RATE = 0.08
STEPS = 6  # batches of an epoch: 192 training requests in batches of 32


@pytest.fixture
def rates(monkeypatch):
    """Learning rates of the parameter groups at each step."""
    found, step = [], Optimizers.step

    def spy(self):
        found.append([group["lr"] for group in self.param_groups])
        step(self)

    monkeypatch.setattr(Optimizers, "step", spy)
    return found


@pytest.mark.parametrize("decay", ["none", "linear", "cosine"])
@pytest.mark.parametrize("warmup", [0, 1, 7, 19])
def test_factors_are_those_of_the_schedulers_of_torch(decay, warmup):
    steps = 20
    optimizer = torch.optim.SGD([torch.ones(1)], lr=1.0)
    after = {
        "none": lambda: ConstantLR(optimizer, factor=1.0),
        "linear": lambda: LinearLR(
            optimizer, start_factor=1.0, end_factor=0.0, total_iters=steps - warmup
        ),
        "cosine": lambda: CosineAnnealingLR(optimizer, T_max=steps - warmup),
    }[decay]
    if warmup:
        rising = LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
        scheduler = SequentialLR(optimizer, [rising, after()], milestones=[warmup])
    else:
        scheduler = after()
    expected = []
    for _ in range(steps):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    found = [learning_rate_factor(t, steps=steps, decay=decay, warmup=warmup) for t in range(steps)]
    assert found == pytest.approx(expected, abs=1e-12)
    assert min(found) > 0


@pytest.mark.parametrize("options", [{"decay": "cosin"}, {"warmup": 6}, {"warmup": -1}], ids=str)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError, match="expected decay to be one of cosine, linear, none and"):
        learning_rate_factor(0, steps=6, **options)


@pytest.mark.parametrize(
    ("fraction", "steps", "whole"), [(0.1, 30, 3), (0.29, 100, 29), (0.5, 1, 0), (0.99, 10, 9)]
)
def test_a_fraction_is_rounded_to_whole_steps(fraction, steps, whole):
    for step in range(steps):
        options = {"steps": steps, "decay": "cosine"}
        expected = learning_rate_factor(step, warmup=whole, **options)
        assert learning_rate_factor(step, warmup=fraction, **options) == expected


def test_the_schedule_applies_at_the_first_middle_and_last_step_of_a_run(
    funnel, settings_for, tmp_path, rates
):
    settings = settings_for(
        funnel, train__decay="cosine", train__warmup=4, train__learning_rate=RATE, train__patience=9
    )
    train_run(settings, tmp_path / "run")
    assert len(rates) == 3 * STEPS
    assert all(len(set(groups)) == 1 for groups in rates)
    found = [groups[0] for groups in rates]
    assert found[0] == pytest.approx(RATE / 5)
    assert found[4] == RATE == max(found)
    assert found[11] == pytest.approx(RATE / 2)  # 7 of the 14 steps after the warm-up
    assert found[17] == pytest.approx(RATE * (1 + math.cos(math.pi * 13 / 14)) / 2)


def test_it_is_constant_by_default(funnel, settings_for, tmp_path, rates):
    train_run(settings_for(funnel, train__epochs=1, train__learning_rate=RATE), tmp_path / "run")
    assert {rate for groups in rates for rate in groups} == {RATE}


@pytest.mark.parametrize("choice", ["adamw", "sparse_adam", "row_wise_adagrad"])
def test_weights_move_by_the_rate_of_the_step(choice):
    """The first step of each optimizer has the length of the learning rate."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"table": nn.Embedding(6, 3), "matrix": nn.Linear(3, 1)})
    settings = TrainSettings(learning_rate=RATE, warmup=3, embedding_optimizer=choice)
    optimizer = build_optimizer(model, nn.ParameterList([torch.ones(1)]), settings)
    timetable = Timetable([Phase(steps=8)], repeats=False, epochs=1, batches=8)
    rate = LearningRate(optimizer, timetable, settings)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    model["matrix"](model["table"](torch.arange(6))).sum().backward()
    rate.set(0)
    optimizer.step()
    for name, parameter in model.named_parameters():
        change = (parameter.detach() - before[name]).square().mean().sqrt()
        assert float(change) == pytest.approx(RATE / 4, rel=1e-3)


def test_each_group_keeps_its_own_rate_also_after_resuming(
    funnel, settings_for, tmp_path, rates, monkeypatch
):
    def build(*arguments, **options):
        optimizer = build_optimizer(*arguments, **options)
        optimizer.param_groups[1]["lr"] = 10 * RATE  # of the weights of the objective
        return optimizer

    monkeypatch.setattr(trainer_module, "build_optimizer", build)
    settings = settings_for(
        funnel, train__decay="linear", train__warmup=0.25, train__learning_rate=RATE,
        train__epochs=2, train__patience=9, train__embedding_optimizer="row_wise_adagrad",
    )  # fmt: skip
    train_run(settings, tmp_path / "whole")
    whole = rates.copy()
    factors = [
        learning_rate_factor(t, steps=2 * STEPS, decay="linear", warmup=3) for t in range(2 * STEPS)
    ]
    assert whole == [[RATE * f, 10 * RATE * f, RATE * f] for f in factors]
    rates.clear()
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path / "stopped", progress=StopAfter(7))
    train_run(settings, tmp_path / "stopped")
    assert [rates[0], rates[-1]] == [whole[0], whole[-1]]
    assert bits_of(tmp_path / "stopped") == bits_of(tmp_path / "whole")


PHASES = [{"stages": ["retrieval"], "steps": 4}, {"stages": ["ranking"], "steps": 8}]


@pytest.mark.parametrize(
    ("schedule", "lengths"),
    [({"phases": PHASES}, [4, 8]), ({"phases": PHASES, "repeat": True}, [12])],
    ids=["phases", "repeated"],
)
@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_each_phase_has_the_whole_schedule(
    funnel, settings_for, tmp_path, rates, schedule, lengths, decay
):
    changes = {"train__decay": decay, "train__schedule": schedule, "train__warmup": 0.25}
    changes |= {"train__epochs": 2, "train__patience": 9, "train__learning_rate": RATE}
    train_run(settings_for(funnel, **changes), tmp_path / "run")
    expected = [
        RATE * learning_rate_factor(t, steps=n, decay=decay, warmup=n // 4)
        for n in lengths
        for t in range(n)
    ]
    assert [groups[0] for groups in rates] == pytest.approx(expected)


@pytest.mark.parametrize("decay", ["none", "cosine"])
def test_stopping_in_or_after_the_warm_up_changes_no_bit(funnel, settings_for, tmp_path, decay):
    schedule = {"phases": [{"stages": ["retrieval"], "steps": 7}, {"epochs": 1}]}
    changes = {"train__decay": decay, "train__schedule": schedule, "train__warmup": 3}
    settings = settings_for(funnel, **changes)
    train_run(settings, tmp_path / "whole")
    for stop in (5, 9):  # after the warm-up of the first phase, and in that of the second
        folder = tmp_path / f"stopped-{stop}"
        with pytest.raises(StoppedError):
            train_run(settings, folder, progress=StopAfter(stop))
        train_run(settings, folder)
        assert bits_of(folder) == bits_of(tmp_path / "whole"), f"stopped after step {stop}"


def test_early_stopping_ends_the_schedule_of_the_planned_steps(
    funnel, settings_for, tmp_path, rates
):
    """A rate this high is never better than at the first epoch."""
    settings = settings_for(
        funnel, train__decay="linear", train__epochs=50, train__patience=1, train__learning_rate=9.0
    )
    train_run(settings, tmp_path / "run")
    assert len(rates) < 25 * STEPS, "the test needs a run that stops"
    expected = [9.0 * (1 - n / (50 * STEPS)) for n in range(len(rates))]
    assert [groups[0] for groups in rates] == pytest.approx(expected)


def test_fine_tuning_warms_up_again(funnel, settings_for, tmp_path, rates):
    train_run(settings_for(funnel, train__epochs=1), tmp_path / "first")
    rates.clear()
    changes = {"train__start": str(tmp_path / "first"), "train__warmup": 2, "train__epochs": 1}
    train_run(settings_for(funnel, **changes, train__learning_rate=RATE), tmp_path / "second")
    third = RATE / 3
    assert [groups[0] for groups in rates] == pytest.approx([third, 2 * third, *[RATE] * 4])


@pytest.mark.parametrize("schedule", ["joint", {"phases": [{"steps": 6}, {"epochs": 3}]}], ids=str)
def test_a_warm_up_as_long_as_a_phase_is_refused(funnel, settings_for, tmp_path, schedule):
    changes = {"train__epochs": 1, "train__schedule": schedule}
    train_run(settings_for(funnel, **changes, train__warmup=5), tmp_path / "run")
    with pytest.raises(
        ConfigError, match=r"train\.warmup must be less than the 6 steps .*; got 6 steps; lower"
    ):
        train_run(settings_for(funnel, **changes, train__warmup=6), tmp_path / "refused")


@pytest.mark.parametrize(
    ("warmup", "message"),
    [
        (1.0, r"train\.warmup\.fraction: Input should be less than 1; got 1\.0"),
        (-1, r"train\.warmup\.steps: Input should be greater than or equal to 0; got -1"),
        (float("nan"), r"train\.warmup\.fraction: Input should be a finite number"),
        (True, r"train\.warmup\.steps: Input should be a valid integer"),
    ],
)
def test_a_warm_up_out_of_range_is_refused(funnel, settings_for, warmup, message):
    with pytest.raises(ConfigError, match=message):
        settings_for(funnel, train__warmup=warmup)
