"""Narrower or compiled: the same training, as far as rounding lets it be."""

import shutil

import pytest
import torch
from torch import nn

from cascaderank.cascade import Cascade, build_stage
from cascaderank.errors import ConfigError, RunError
from cascaderank.settings.run import TrainSettings
from cascaderank.training.forward import build_forward
from cascaderank.training.train_run import train_run
from tests.contracts.test_stages import FEATURES, SCHEMA, make_batch
from tests.training.test_resume import StopAfter, StoppedError, bits_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, compiling

OPTIONS = [
    {"train__precision": "bfloat16"},
    pytest.param(
        {"train__compile": True},
        marks=pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler"),
    ),
]


def learned(**options):
    """What two stages say, what they are learned by, and what is said within."""
    torch.manual_seed(0)
    names = ("two_tower", "mlp")
    stages = {name: build_stage(name, SCHEMA, features=FEATURES) for name in names}
    cascade, within = Cascade(stages, quotas=(3, 2)), []
    hidden = next(m for m in cascade.modules() if isinstance(m, nn.ReLU))
    if not options.get("compile"):
        hidden.register_forward_hook(lambda _, __, out: within.append(out.dtype))
    forward = build_forward(cascade, TrainSettings(**options), torch.device("cpu"))
    found = []
    for length in (6, 9, 7):  # of any length
        batch = make_batch(length=length)
        outputs = forward(batch)
        scores = torch.stack([out.scores for out in outputs]).masked_fill(~batch.mask, 0.0)
        gradients = torch.autograd.grad(
            scores.square().sum(), list(cascade.parameters()), allow_unused=True
        )
        found.append([scores.detach(), *(g for g in gradients if g is not None)])
    return found, within


def assert_close(found, wanted, tolerance):
    for one, other in zip(found, wanted, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            scale = theirs.abs().max().clamp(min=1e-3)
            assert mine.dtype is torch.float32
            torch.testing.assert_close(mine / scale, theirs / scale, rtol=0, atol=tolerance)


def test_hidden_layers_are_narrow_and_scores_are_not():
    wanted, before = learned()
    found, within = learned(precision="bfloat16")
    assert set(before) == {torch.float32}
    assert set(within) == {torch.bfloat16}
    assert_close([one[:1] for one in found], [one[:1] for one in wanted], 0.03)
    for one, other in zip(found, wanted, strict=True):
        mine, theirs = (torch.cat([g.flatten() for g in x[1:]]) for x in (one, other))
        assert torch.cosine_similarity(mine, theirs, dim=0) > 0.99
    assert any(not torch.equal(a[0], b[0]) for a, b in zip(found, wanted, strict=True))


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_compiled_stages_say_the_same():
    assert_close(learned(compile=True)[0], learned()[0], 1e-5)


@pytest.mark.parametrize("changes", OPTIONS)
def test_stopping_changes_no_bit(funnel, settings_for, tmp_path, changes):
    settings = settings_for(funnel, train__epochs=2, **changes)
    train_run(settings, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path / "stopped", progress=StopAfter(7))
    train_run(settings, tmp_path / "stopped")
    assert bits_of(tmp_path / "stopped") == bits_of(tmp_path / "whole")


def test_without_a_compiler_it_says_what_to_do(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="no no-such-compiler; install one"):
        learned(compile=True)


def test_a_run_that_could_not_begin_does_not_claim_its_folder(
    funnel, settings_for, tmp_path, monkeypatch
):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError):
        train_run(settings_for(funnel, train__compile=True), tmp_path / "run")
    settings = settings_for(funnel, train__epochs=1)
    train_run(settings, tmp_path / "run")
    assert (tmp_path / "run" / "config.toml").read_text() == settings.to_toml()


def test_a_complete_run_keeps_its_folder_without_its_weights(funnel, settings_for, tmp_path):
    train_run(settings_for(funnel, train__epochs=1), tmp_path / "run")
    (tmp_path / "run" / "weights.safetensors").unlink()
    with pytest.raises(RunError, match="other settings"):
        train_run(settings_for(funnel, train__epochs=1, train__seed=1), tmp_path / "run")
