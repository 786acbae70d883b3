"""Tuning: equal budgets, choice by validation recall, and records of all trials."""

import itertools
import math

import numpy as np
import pytest

from cascaderank.errors import DivergedError
from cascaderank.experiments.methods import methods_of
from cascaderank.experiments.tuning import Outcome, planned, sampled_points, tune
from cascaderank.settings.comparison import TuningSettings
from cascaderank.training.run_result import RunResult

RATE, DECAY, SIZE = "train.learning_rate", "train.weight_decay", "train.batch_size"


def played(method, settings, recall):
    """Run a plan; ``recall`` of point and seed is a number, or a string with the failure."""
    plan, asked, tuned = tune(method, settings), [], None
    trials = next(plan)
    while tuned is None:
        asked += trials
        outcomes = []
        for trial in trials:
            found = recall(trial.point, trial.seed)
            failed = found if isinstance(found, str) else None
            result = RunResult(
                folder=None, test=trial, validation=found, seconds=2.0, peak_memory=1
            )
            outcomes.append(Outcome(result=None if failed else result, failed=failed, seconds=2.0))
        try:
            trials = plan.send(outcomes)
        except StopIteration as end:
            tuned = end.value
    return asked, tuned


@pytest.fixture
def one(settings_for):
    """Settings of a comparison, and its only method."""

    def build(grid, *, seeds=1, **tuning):
        settings = settings_for(
            "nowhere",
            compare__objectives=["bce"],
            compare__grid={"bce": grid},
            compare__seeds=seeds,
            compare__tuning=tuning,
        )
        return methods_of(settings, ["bce"])[0], settings

    return build


@pytest.mark.parametrize(
    "sizes", [(3, 2), (4, 4), (4, 6), (2, 3, 4, 6), (3, 5, 2), (2, 2, 2, 2), (7,)]
)
@pytest.mark.parametrize("seed", range(3))
def test_a_draw_uses_all_values_evenly(sizes, seed):
    axes = {f"axis{i}": tuple(range(n)) for i, n in enumerate(sizes)}
    whole = [dict(zip(axes, p, strict=True)) for p in itertools.product(*axes.values())]
    for trials in range(1, len(whole) + 1):
        points = sampled_points(axes, TuningSettings(trials=trials, seed=seed))
        assert len(points) == trials
        assert [p for p in whole if p in points] == points, "none twice, in the order of the grid"
        for axis, values in axes.items():
            uses = [sum(p[axis] == v for p in points) for v in values]
            assert max(uses) - min(uses) <= 1, (trials, axis, uses)
    assert (
        sampled_points(axes, TuningSettings(trials=10**6))
        == sampled_points(axes, TuningSettings())
        == whole
    )


def test_a_draw_depends_on_the_seed():
    axes = {"a": tuple(range(6)), "b": tuple(range(6))}
    draws = [sampled_points(axes, TuningSettings(trials=6, seed=s)) for s in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_the_best_point_gets_all_seeds_and_no_trial_is_run_twice(one):
    method, settings = one({RATE: [0.1, 0.2, 0.3]}, seeds=3)
    asked, tuned = played(method, settings, lambda p, seed: 0.5 - abs(p[RATE] - 0.2) + seed)
    assert [(t.point[RATE], t.seed) for t in asked] == [
        (0.1, 0), (0.2, 0), (0.3, 0), (0.2, 1), (0.2, 2)
    ]  # fmt: skip
    assert [(r.test.point, r.test.seed) for r in tuned.runs] == [({RATE: 0.2}, s) for s in range(3)]
    assert len(asked) == planned(method, settings)
    assert tuned.record["chosen"] == {RATE: 0.2}
    assert tuned.record["at_edge"] == []
    assert [t["validation"] for t in tuned.record["tried"]] == pytest.approx([0.4, 0.5, 0.4])
    assert tuned.record["tried"][0] == {"values": {RATE: 0.1}, "validation": 0.4, "seconds": 2.0}


def test_more_seeds_may_tune_than_are_evaluated(one):
    method, settings = one({RATE: [0.1, 0.2, 0.3]}, seeds=1)
    settings = settings.changed({"compare.tuning.seeds": 2})
    # Seed 0 alone would select 0.3.
    found = {(0.1, 0): 0.1, (0.1, 1): 0.1, (0.2, 0): 0.4, (0.2, 1): 0.8, (0.3, 0): 0.5, (0.3, 1): 0}
    asked, tuned = played(method, settings, lambda p, seed: found[p[RATE], seed])
    assert len(asked) == planned(method, settings) == 6
    assert tuned.record["chosen"] == {RATE: 0.2}
    assert len(tuned.runs) == 1
    assert tuned.record["tried"][1]["seconds"] == 4.0


def test_without_a_grid_all_seeds_are_started_at_once(one):
    method, settings = one({}, seeds=3)
    plan = tune(method, settings)
    assert [(t.point, t.seed) for t in next(plan)] == [({}, 0), ({}, 1), ({}, 2)]
    _, tuned = played(method, settings, lambda p, seed: [0.3, 0.6, 0.9][seed])
    assert tuned.record["tried"] == [{"values": {}, "validation": 0.3, "seconds": 2.0}]


@pytest.mark.parametrize(
    ("values", "peak", "tried", "edge"),
    [
        ([0.01, 0.03], 0.09, [0.01, 0.03, 0.09, 0.27], []),  # the next value does not improve
        ([0.01, 0.03], 1.0, [0.01, 0.03, 0.09, 0.27], [RATE]),  # at most ``extend`` values
        ([0.01, 0.03], 0.001, [0.01, 0.03, 0.00333333, 0.00111111], [RATE]),
        ([0.03, 0.01], 0.0033, [0.03, 0.01, 0.00333333, 0.00111111], []),  # in any order
        ([0.01, 0.02, 0.03], 0.02, [0.01, 0.02, 0.03], []),
        ([4.0, 8.0], 8.0, [4.0, 8.0], []),  # a learning rate is at most 10
    ],
)
def test_an_axis_whose_end_is_best_is_extended(one, values, peak, tried, edge):
    method, settings = one({RATE: values})
    asked, tuned = played(method, settings, lambda p, _: -abs(np.log(p[RATE] / peak)))
    assert [t.point[RATE] for t in asked] == tried
    assert [t.extension for t in asked] == [t.point[RATE] not in values for t in asked]
    assert tuned.record["at_edge"] == edge
    assert tuned.record["chosen"][RATE] == min(tried, key=lambda v: abs(np.log(v / peak)))
    assert len([t for t in asked if not t.extension]) == planned(method, settings)


def test_extension_keeps_the_other_values_and_continues_from_the_best(one):
    method, settings = one({RATE: [0.01, 0.02], SIZE: [4, 8], DECAY: [0.0, 0.1]}, extend=1)
    asked, tuned = played(
        method, settings, lambda p, _: -p[DECAY] + p[SIZE] / 100 - abs(p[RATE] - 0.04)
    )
    assert [dict(t.point) for t in asked if t.extension] == [
        {RATE: 0.04, SIZE: 8, DECAY: 0.0},
        {RATE: 0.04, SIZE: 16, DECAY: 0.0},
    ], "a weight decay of 0 cannot be lower, and whole numbers stay whole"
    assert isinstance(tuned.record["chosen"][SIZE], int)
    assert tuned.record["at_edge"] == [RATE, SIZE]


@pytest.mark.parametrize(("best", "written"), [(math.inf, "inf"), (10.0, 10.0)])
def test_an_infinite_value_is_tried_and_recorded_as_text(one, best, written):
    method, settings = one({"train.clip_norm": [10.0, math.inf]})
    asked, tuned = played(method, settings, lambda p, _: float(p["train.clip_norm"] == best))
    assert [t.point["train.clip_norm"] for t in asked] == [10.0, math.inf], "none beyond"
    assert tuned.record["chosen"] == {"train.clip_norm": written}
    assert [t["values"]["train.clip_norm"] for t in tuned.record["tried"]] == [10.0, "inf"]


def test_edges_are_recorded_without_extension(one):
    method, settings = one({RATE: [0.01, 0.02], "objective.name": ["bce"]}, extend=0)
    asked, tuned = played(method, settings, lambda p, _: p[RATE])
    assert len(asked) == 2
    assert tuned.record["at_edge"] == [RATE]


def test_values_that_are_not_numbers_are_not_extended(one):
    method, settings = one({"stages.ranking.hidden": [[4], [8]], "train.device": ["auto", "cpu"]})
    asked, tuned = played(method, settings, lambda p, _: 0.5)
    assert len(asked) == 4
    assert tuned.record["at_edge"] == []
    assert tuned.record["chosen"] == asked[0].point, "the first of equals"


def test_a_failed_trial_is_recorded_and_not_chosen(one):
    method, settings = one({RATE: [0.1, 0.2, 0.3]})
    asked, tuned = played(method, settings, lambda p, _: "loss" if p[RATE] > 0.25 else p[RATE])
    assert tuned.record["chosen"] == {RATE: 0.2}
    assert tuned.record["tried"][2] == {
        "values": {RATE: 0.3}, "validation": None, "seconds": 2.0, "failed": "loss"
    }  # fmt: skip
    assert not any(t.extension for t in asked)


def test_a_failed_extension_ends_the_extension(one):
    method, settings = one({RATE: [0.1, 0.2]})
    asked, tuned = played(method, settings, lambda p, _: "loss" if p[RATE] > 0.25 else p[RATE])
    assert [t.point[RATE] for t in asked] == [0.1, 0.2, 0.4]
    assert (tuned.record["chosen"], tuned.record["at_edge"]) == ({RATE: 0.2}, [])


def test_an_undefined_validation_is_better_than_a_failure(one):
    method, settings = one({RATE: [0.1, 0.2, 0.3]})
    _, tuned = played(method, settings, lambda p, _: "loss" if p[RATE] < 0.15 else None)
    assert tuned.record["chosen"] == {RATE: 0.2}


def test_tuning_fails_if_all_points_fail_or_a_seed_of_the_best(one):
    method, settings = one({RATE: [0.1, 0.2]}, seeds=2)
    with pytest.raises(DivergedError, match=r"bce: loss at 0\.1"):
        played(method, settings, lambda p, _: f"loss at {p[RATE]}")
    with pytest.raises(DivergedError, match="bce: seed 1"):
        played(method, settings, lambda p, seed: f"seed {seed}" if seed else p[RATE])


def test_the_grid_of_all_methods_and_that_of_one_are_merged(settings_for):
    settings = settings_for(
        "nowhere",
        compare__variants={"cold": {"objective.temperature": 1.0}, "bce": {"train.epochs": 2}},
        compare__grid={
            "*": {RATE: [0.1, 0.2], "objective": {"temperature": [1.0, 2.0]}},
            "lcron": {RATE: [0.3], SIZE: [8, 16]},
        },
    )
    methods = {m.name: m for m in methods_of(settings, ["lcron", "cold", "bce"])}
    assert methods["lcron"].axes == {
        RATE: (0.3,), "objective.temperature": (1.0, 2.0), SIZE: (8, 16)
    }  # fmt: skip
    assert list(methods["cold"].axes) == [RATE], "what a variant is about is not tuned"
    assert methods["bce"].settings(settings).train.epochs == 2
    assert methods["bce"].settings(settings).objective.name == "bce"
    assert methods["cold"].settings(settings).objective.options == {"temperature": 1.0}


def test_another_model_of_a_variant_has_none_of_the_options_of_the_former(settings_for):
    variants = {
        "linear": {"stages.ranking.model": "linear"},
        "same": {"stages.ranking.model": "mlp", "stages.ranking.dim": 2},
    }
    run = settings_for("nowhere", compare__variants=variants).changed(
        {"stages.ranking.hidden": [3], "stages.ranking.features": ["price"]}
    )
    linear, same = (m.settings(run).stages["ranking"] for m in methods_of(run, list(variants)))
    assert linear.options == {}
    assert same.options == {**run.stages["ranking"].options, "dim": 2}
    for stage in (linear, same):
        assert (stage.quota, stage.features) == (run.stages["ranking"].quota, ("price",))


def test_a_model_in_a_grid_and_a_stage_with_a_dot_have_no_options_of_the_former(settings_for):
    run = settings_for("nowhere")
    stages = {"v1.2": {**run.stages["ranking"].model_dump(), "quota": 30}}
    run = run.changed({"stages": stages, "objective": {"name": "bce"}})
    variants = {"linear": {"stages": {"v1.2": {"model": "linear"}}}}
    grid = {"bce": {'stages."v1.2".model': ["mlp", "linear"]}}
    run = run.changed({"compare": {"variants": variants, "grid": grid}})
    linear, tuned = methods_of(run, ["linear", "bce"])
    assert linear.settings(run).stages["v1.2"].options == {}
    ((axis, values),) = tuned.axes.items()
    found = [tuned.settings(run, {axis: value}).stages["v1.2"] for value in values]
    assert [(s.model, s.options) for s in found] == [
        ("mlp", run.stages["v1.2"].options),
        ("linear", {}),
    ]


def test_dots_need_no_quotes_and_a_value_may_be_a_table(settings_for):
    annealed = {"start": 200.0, "end": 20.0}
    nested = {"objective": {"temperature": annealed}, "stages": {"ranking": {"features": ["*"]}}}
    quoted = {"objective.temperature": annealed, "stages.ranking.features": ["*"]}
    for variant in (nested, quoted):
        settings = settings_for("nowhere", compare__variants={"annealed": variant})
        (method,) = methods_of(settings, ["annealed"])
        assert method.own == quoted
        assert method.settings(settings).objective.options["temperature"] == annealed
