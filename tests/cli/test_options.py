"""Options of commands take effect, and exit codes are as documented."""

import errno
import json

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from cascaderank.cli import app
from cascaderank.cli.shell import limit_message, user_errors
from cascaderank.errors import ConfigError
from cascaderank.settings.run import read_settings
from cascaderank.training.train_run import train_run

LESS = (
    "reduce batch sizes, lengths of lists or histories, or the sizes of the model, or use a larger "
    "machine"
)


def call(*words):
    return CliRunner().invoke(app, list(map(str, words)), prog_name="cascaderank")


@pytest.fixture
def one_stage(funnel, settings_for):
    """Settings of a cascade of one linear stage, trained for an epoch."""
    settings = settings_for(funnel, train__epochs=1)
    stages = {"ranking": {"model": "linear", "quota": 20}}
    return settings.changed({"stages": stages, "objective": {"name": "ranknet"}})


def test_a_heat_map_uses_seeds_and_settings(one_stage, tmp_path):
    (tmp_path / "config.toml").write_text(one_stage.to_toml())
    words = ["heatmap", tmp_path / "config.toml", "--run", tmp_path / "runs"]
    words += ["--losses", "ranknet", "--m", 10, "--k", 5, "--seeds", 2]
    done = call(*words, "--set", "train.batch_size=48", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["seeds"] == 2
    runs = sorted((tmp_path / "runs").rglob("config.toml"))
    assert [read_settings(run).train.seed for run in runs] == [0, 1]
    assert {read_settings(run).train.batch_size for run in runs} == {48}


@pytest.mark.parametrize(("options", "history"), [((), 12), (("--history", 7), 7)])
def test_a_profile_has_histories_of_the_given_length(one_stage, tmp_path, options, history):
    train_run(one_stage.changed({"data.history_length": 12}), tmp_path / "run")
    quick = ["--lists", 5, "--batch", 2, "--seconds", 0.001, "--json"]
    done = call("profile", tmp_path / "run", *quick, *options)
    assert done.exit_code == 0, done.stderr
    (found,) = json.loads(done.stdout)["runs"]
    assert found["history"] == history


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, "cascaderank work: interrupted; no incomplete file is left"),
        (ConfigError("two\nlines"), 2, "cascaderank work: two lines"),
        (MemoryError(), 2, "cascaderank work: the memory is not enough (nothing is left); " + LESS),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried\nmore"),
            2,
            "cascaderank work: the memory is not enough (DefaultCPUAllocator: can't allocate "
            "memory: you tried); " + LESS,
        ),
        (
            RecursionError("maximum recursion depth exceeded"),
            2,
            "cascaderank work: a file, a setting or an option is nested too deeply; expected a few "
            "levels",
        ),
        (
            OverflowError("int too large to convert to float"),
            2,
            "cascaderank work: a number is too large (int too large to convert to float); reduce "
            "the numbers of the options and settings",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "runs/a"),
            2,
            "cascaderank work: runs/a: No space left on device; free space there, and repeat the "
            "command",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "runs/a"),
            2,
            "cascaderank work: runs/a: Permission denied; check the path and its permissions",
        ),
        (
            OSError(r"C:\runs is 'lost'"),
            2,
            r"cascaderank work: a file: C:\runs is 'lost'; check the path and its permissions",
        ),
        (
            OSError(errno.EIO, "Input/output error", "a\x1b[2J"),
            2,
            r"cascaderank work: a\x1b[2J: Input/output error; check the path and its permissions",
        ),
    ],
)
def test_an_error_is_reported_on_stderr_and_by_the_exit_code(error, code, message):
    commands = typer.Typer()

    @commands.command()
    @user_errors
    def work():
        typer.echo("started")
        raise error

    done = CliRunner().invoke(commands, [])
    assert (done.exit_code, done.stdout, done.stderr) == (code, "started\n", f"{message}\n")


def test_memory_that_numpy_and_torch_cannot_allocate_is_one_line():
    for allocate in (np.empty, torch.empty):
        with pytest.raises((MemoryError, RuntimeError)) as error:
            allocate(2**46)
        assert limit_message(error.value).startswith("the memory is not enough (")


def test_any_other_error_is_a_bug():
    commands = typer.Typer()

    @commands.command()
    @user_errors
    def work():
        raise RuntimeError("expected a tensor")

    done = CliRunner().invoke(commands, [])
    assert done.exit_code == 1
    assert str(done.exception) == "expected a tensor"


@pytest.mark.parametrize("option", [("--target", "label"), ("--threshold", 2)])
def test_a_search_of_all_items_refuses_another_ground_truth(tmp_path, option):
    done = call("evaluate", tmp_path / "run", tmp_path / "log", "--catalogue", *option)
    assert done.exit_code == 2
    assert "leave out --target and --threshold" in done.stderr


def test_importance_measures_the_features_of_a_stage(one_stage, funnel, tmp_path):
    run = tmp_path / "run"
    joint = train_run(one_stage, run).test.metrics["joint_recall"].mean
    few = ["importance", run, funnel, "--repeats", 1]
    found = json.loads(call(*few, "--seed", 1, "--json").stdout)
    assert found["part"] == "test"
    assert {f["stage"] for f in found["features"]} == {"ranking"}
    assert {f["role"] for f in found["features"]} == {"item", "request", "history"}
    assert found["joint_recall"] == found["recall"]["ranking"] == pytest.approx(joint)
    done = call(*few, "--stage", "ranking", "--part", "validation")
    assert done.exit_code == 0, done.stderr
    assert "ranking: joint recall" in done.stdout
    assert "requests: validation of" in done.stderr
    wrong = call(*few, "--stage", "rankin")
    assert wrong.exit_code == 2
    assert "no stage 'rankin' (did you mean 'ranking'?)" in wrong.stderr
