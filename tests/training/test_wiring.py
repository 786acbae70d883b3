"""The training loop validates, clips, stops, saves and records as its settings say."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from cascaderank.cascade import Cascade
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import DivergedError
from cascaderank.evaluation import evaluate
from cascaderank.objectives import build_objective
from cascaderank.runs.build import build_cascade, build_run_objective
from cascaderank.runs.data import run_data
from cascaderank.runs.folder import RunFolder
from cascaderank.runs.load import load_run
from cascaderank.settings.run import TrainSettings, check_settings
from cascaderank.training.checkpoint import load_checkpoint
from cascaderank.training.optimizer import build_optimizer
from cascaderank.training.scheduler import reached
from cascaderank.training.train_run import train_run
from cascaderank.training.trainer import Trainer
from tests.training.test_resume import StopAfter, StoppedError

CPU = torch.device("cpu")
STEPS = 6  # batches of an epoch: 192 training requests in batches of 32


def settings_of(log, **train):
    return check_settings(
        {
            "data": {"path": str(log), "split": {"by": "request", "seed": 1}},
            "relevance": {"top": 10},
            "stages": {
                "retrieval": {"model": "linear", "quota": 30},
                "ranking": {"model": "mlp", "quota": 20, "hidden": [8], "dropout": 0.5},
            },
            "train": {"epochs": 1, "batch_size": 32, **train},
            "evaluation": {"bootstrap": 5},
        }
    )


@pytest.fixture(scope="module")
def data(funnel):
    with run_data(settings_of(funnel)) as data:
        yield data


@pytest.fixture
def trainer_of(funnel, data, tmp_path):
    """Build a trainer on the small funnel; keyword arguments are settings of training."""

    def build(*, decides=None, train=None, folder="run", **options):
        settings = settings_of(funnel, **options)
        torch.manual_seed(0)
        return Trainer(
            build_cascade(settings, data.schema),
            build_run_objective(settings, data.log),
            train=train or RequestLoader(data.encoded, data.split.train, batch_size=32, seed=0),
            validation=RequestLoader(data.encoded, data.split.validation, batch_size=32),
            relevance=settings.relevance,
            decides=decides,
            settings=settings.train,
            folder=RunFolder(tmp_path / folder),
        )

    return build


def records_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def weights_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_validation_part_with_the_saved_weights_gives_the_recorded_recall(
    funnel, data, tmp_path
):
    settings = settings_of(funnel, epochs=6, patience=6, learning_rate=0.1)
    result = train_run(settings, tmp_path / "run", data=data)
    recorded = [r["validation"]["joint_recall"] for r in records_of(tmp_path / "run")]
    assert len(recorded) == 6
    assert recorded[-1] < max(recorded), "the test means nothing if the last epoch is the best"
    cascade = load_run(tmp_path / "run").cascade

    def recall(rows):
        loader = RequestLoader(data.encoded, rows, batch_size=64)
        report = evaluate(cascade, loader, ground_truth=10, bootstrap=0)
        return report.metrics["joint_recall"].mean

    assert result.validation == max(recorded)
    assert recall(data.split.validation) == pytest.approx(max(recorded), abs=1e-6)
    assert recall(data.split.test) != pytest.approx(max(recorded), abs=1e-6)


@pytest.fixture
def lengths():
    """Euclidean length of the whole gradient at each step of an optimizer."""
    found = []

    def measure(optimizer, *_):
        gradients = [p.grad for g in optimizer.param_groups for p in g["params"]]
        squares = [g.double().square().sum() for g in gradients if g is not None]
        found.append(float(torch.stack(squares).sum().sqrt()))

    hook = register_optimizer_step_pre_hook(measure)
    yield found
    hook.remove()


def test_no_step_takes_a_gradient_longer_than_clip_norm(trainer_of, lengths):
    trainer_of(clip_norm=1e6, folder="long").fit()
    assert len(lengths) == STEPS
    longest = min(lengths) / 10
    lengths.clear()
    trainer_of(clip_norm=longest, folder="short").fit()
    assert lengths == pytest.approx([longest] * STEPS, rel=1e-3)


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        ([0.5, 0.4, 0.4, 0.4], 1, 2, 0),
        ([0.5, 0.4, 0.4, 0.4, 0.4], 2, 3, 0),
        ([0.1, 0.05, 0.2, 0.1, 0.1, 0.1], 2, 5, 2),
        ([0.5, 0.5, 0.5, 0.5], 2, 3, 0),
        ([0.1, 0.2, 0.3], 1, 3, 2),
    ],
)
def test_training_stops_after_patience_epochs_without_a_better_value(
    trainer_of, tmp_path, values, patience, epochs, best
):
    after = []

    def decides():
        after.append(weights_of(trainer.cascade))
        return values[len(after) - 1]

    trainer = trainer_of(decides=decides, epochs=len(values), patience=patience)
    state = trainer.fit()
    assert (len(after), state.epoch, state.best_epoch) == (epochs, epochs, best)
    assert state.best == values[best]
    assert_equal(load_file(tmp_path / "run" / "weights.safetensors"), after[best])


def test_without_a_validation_value_the_last_epoch_is_kept(trainer_of, tmp_path):
    after = []

    def decides():
        after.append(weights_of(trainer.cascade))
        return math.nan

    trainer = trainer_of(decides=decides, epochs=3, patience=1)
    state = trainer.fit()
    assert (state.epoch, state.best_epoch) == (3, 2)
    assert_equal(load_file(tmp_path / "run" / "weights.safetensors"), after[-1])


class Recorded:
    """A loader that notes the rows of each epoch."""

    def __init__(self, loader):
        self.loader, self.batches_per_epoch, self.rows = loader, loader.batches_per_epoch, []

    def epoch(self, epoch, *, start=0):
        self.rows.append([])
        for batch in self.loader.epoch(epoch, start=start):
            self.rows[-1].extend(batch.rows.tolist())
            yield batch


def test_each_epoch_has_an_order_of_its_own(trainer_of, data):
    train = Recorded(RequestLoader(data.encoded, data.split.train, batch_size=32, seed=0))
    trainer_of(train=train, epochs=3).fit()
    assert len(train.rows) == 3
    assert all(sorted(rows) == sorted(data.split.train.tolist()) for rows in train.rows)
    assert all(one != other for one, other in pairwise([*train.rows, train.rows[0]]))


def test_the_mean_of_a_term_is_over_the_batches_that_counted_it(trainer_of, tmp_path):
    trainer = trainer_of(schedule={"preset": "alternating", "steps": 2})
    seen = {}

    def note(_, __, out):
        for name, value in {"loss": out.total, **out.terms}.items():
            seen.setdefault(name, []).append(float(value.detach()))

    trainer.objective.register_forward_hook(note)
    trainer.fit()
    (record,) = records_of(tmp_path / "run")
    assert (len(seen["top_k/retrieval"]), len(seen["top_k/ranking"])) == (4, 2)
    means = {name: sum(values) / len(values) for name, values in seen.items()}
    assert record["train"] == pytest.approx(means, rel=1e-6)


@pytest.mark.parametrize(("every", "step"), [(2, 4), (3, 3), (5, 5)])
def test_a_checkpoint_is_written_every_so_many_steps(funnel, data, tmp_path, every, step):
    settings = settings_of(funnel, checkpoint_every=every)
    # The callback of a step runs before the checkpoint of that step is written.
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path / "run", data=data, progress=StopAfter(STEPS))
    state, _, _ = load_checkpoint(tmp_path / "run" / "checkpoint.pt", modules={}, device=CPU)
    assert (state.epoch, state.step) == (0, step)


def test_an_infinite_loss_is_an_error(trainer_of):
    trainer = trainer_of()
    trainer.objective.register_forward_hook(
        lambda _, __, out: replace(out, total=out.total + math.inf)
    )
    with pytest.raises(DivergedError, match=r"loss is no longer a number at step 6"):
        trainer.fit()


def test_metrics_written_after_the_checkpoint_are_written_again(funnel, data, tmp_path):
    settings = settings_of(funnel, epochs=2, checkpoint_every=4)
    train_run(settings, tmp_path / "whole", data=data)
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path / "killed", data=data, progress=StopAfter(STEPS + 3))
    metrics = tmp_path / "killed" / "metrics.jsonl"
    with metrics.open("a") as file:
        file.write('{"epoch": 1, "written": "before a kill"}\n')
    train_run(settings, tmp_path / "killed", data=data)
    assert metrics.read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_weight_decay_leaves_the_weights_of_the_objective_alone():
    cascade = Cascade({"a": nn.Linear(2, 1)}, (1,))
    objective = build_objective("lcron", stages=("a",), quotas=(1,), ground_truth=1)
    settings = TrainSettings(learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(cascade, objective, settings)
    before = {}
    for name, module in (("cascade", cascade), ("objective", objective)):
        for parameter in module.parameters():
            nn.init.ones_(parameter)
            parameter.grad = torch.zeros_like(parameter)
        before[name] = [p.detach().clone() for p in module.parameters()]
    assert before["objective"]
    optimizer.step()
    for parameter, old in zip(objective.parameters(), before["objective"], strict=True):
        assert torch.equal(parameter, old)
    for parameter, old in zip(cascade.parameters(), before["cascade"], strict=True):
        torch.testing.assert_close(parameter.detach(), old * (1 - 0.1 * 0.5))


def test_weight_decay_reaches_the_rows_of_lazy_tables():
    table = nn.Embedding(5, 3)
    before = table.weight.detach().clone()
    settings = TrainSettings(
        learning_rate=0.1, weight_decay=0.5, embedding_optimizer="row_wise_adagrad"
    )
    optimizer = build_optimizer(nn.ModuleList([table]), nn.Module(), settings)
    (table(torch.tensor([1, 3])) * 0).sum().backward()
    optimizer.step()
    expected = before.clone()
    expected[[1, 3]] *= 1 - 0.1 * 0.5
    torch.testing.assert_close(table.weight.detach(), expected)


class Constant(nn.Module):
    """The same scores for every list."""

    def __init__(self, *scores):
        super().__init__()
        self.scores = nn.Parameter(torch.tensor(scores))

    def forward(self, batch):
        return self.scores.expand(batch.mask.shape)


def test_padding_reaches_no_stage():
    cascade = Cascade(
        {"a": Constant(1.0, 2.0, 3.0, 4.0), "b": Constant(4.0, 3.0, 2.0, 1.0)}, (2, 1)
    )
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    scores = torch.stack([stage.scores.expand(2, 4) for stage in cascade.stages.values()])
    got = reached(cascade, scores, mask)
    assert got[0].equal(mask)
    assert got[1].int().tolist() == [[0, 1, 1, 0], [1, 0, 0, 0]]
