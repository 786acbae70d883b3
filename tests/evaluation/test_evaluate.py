"""Evaluation of a cascade: every request once, and modes of modules restored."""

import pytest
import torch
from torch import nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError, DataError
from cascaderank.evaluation import Evaluator, evaluate

REQUESTS, LENGTH = 23, 12


class Funnel(nn.Module):
    """Two stages whose scores depend on the mode of the module."""

    quotas = (8, 4)
    stage_names = ("retrieval", "ranking")

    def __init__(self):
        super().__init__()
        self.noise = nn.Dropout(0.5)
        self.frozen = nn.BatchNorm1d(1)
        self.scale = nn.Parameter(torch.ones(()))
        self.modes = []

    def forward(self, batch):
        self.modes.append((self.training, self.noise.training, torch.is_grad_enabled()))
        x = batch.items["x"] * self.scale
        return torch.stack([self.noise(x + 1), x])


class Loader:
    """Batches of requests, in an order that depends on the epoch."""

    def __init__(self, batch_size, labels=True):
        g = torch.Generator().manual_seed(0)
        self.x = torch.randn(REQUESTS, LENGTH, generator=g)
        self.y = self.x + torch.randn(REQUESTS, LENGTH, generator=g)
        self.batch_size, self.labels = batch_size, labels

    def epoch(self, epoch):
        for rows in torch.arange(REQUESTS).roll(epoch).split(self.batch_size):
            yield RequestBatch(
                mask=torch.ones(len(rows), LENGTH, dtype=torch.bool),
                items={"x": self.x[rows]},
                labels=self.y[rows] if self.labels else None,
                rows=rows,
            )


@pytest.mark.parametrize("batch_size", [1, 5, REQUESTS])
def test_every_request_is_evaluated_once_including_the_last_batch(batch_size):
    loader = Loader(batch_size)
    steps = []
    report = evaluate(Funnel(), loader, k=3, bootstrap=30, seed=4, progress=steps.append)
    assert report.requests == REQUESTS
    assert sum(steps) == -(-REQUESTS // batch_size)
    evaluator = Evaluator(quotas=(8, 4), stage_names=Funnel.stage_names, k=3)
    evaluator.update(torch.stack([loader.x + 1, loader.x]), loader.y)
    assert report.to_json() == evaluator.report(bootstrap=30, seed=4).to_json()


def test_modules_are_in_evaluation_mode_and_their_modes_are_restored():
    cascade = Funnel().train()
    cascade.frozen.eval()
    evaluate(cascade, Loader(10), threshold=1.0, bootstrap=0)
    assert set(cascade.modes) == {(False, False, False)}
    assert cascade.training
    assert cascade.noise.training
    assert not cascade.frozen.training
    assert torch.is_grad_enabled()


def test_modes_of_modules_are_restored_after_an_error():
    cascade = Funnel().train()
    with pytest.raises(DataError, match="got a batch without labels"):
        evaluate(cascade, Loader(10, labels=False), k=3)
    assert cascade.training
    assert cascade.noise.training


def test_a_missing_ground_truth_is_rejected_before_any_work():
    cascade = Funnel()
    with pytest.raises(ConfigError, match="got neither"):
        evaluate(cascade, Loader(10))
    assert cascade.modes == []


def test_nan_scores_are_reported_with_the_name_of_the_stage():
    cascade = Funnel()
    cascade.scale.data.fill_(torch.nan)
    with pytest.raises(
        DataError, match="stage 'retrieval' must be numbers; got NaN for 120 of 120"
    ):
        evaluate(cascade, Loader(10), k=3)


def test_batches_are_moved_to_the_device_of_the_cascade(monkeypatch):
    gone = []
    monkeypatch.setattr(RequestBatch, "to", lambda self, device: gone.append(device) or self)
    evaluate(Funnel(), Loader(REQUESTS), k=3, bootstrap=0)
    evaluate(Funnel(), Loader(REQUESTS), k=3, bootstrap=0, device="meta")
    assert gone == [torch.device("cpu"), "meta"]
