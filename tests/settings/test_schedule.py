"""A schedule maps steps to phases, and is validated."""

import pytest

from cascaderank.errors import ConfigError
from cascaderank.objectives import build_objective
from cascaderank.settings.run import check_settings
from cascaderank.settings.schedule import Phase, Schedule, Timetable

STAGES = ("retrieval", "ranking")


def plans(schedule, objective="lcron", stages=STAGES):
    quotas = (4, 3, 2, 1)[: len(stages)]
    terms = build_objective(objective, stages=stages, quotas=quotas, ground_truth=2).terms
    return Schedule.model_validate(schedule).plans(stages, terms)


def test_joint_training_is_one_phase_of_everything():
    (only,) = plans("joint")
    assert only.stages == {"retrieval", "ranking"}
    assert only.terms == {"end_to_end", "top_k/retrieval", "top_k/ranking"}
    assert only.phase == Phase()


def test_alternating_stages_take_turns():
    first, second = plans({"preset": "alternating", "steps": 7})
    assert (first.stages, second.stages) == ({"retrieval"}, {"ranking"})
    assert first.terms == {"end_to_end", "top_k/retrieval"}
    assert first.phase.steps == second.phase.steps == 7
    assert Schedule(preset="alternating").repeats
    assert {plan.phase.epochs for plan in plans("alternating")} == {1}


def test_sequential_stages_are_trained_on_survivors():
    got = plans("sequential", "bce", ("a", "b", "c"))
    assert [plan.stages for plan in got] == [{"a"}, {"b"}, {"c"}]
    assert [plan.terms for plan in got] == [{"bce/a"}, {"bce/b"}, {"bce/c"}]
    assert all(plan.phase.candidates == "survivors" for plan in got)
    assert not Schedule(preset="sequential").repeats


def test_rankflow_alternates_terms_on_labels_and_terms_on_tutors():
    alone, tutored = plans("rankflow", "rankflow", ("a", "b", "c"))
    assert alone.terms == {"self/a", "self/b", "self/c"}
    assert alone.stages == {"a", "b", "c"}
    assert tutored.terms == {"regression/a", "ranking/a", "regression/b", "ranking/b"}
    assert tutored.stages == {"a", "b"}, "the last stage has no tutor, so it must stand still"


def test_phases_that_do_not_repeat_follow_one_another():
    phases = [Phase(steps=3), Phase(), Phase(epochs=1)]
    table = Timetable(phases, repeats=False, epochs=2, batches=4)
    assert table.steps == 3 + 8 + 4
    assert [table.phase_at(s) for s in range(15)] == [0] * 3 + [1] * 8 + [2] * 4
    assert [s for s in range(15) if table.changes(s)] == [3, 11]
    assert [s for s in range(15) if table.is_final(s)] == [11, 12, 13, 14]
    assert table.cycle == 0


def test_phases_that_repeat_last_for_all_epochs():
    table = Timetable([Phase(steps=3), Phase(steps=2)], repeats=True, epochs=3, batches=4)
    assert table.steps == 12
    assert [table.phase_at(s) for s in range(12)] == [0, 0, 0, 1, 1] * 2 + [0, 0]
    assert not any(table.changes(s) for s in range(12))
    assert all(table.is_final(s) for s in range(12))
    assert table.cycle == 5


@pytest.mark.parametrize(
    ("phase", "message"),
    [
        ({"stages": ["rankng"]}, "phase 2 of the schedule: no stage called 'rankng' (did you mean"),
        (
            {"terms": ["topk/*"]},
            "no term of the objective matches 'topk/*'; its "
            "terms are end_to_end, top_k/retrieval, top_k/ranking",
        ),
        (
            {"stages": ["ranking"], "terms": ["top_k/retrieval"]},
            "the terms top_k/retrieval train none of the stages ranking; the terms of the objective",
        ),
    ],
    ids=str,
)
def test_a_phase_with_unknown_stages_or_terms_is_refused(phase, message):
    with pytest.raises(ConfigError) as caught:
        plans({"phases": [{"epochs": 1}, phase]})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (
            "sequental",
            "train.schedule: no schedule called 'sequental' (did you mean 'sequential'?)",
        ),
        ({"preset": "jiont"}, "train.schedule.preset: Input should be 'joint'"),
        ({}, "train.schedule: give one of preset and phases"),
        ({"preset": "joint", "phases": [{}]}, "train.schedule: give one of preset and phases"),
        ({"preset": "joint", "repeat": True}, "train.schedule: repeat applies to phases"),
        (
            {"preset": "joint", "steps": 3},
            "steps applies to the presets 'alternating' and 'rankflow'",
        ),
        ({"preset": "alternating", "steps": 0}, "train.schedule.steps: Input should be greater"),
        ({"phases": [{}], "repeat": True}, "phases.0 needs epochs or steps if phases repeat"),
        ({"phases": [{"steps": 0}]}, "train.schedule.phases.0.steps: Input should be greater"),
        ({"phases": [{"steps": 1, "epochs": 1}]}, "give one of epochs and steps"),
        ({"phases": [{"stages": []}]}, "train.schedule.phases.0.stages: List should have at"),
        ({"phases": [{"candidates": "some"}]}, "train.schedule.phases.0.candidates: Input should"),
        (
            {"phases": [{"stagse": ["a"]}]},
            "unknown setting train.schedule.phases.0.stagse (did you mean 'stages'?)",
        ),
        (
            {"phases": [{"stages": ["first"]}]},
            "phase 1 of the schedule: no stage called 'first'; the cascade has retrieval, ranking",
        ),
        ("rankflow", "no term of the objective matches 'self/*'"),
    ],
    ids=str,
)
def test_each_error_is_reported_before_training(schedule, message):
    stages = {"retrieval": {"model": "linear", "quota": 3}, "ranking": {"model": "mlp", "quota": 2}}
    settings = {"data": {"path": "log"}, "relevance": {"top": 2}, "stages": stages}
    with pytest.raises(ConfigError) as caught:
        check_settings({**settings, "train": {"schedule": schedule}})
    assert message in str(caught.value)


def test_an_invalid_objective_is_reported_before_training():
    settings = {"data": {"path": "log"}, "relevance": {"top": 2}}
    stages = {"only": {"model": "linear", "quota": 3}}
    wrong = {"name": "lcron", "weights": [1.0, 2.0]}
    with pytest.raises(ConfigError, match="1 numbers of at least 0, one per stage"):
        check_settings({**settings, "stages": stages, "objective": wrong})


@pytest.mark.parametrize(
    "schedule", ["sequential", {"phases": [{"epochs": 2, "terms": ["end_to_end"]}]}], ids=str
)
def test_a_schedule_survives_writing_and_reading(schedule, tmp_path):
    from cascaderank.settings.run import read_settings

    stages = {"retrieval": {"model": "linear", "quota": 3}, "ranking": {"model": "mlp", "quota": 2}}
    settings = check_settings(
        {
            "data": {"path": "log"},
            "relevance": {"top": 2},
            "stages": stages,
            "train": {"schedule": schedule},
        }
    )
    (tmp_path / "run.toml").write_text(settings.to_toml())
    assert read_settings(tmp_path / "run.toml") == settings
