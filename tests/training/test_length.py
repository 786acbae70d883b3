"""Defaults of training count steps."""

import pytest

from cascaderank.settings.run import TrainSettings
from cascaderank.training.length import batch_size_of, training_length
from cascaderank.training.optimizer import Optimizers
from cascaderank.training.train_run import train_run


@pytest.fixture
def rates(monkeypatch):
    """Learning rate of each step."""
    found, step = [], Optimizers.step

    def spy(self):
        found.append({group["lr"] for group in self.param_groups})
        step(self)

    monkeypatch.setattr(Optimizers, "step", spy)
    return found


@pytest.mark.parametrize("requests", [1, 5, 33, 64, 100, 500, 1024, 2_000, 63_999, 64_000, 200_000])
def test_small_logs_have_enough_steps_and_large_ones_few_passes(requests):
    settings = TrainSettings()
    size = batch_size_of(settings, requests)
    batches = -(-requests // size)
    length = training_length(settings, batches)
    assert batches >= (500 if size > 64 else 16) or size == 4
    assert (size > 64) == (requests >= 64_000)
    assert length.epochs * batches >= min(3_000, 60 * batches)
    assert length.patience * batches >= 150
    assert requests < 20_000 or length.epochs <= 10


def test_batch_size_epochs_and_patience_follow_from_the_log(
    funnel, settings_for, tmp_path, rates, monkeypatch
):
    monkeypatch.setattr("cascaderank.training.length._EPOCHS", (1, 3))
    auto = {f"train__{name}": "auto" for name in ("epochs", "batch_size", "patience")}
    settings = settings_for(funnel, **auto)
    result = train_run(settings, tmp_path / "run")
    batches = -(-192 // 8)  # 192 training requests: 8 is the largest with at least 16 batches
    assert len(rates) == 3 * batches
    assert set.union(*rates) == {settings.train.learning_rate}
    assert "auto" in (tmp_path / "run" / "config.toml").read_text()
    assert result.validation is not None
