"""Training in bfloat16 or with compiled stages equals training in float32 up to rounding."""

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
        {
            "train__compile": True,
            # One stage: the compiler takes its time for each.
            "stages": {"ranking": {"model": "mlp", "quota": 20, "hidden": [8], "dropout": 0.1}},
        },
        marks=pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler"),
    ),
]


def scores_and_gradients(names=("two_tower", "mlp"), **options):
    """Return scores and gradients of the stages, and the dtypes of a hidden layer."""
    torch.manual_seed(0)
    stages = {name: build_stage(name, SCHEMA, features=FEATURES) for name in names}
    cascade, dtypes = Cascade(stages, quotas=(3, 2)[: len(names)]), []
    hidden = next(m for m in cascade.modules() if isinstance(m, nn.ReLU))
    if not options.get("compile"):
        hidden.register_forward_hook(lambda _, __, out: dtypes.append(out.dtype))
    forward = build_forward(cascade, TrainSettings(**options), torch.device("cpu"))
    found = []
    for length in (6, 9, 7):  # dynamic shapes
        batch = make_batch(length=length)
        outputs = forward(batch)
        scores = torch.stack([out.scores for out in outputs]).masked_fill(~batch.mask, 0.0)
        gradients = torch.autograd.grad(
            scores.square().sum(), list(cascade.parameters()), allow_unused=True
        )
        found.append([scores.detach(), *(g for g in gradients if g is not None)])
    return found, dtypes


def assert_close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        for mine, theirs in zip(one, other, strict=True):
            scale = theirs.abs().max().clamp(min=1e-3)
            assert mine.dtype is torch.float32
            torch.testing.assert_close(mine / scale, theirs / scale, rtol=0, atol=tolerance)


def test_hidden_layers_are_bfloat16_and_scores_are_float32():
    expected, before = scores_and_gradients()
    found, dtypes = scores_and_gradients(precision="bfloat16")
    assert set(before) == {torch.float32}
    assert set(dtypes) == {torch.bfloat16}
    assert_close([one[:1] for one in found], [one[:1] for one in expected], 0.03)
    for one, other in zip(found, expected, strict=True):
        mine, theirs = (torch.cat([g.flatten() for g in x[1:]]) for x in (one, other))
        assert torch.cosine_similarity(mine, theirs, dim=0) > 0.99
    assert any(not torch.equal(a[0], b[0]) for a, b in zip(found, expected, strict=True))


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_compiled_stages_have_the_same_scores_and_gradients():
    name = ("two_tower",)  # the compiler takes its time for each
    assert_close(scores_and_gradients(name, compile=True)[0], scores_and_gradients(name)[0], 1e-5)


@pytest.mark.parametrize("changes", OPTIONS)
def test_stopping_changes_no_bit(funnel, settings_for, tmp_path, changes):
    settings = settings_for(funnel, train__epochs=2, **changes)
    train_run(settings, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path / "stopped", progress=StopAfter(7))
    train_run(settings, tmp_path / "stopped")
    assert bits_of(tmp_path / "stopped") == bits_of(tmp_path / "whole")


def test_a_missing_compiler_is_reported_with_a_remedy(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError, match="found no no-such-compiler; install one"):
        scores_and_gradients(compile=True)


def test_a_run_that_fails_before_training_does_not_claim_its_folder(
    funnel, settings_for, tmp_path, monkeypatch
):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ConfigError):
        train_run(settings_for(funnel, train__compile=True), tmp_path / "run")
    settings = settings_for(funnel, train__epochs=1)
    train_run(settings, tmp_path / "run")
    expected = settings.changed({"data.target": "funnel"})  # the default, which is recorded
    assert (tmp_path / "run" / "config.toml").read_text() == expected.to_toml()


def test_a_complete_run_keeps_its_folder_without_its_weights(funnel, settings_for, tmp_path):
    train_run(settings_for(funnel, train__epochs=1), tmp_path / "run")
    (tmp_path / "run" / "weights.safetensors").unlink()
    with pytest.raises(RunError, match="other settings"):
        train_run(settings_for(funnel, train__epochs=1, train__seed=1), tmp_path / "run")
