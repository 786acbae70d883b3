"""Pruning of a run: the smaller run has the same scores, and is a complete run."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError, RunError
from cascaderank.runs.data import run_data
from cascaderank.runs.load import load_run
from cascaderank.training.evaluate_run import evaluate_run
from cascaderank.training.pruning import prune_run
from cascaderank.training.train_run import train_run
from tests.cli.test_commands import cascaderank, refused
from tests.training.test_entire_chain import settings_of, written


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return written(tmp_path_factory.mktemp("logs") / "log")


@pytest.fixture
def run(log, tmp_path):
    """A run of ECMM and ECM; most gates of ECMM are closed."""
    train_run(settings_of(log, ["ecmm", "ecm"]), tmp_path / "run")
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    codes = weights["stages.stage_0.routing.codes.log_alpha"].fill_(-9.0)
    codes[0, 1] = codes[0, 4] = codes[2, 4] = 9.0
    towers = weights["stages.stage_0.routing.tower_codes.log_alpha"].fill_(-9.0)
    towers[0, 0] = towers[0, 2] = towers[1, 3] = 9.0
    save_file(weights, tmp_path / "run" / "weights.safetensors")
    (tmp_path / "run" / "checksums.sha256").unlink()
    return tmp_path / "run"


def scores_of(folder):
    trained = load_run(folder)
    cascade, settings = trained.cascade, trained.settings
    with run_data(settings) as data, torch.no_grad():
        loader = RequestLoader(data.encoded, data.split.test, batch_size=64)
        return torch.cat([cascade(batch) for batch in loader.epoch(0)], dim=1)


def test_the_smaller_run_has_the_same_scores(run, tmp_path):
    found = prune_run(str(run), str(tmp_path / "small"))
    assert list(found) == ["stage_0"]
    assert found["stage_0"].options == {"gates": False, "blocks": (2, 2)}
    assert found["stage_0"].multiply_adds[1].per_candidate < (
        0.5 * found["stage_0"].multiply_adds[0].per_candidate
    )
    torch.testing.assert_close(scores_of(tmp_path / "small"), scores_of(run), rtol=0, atol=1e-6)
    trained = load_run(tmp_path / "small")
    cascade, settings = trained.cascade, trained.settings
    blocks = settings.stages["stage_0"].options["blocks"]
    assert cascade.stages["stage_0"].routing.blocks == tuple(blocks)
    assert len(cascade.stages["stage_0"].towers) == 1


def test_the_smaller_run_has_the_same_evaluation_and_reports_the_savings(run, log, tmp_path):
    found = prune_run(run, tmp_path / "small")["stage_0"]
    report = json.loads((tmp_path / "small" / "report.json").read_text())
    assert report["parameters"]["stage_0"] == found.parameters[1]
    assert report["pruned"]["stages"]["stage_0"]["parameters"] == list(found.parameters)
    (_, whole), (_, small) = (evaluate_run(of, log) for of in (run, tmp_path / "small"))
    assert whole.to_json() == small.to_json()


def test_the_command_writes_a_run_that_other_commands_accept(run, tmp_path):
    done = cascaderank("prune", run, "--to", tmp_path / "small")
    assert done.returncode == 0, done.stderr
    assert "multiply adds per candidate" in done.stdout
    quick = ("--lists", "5", "--batch", 2, "--seconds", 0.001, "--json")
    done = cascaderank("profile", run, tmp_path / "small", *quick)
    whole, small = (of["stages"]["stage_0"] for of in json.loads(done.stdout)["runs"])
    assert small["parameters"] < whole["parameters"]
    again = refused("prune", tmp_path / "small", "--to", tmp_path / "smaller")
    assert f"{tmp_path / 'small'}: was already pruned from {run}" in again
    assert "already exists" in refused("prune", run, "--to", tmp_path / "small")
    assert "no such folder" in refused("prune", tmp_path / "none", "--to", tmp_path / "x")


def test_a_run_without_gates_is_refused(log, tmp_path):
    train_run(settings_of(log, ["ecm"]), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"no stage has gates \(stage_0 is ECM\)"):
        prune_run(tmp_path / "run", tmp_path / "small")
    assert not (tmp_path / "small").exists()


def test_a_run_is_not_pruned_onto_itself(run):
    with pytest.raises(RunError, match="already exists"):
        prune_run(run, run)


def test_a_stage_that_reads_the_previous_one_is_pruned(log, tmp_path):
    settings = settings_of(log, ["mlp", "ecmm"])
    settings = settings.changed({"stages.stage_1.previous": ["score", "rank"]})
    train_run(settings, tmp_path / "run")
    assert list(prune_run(tmp_path / "run", tmp_path / "small")) == ["stage_1"]
    torch.testing.assert_close(
        scores_of(tmp_path / "small"), scores_of(tmp_path / "run"), rtol=0, atol=1e-6
    )
