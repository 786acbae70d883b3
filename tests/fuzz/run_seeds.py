"""Seeds of data sets, runs, configs and command lines."""

import os
from pathlib import Path

import pytest

from cascaderank.settings.run import read_settings
from cascaderank.training.train_run import train_run
from tests.data.shops import shop_frame, write_shop
from tests.fuzz.checks import anything, is_that_of_the_intact_files
from tests.fuzz.seed import Seed, prepare
from tests.fuzz.source_seeds import LONG, long_table
from tests.training.test_resume import StopAfter, StoppedError

CONFIG = """\
[data]
path = "log"
target = "label"
split = { by = "request", seed = 1 }

[relevance]
top = 1

[stages.retrieval]
model = "two_tower"
quota = 2
hidden = [8, 4]
features = ["user", "hour", "video", "watched"]

[stages.ranking]
model = "mlp"
quota = 1
hidden = [8]
dropout = 0.1
features = ["*", "!query"]

[objective]
name = "lcron"
temperature = 50.0

[train]
epochs = 2
batch_size = 8
learning_rate = 0.01
checkpoint_every = 2

[evaluation]
bootstrap = 20
metrics = ["ndcg@2"]
"""
SHORT = ("--set", "train.epochs=1", "--set", "evaluation.bootstrap=20")


def write_log(folder: Path) -> None:
    write_shop(folder / "log", [shop_frame(40, days=3)], rows_per_part=11)
    (folder / "config.toml").write_text(CONFIG)


def write_run(folder: Path, stop: int = 0) -> None:
    """Train a run in ``folder/run``, with paths relative to the folder."""
    write_log(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        if stop:
            with pytest.raises(StoppedError):
                train_run(read_settings(Path("config.toml")), "run", progress=StopAfter(stop))
        else:
            train_run(read_settings(Path("config.toml")), "run")
    finally:
        os.chdir(before)


def data_set(folder: Path) -> Seed:
    write_run(folder)
    commands = (
        ("score", "run", "log", "--to", "out/scores.jsonl"),
        (
            "score",
            "run",
            "log",
            "--to",
            "out/scores.run",
            "--vectors",
            "out/vectors",
            "--item",
            "video",
        ),
        ("evaluate", "run", "log", "--json"),
        ("init", "log", "--to", "out/first.toml"),
        ("train", "config.toml", "--run", "out/run", *SHORT),
    )
    return Seed(
        commands, ("log/manifest.json", "log/requests/*/*"), is_that_of_the_intact_files("out"), 200
    )


def complete_run(folder: Path) -> Seed:
    write_run(folder)
    commands = (
        ("score", "run", "log", "--to", "out/scores.jsonl"),
        ("evaluate", "run", "log", "--json"),
        ("train", "config.toml", "--run", "run", "--json"),
    )
    return Seed(commands, ("run/*",), is_that_of_the_intact_files("out"), 200, ("out", "run/.lock"))


def interrupted_run(folder: Path) -> Seed:
    write_run(folder, stop=7)
    commands = (("train", "config.toml", "--run", "run"),)
    return Seed(commands, ("run/*",), is_that_of_the_intact_files("run"), 150, ("out", "run"))


def config(folder: Path) -> Seed:
    write_log(folder)
    words = ("train", "config.toml", "--run", "out/run", *SHORT)
    return Seed((words,), ("config.toml",), anything, 200)


def comparison(folder: Path) -> Seed:
    write_log(folder)
    text = CONFIG + (
        '\n[compare]\nobjectives = ["bce", "cold"]\nseeds = 1\nbaselines = ["random"]\n'
        '[compare.variants.cold]\nobjective.name = "lcron"\nobjective.temperature = 9.0\n'
        "[compare.grid.bce]\ntrain.learning_rate = [0.01]\n"
    )
    (folder / "config.toml").write_text(text)
    words = ("compare", "config.toml", "--run", "out/runs", *SHORT)
    return Seed((words,), ("config.toml",), anything, 80)


def arguments(folder: Path) -> Seed:
    """All commands but ``demo``, which takes long; their words are mutated, not files."""
    write_run(folder)
    long_table().write_csv(folder / "rows.csv")
    commands = (
        *prepare("long", "--from", "rows.csv", *LONG),
        *prepare("synthetic", "--set", "requests=8", "--set", "users=4", "--set", "items=100"),
        ("score", "run", "log", "--to", "out/scores.jsonl", "--item", "video", "--part", "all"),
        ("evaluate", "run", "log", "--target", "label", "--threshold", "1"),
        ("importance", "run", "log", "--repeats", "1", "--seed", "3"),
        ("init", "log", "--to", "out/first.toml"),
        ("init", "--list"),
        ("ls", "stages", "mlp"),
        ("train", "config.toml", "--run", "out/run", *SHORT),
        ("profile", "config.toml", "--seconds", "0.1", "--lists", "4"),
        (
            "compare",
            "config.toml",
            "--run",
            "out/runs",
            "--objectives",
            "bce",
            "--seeds",
            "1",
            *SHORT,
        ),
        (
            "heatmap",
            "config.toml",
            "--run",
            "out/runs",
            "--losses",
            "bce",
            "--m",
            "1",
            "--k",
            "1",
            *SHORT,
        ),
    )
    return Seed(commands, (), anything, 250)
