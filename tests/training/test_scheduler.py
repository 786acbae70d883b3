"""A phase trains its stages on its terms and candidates, and freezes all other stages."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.objectives import Objective, build_objective
from cascaderank.settings.schedule import Schedule
from cascaderank.training.scheduler import Scheduler, reached
from cascaderank.training.train_run import train_run
from cascaderank.training.trainer import Trainer


class Scores(nn.Module):
    """A weight per candidate."""

    def __init__(self, scores):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(scores))
        self.fixed = nn.Parameter(torch.tensor(0.0), requires_grad=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, batch):
        return (self.weight + self.fixed).expand(batch.mask.shape)


def cascade_of(*scores, quotas):
    names = ("first", "second", "third")[: len(scores)]
    return Cascade({n: Scores(s) for n, s in zip(names, scores, strict=True)}, quotas)


@pytest.fixture
def cascade():
    return cascade_of(
        [4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0], quotas=(3, 2, 1)
    )


def test_a_stage_is_reached_by_the_candidates_that_all_earlier_stages_keep(cascade):
    batch = RequestBatch(items={}, mask=torch.tensor([[True, True, True, True]]))
    got = reached(cascade, cascade(batch), batch.mask)
    assert got[:, 0].int().tolist() == [[1, 1, 1, 1], [1, 1, 1, 0], [0, 1, 1, 0]]
    assert not got.requires_grad


def test_stages_that_do_not_learn_stand_still(cascade):
    objective = build_objective("bce", stages=cascade.stage_names, quotas=(3, 2, 1), ground_truth=1)
    schedule = Schedule.model_validate("sequential")
    scheduler = Scheduler(schedule, cascade, objective, epochs=1, batches=2)
    for step, name in ((0, "first"), (2, "second"), (4, "third")):
        plan = scheduler.enter(step)
        assert plan.stages == {name}
        for other, stage in cascade.stages.items():
            assert stage.weight.requires_grad == stage.training == (other == name)
            assert not stage.fixed.requires_grad
        assert scheduler.depth(step) == cascade.stage_names.index(name) + 1
    scheduler.leave()
    assert all(
        s.weight.requires_grad and not s.fixed.requires_grad for s in cascade.stages.values()
    )


def test_a_shared_parameter_is_trained_with_any_of_its_stages():
    cascade = cascade_of([2.0, 1.0], [1.0, 2.0], quotas=(2, 1))
    cascade.stages["second"].weight = cascade.stages["first"].weight
    objective = build_objective("bce", stages=cascade.stage_names, quotas=(2, 1), ground_truth=1)
    schedule = Schedule.model_validate("sequential")
    Scheduler(schedule, cascade, objective, epochs=1, batches=1).enter(0)
    assert cascade.stages["second"].weight.requires_grad


@pytest.fixture(scope="module")
def spied(tmp_path_factory):
    """Train a run and return, for each step, the stages and term weights that changed, and terms."""

    def run(settings, folder):
        history, take = [], Trainer._step

        def step(self, batch):
            before = {n: _flat(s) for n, s in self.cascade.stages.items()}
            logs = {n: w.item() for n, w in self.objective.log_weights.items()}
            out = take(self, batch)
            moved = {n for n, s in self.cascade.stages.items() if not _flat(s).equal(before[n])}
            ln = {n for n, w in self.objective.log_weights.items() if w.item() != logs[n]}
            history.append((moved, ln, set(out.terms)))
            return out

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_step", step)
            result = train_run(settings, folder)
        return history, result

    return run


def _flat(module):
    return torch.cat([p.detach().flatten().clone() for p in module.parameters()])


def test_momentum_and_decay_do_not_move_a_stage_that_stands_still(
    spied, funnel, settings_for, tmp_path
):
    schedule = {"preset": "alternating", "steps": 2}
    settings = settings_for(funnel, train__schedule=schedule, train__weight_decay=0.1)
    history, _ = spied(settings, tmp_path / "run")
    assert len(history) == 18
    for step, (moved, logs, terms) in enumerate(history):
        name = ("retrieval", "ranking")[step // 2 % 2]
        assert moved == {name}, f"at step {step}"
        assert logs == {f"top_k/{name}"}
        assert terms == {"end_to_end", f"top_k/{name}"}


def test_a_stage_without_an_active_term_is_frozen(spied, funnel, settings_for, tmp_path):
    schedule = {"preset": "rankflow", "steps": 3}
    settings = settings_for(funnel, objective__name="rankflow", train__schedule=schedule)
    history, _ = spied(settings, tmp_path / "run")
    for step, (moved, _, terms) in enumerate(history):
        tutored = step // 3 % 2
        assert moved == ({"retrieval"} if tutored else {"retrieval", "ranking"})
        assert {t.partition("/")[0] for t in terms} == (
            {"regression", "ranking"} if tutored else {"self"}
        )


def test_each_phase_hands_on_its_best_weights(spied, funnel, settings_for, tmp_path):
    """Schedule "sequential": the first stage keeps the weights of its best recall alone."""
    changes = {"objective__name": "bce", "train__schedule": "sequential"}
    changes |= {"train__learning_rate": 0.05, "train__epochs": 6, "train__patience": 2}
    _, result = spied(settings_for(funnel, **changes), tmp_path / "run")
    records = [json.loads(x) for x in result.folder.metrics.read_text().splitlines()]
    assert [r["phase"] for r in records[:6]] == [0] * 6
    first = [r["validation"]["joint_recall/retrieval"] for r in records[:6]]
    assert first.index(max(first)) != 5, "the test means nothing if the last epoch is the best"
    assert all(r["validation"]["recall/retrieval"] == max(first) for r in records[6:])
    assert all("joint_recall/retrieval" not in r["validation"] for r in records[6:])
    last = [r["validation"]["joint_recall"] for r in records[6:]]
    assert result.validation == max(last)
    assert len(last) <= 6


def test_a_phase_that_ends_within_an_epoch_ends_there(spied, funnel, settings_for, tmp_path):
    phases = [{"stages": ["ranking"], "steps": 4}, {"steps": 5}]
    settings = settings_for(funnel, train__schedule={"phases": phases})
    history, _ = spied(settings, tmp_path / "run")
    assert [moved for moved, _, _ in history] == [{"ranking"}] * 4 + [{"retrieval", "ranking"}] * 5
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["training"]["steps"] == 9
    assert report["training"]["epochs"] == 2


def test_one_phase_of_everything_is_joint_training(funnel, settings_for, tmp_path):
    joint = settings_for(funnel)
    phases = {"phases": [{"terms": ["end_*", "top_k/*"], "epochs": 3}]}
    own = settings_for(funnel, train__schedule=phases)
    weights = []
    for name, settings in (("joint", joint), ("own", own)):
        train_run(settings, tmp_path / name)
        weights.append((tmp_path / name / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1]


def test_survivors_are_what_the_stages_before_pass_at_present(funnel, settings_for, tmp_path):
    """The objective is given just those, whatever it is."""
    phases = {"phases": [{"candidates": "survivors", "epochs": 1}]}
    settings = settings_for(funnel, train__schedule=phases, objective__name="bce")
    recorded, evaluate = [], Objective.evaluate

    def spy(self, inputs, **options):
        recorded.append((inputs.scores.detach(), inputs.mask, options["reached"]))
        return evaluate(self, inputs, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objective, "evaluate", spy)
        train_run(settings, tmp_path / "run")
    assert len(recorded) == 6
    for scores, mask, got in recorded:
        assert got[0].equal(mask)
        order = scores[0].masked_fill(~mask, -torch.inf).argsort(-1, descending=True)
        best = torch.zeros_like(mask).scatter(-1, order[:, :30], True) & mask
        assert got[1].equal(best)


def test_progress_goes_from_zero_to_one(funnel, settings_for, tmp_path):
    recorded, evaluate = [], Objective.evaluate

    def spy(self, inputs, **options):
        recorded.append(inputs.progress)
        return evaluate(self, inputs, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objective, "evaluate", spy)
        train_run(settings_for(funnel, train__patience=9), tmp_path / "run")
    assert recorded == [step / 18 for step in range(18)]


def test_an_annealed_temperature_is_read_from_a_table(funnel, settings_for, tmp_path):
    weights = []
    for n, temperature in enumerate((50.0, {"start": 50.0, "end": 5.0})):
        train_run(settings_for(funnel, objective__temperature=temperature), tmp_path / str(n))
        weights.append(load_file(tmp_path / str(n) / "weights.safetensors"))
    assert any(not weights[0][name].equal(weights[1][name]) for name in weights[0])
