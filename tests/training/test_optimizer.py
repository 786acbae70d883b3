"""Lazy optimizers compared with plain loops and dense optimizers, and the memory of a step."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from cascaderank.settings.run import TrainSettings
from cascaderank.training import optimizer as module
from cascaderank.training.optimizer import RowWiseAdagrad, build_optimizer, touched

RATE, ROWS, DIM = 0.1, 12, 3


class Model(nn.Module):
    """Two embedding tables and a linear layer, as in a stage."""

    def __init__(self, rows=ROWS):
        super().__init__()
        torch.manual_seed(0)
        self.large, self.small = nn.Embedding(rows, DIM), nn.Embedding(5, DIM)
        self.matrix = nn.Linear(DIM, 1)

    def forward(self, codes):
        vectors = self.large(codes) + self.large(codes.flip(0)) * self.small(codes % 5)
        return self.matrix(vectors).exp().sum()


def codes_of(step):
    return torch.randint(0, ROWS - 2, (20,), generator=torch.Generator().manual_seed(step))


def optimizers(model, **settings):
    settings = {"learning_rate": RATE, **settings}
    return build_optimizer(model, nn.ParameterList([torch.ones(1)]), TrainSettings(**settings))


def train(model, optimizer, steps, *, clip=1.0, start=0):
    for step in range(start, start + steps):
        optimizer.zero_grad()
        model(codes_of(step)).backward()
        optimizer.clip(clip)
        optimizer.step()
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def train_by_adamw(**options):
    model = Model()
    adamw = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1, **options)
    for step in range(4):
        adamw.zero_grad()
        model(codes_of(step)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adamw.step()
    return dict(model.named_parameters())


@pytest.mark.parametrize("choice", ["auto", "adamw"])
def test_small_tables_are_trained_with_adamw_bitwise(choice):
    model = Model()
    ours = train(model, optimizers(model, embedding_optimizer=choice, weight_decay=0.1), 4)
    fused, plain = train_by_adamw(fused=True), train_by_adamw(fused=False)
    for name, weights in ours.items():
        assert torch.equal(weights, fused[name])
        torch.testing.assert_close(weights, plain[name].detach(), rtol=1e-5, atol=1e-6)


def test_auto_is_lazy_for_large_tables_only(monkeypatch):
    monkeypatch.setattr(module, "LARGE", ROWS)
    model = Model()
    optimizer = optimizers(model)
    model(codes_of(0)).backward()
    assert model.large.weight.grad.is_sparse
    assert not model.small.weight.grad.is_sparse
    optimizer.step()
    (table,) = optimizer.param_groups[-1]["params"]
    assert table is model.large.weight


@pytest.mark.parametrize("clip", [1e-3, 1.0, 1e6])
def test_clipping_is_that_of_the_dense_gradient(clip):
    lazy, dense = Model(), Model()
    clipped = {}
    for model, choice in ((lazy, "row_wise_adagrad"), (dense, "adamw")):
        optimizer = optimizers(model, embedding_optimizer=choice)
        model(codes_of(0)).backward()
        optimizer.clip(clip)
        clipped[choice] = [p.grad.to_dense() for p in model.parameters()]
    for x, y in zip(*clipped.values(), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=0)


def test_touched_rows_equal_those_of_coalescing_bitwise():
    table = nn.Embedding(ROWS, DIM, sparse=True)
    (table(codes_of(0)).square().sum() + table(codes_of(1)).sum()).backward()
    expected = table.weight.grad.coalesce()
    rows, of_rows = touched(table.weight)
    assert torch.equal(rows, expected.indices()[0])
    assert torch.equal(of_rows, expected.values())
    of_rows.mul_(2)
    assert torch.equal(table.weight.grad.to_dense(), 2 * expected.to_dense())


def test_row_wise_adagrad_equals_plain_loops():
    torch.manual_seed(0)
    table = nn.Embedding(ROWS, DIM, sparse=True).double()
    optimizer = RowWiseAdagrad(table.parameters(), lr=RATE, weight_decay=0.5)
    weights, squares = table.weight.tolist(), [0.0] * ROWS
    for step in range(3):
        codes, slope = codes_of(step), torch.randn(20, DIM).double()
        optimizer.zero_grad()
        (table(codes) * slope).sum().backward()
        optimizer.step()
        for row in set(codes.tolist()):
            chosen = [s for c, s in zip(codes.tolist(), slope.tolist(), strict=True) if c == row]
            gradient = [sum(column) for column in zip(*chosen, strict=True)]
            squares[row] += sum(g * g for g in gradient) / DIM
            weights[row] = [
                (1 - RATE * 0.5) * w - RATE * g / squares[row] ** 0.5
                for w, g in zip(weights[row], gradient, strict=True)
            ]
    torch.testing.assert_close(table.weight.detach(), torch.tensor(weights).double())


def test_a_row_without_gradient_has_finite_steps():
    table = nn.Embedding(ROWS, DIM, sparse=True)
    before = table.weight.detach().clone()
    optimizer = RowWiseAdagrad(table.parameters(), lr=RATE)
    (table(codes_of(0)) * 0).sum().backward()
    optimizer.step()
    assert torch.equal(table.weight, before)


@pytest.mark.parametrize("choice", ["sparse_adam", "row_wise_adagrad"])
def test_rows_outside_of_the_batch_are_bitwise_unchanged(choice):
    model = Model()
    before = model.large.weight.detach().clone()
    decay = 0.0 if choice == "sparse_adam" else 0.3
    train(model, optimizers(model, embedding_optimizer=choice, weight_decay=decay), 3)
    assert torch.equal(model.large.weight[-2:], before[-2:])
    assert not torch.equal(model.large.weight[:-2], before[:-2])


@pytest.mark.parametrize("choice", ["adamw", "sparse_adam", "row_wise_adagrad"])
def test_resuming_from_a_state_is_bitwise_identical(choice):
    model = Model()
    whole = train(model, optimizers(model, embedding_optimizer=choice), 6)
    first, second = Model(), Model()
    started = optimizers(first, embedding_optimizer=choice)
    train(first, started, 3)
    second.load_state_dict(first.state_dict())
    resumed = optimizers(second, embedding_optimizer=choice)
    resumed.load_state_dict(started.state_dict())
    assert all(torch.equal(v, whole[k]) for k, v in train(second, resumed, 3, start=3).items())


def test_sparse_adam_with_weight_decay_is_refused():
    with pytest.raises(
        ValueError, match=r"sparse_adam does not support weight decay; got weight_decay = 0\.1"
    ):
        TrainSettings(embedding_optimizer="sparse_adam", weight_decay=0.1)


_GROWTH = """
import torch
from torch import nn
from cascaderank.settings.run import TrainSettings
from cascaderank.training.memory import PeakMemory
from cascaderank.training.optimizer import build_optimizer

ROWS = 2_000_000
table, codes = nn.Embedding(ROWS, 8), torch.randint(0, ROWS, (1000,))

for choice in ("auto", "adamw"):
    settings = TrainSettings(embedding_optimizer=choice)
    optimizer = build_optimizer(table, nn.ParameterList([torch.ones(1)]), settings)
    peak = PeakMemory(torch.device("cpu"))
    before = peak.bytes()
    for _ in range(2):
        optimizer.zero_grad()
        table(codes).square().sum().backward()
        optimizer.clip(1.0)
        optimizer.step()
    print((peak.bytes() - before) // 2**20)
"""


def test_the_memory_of_a_lazy_step_does_not_depend_on_the_table():
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH], capture_output=True, text=True, check=True
    )
    lazy, dense = map(int, done.stdout.split())
    assert dense > 100, "a table has 61 MiB; otherwise the test measures nothing"
    assert lazy < 30  # one number per row is 8 MiB


def test_the_parameters_of_the_objective_have_a_learning_rate_of_their_own():
    for settings, rates in (({}, (RATE, RATE)), ({"objective_learning_rate": 0.5}, (RATE, 0.5))):
        model, objective = Model(), nn.ParameterList([torch.ones(1)])
        optimizer = build_optimizer(model, objective, TrainSettings(learning_rate=RATE, **settings))
        (objective[0].sum() + model.matrix.weight.sum()).backward()
        before = model.matrix.weight.detach().clone()
        optimizer.step()
        torch.testing.assert_close(before - model.matrix.weight, torch.full_like(before, rates[0]))
        torch.testing.assert_close(objective[0].detach(), torch.tensor([1 - rates[1]]))
        found = [group["lr"] for group in optimizer.param_groups]
        assert found == [*rates]
