"""Every command refuses, in one line, what is no regular file and paths that cannot be used."""

import os
import shutil
import subprocess
import sys

import pytest
from tests.bad_paths import IMPOSSIBLE, IMPOSSIBLE_MESSAGE, NOT_REGULAR
from tests.command_line import cascaderank

from cascaderank.data.sources import SOURCES
from cascaderank.settings.choices import ObjectiveSettings
from cascaderank.settings.run import check_settings
from cascaderank.training.train_run import train_run

pytestmark = pytest.mark.timeout(60)

P = "{path}"
QUICK = ["--lists", "5", "--batch", "1", "--seconds", "0.001"]

READS = {
    "prepare --from": ["prepare", "long", "--from", P, "--to", "{out}"],
    "prepare --dry-run": ["prepare", "long", "--from", P, "--dry-run"],
    "prepare --options": ["prepare", "long", "--from", "{rows}", "--to", "{out}", "--options", P],
    "prepare schema": ["prepare", "long", "--from", "{rows}", "--to", "{out}", "--set", f"schema={P}"],
    "init": ["init", P, "--to", "{out}"],
    "train": ["train", P, "--run", "{out}"],
    "train data.path": ["train", "{config}", "--run", "{out}", "--set", f"data.path={P}"],
    "train train.start": ["train", "{config}", "--run", "{out}", "--set", f"train.start={P}"],
    "compare": ["compare", P, "--run", "{out}"],
    "heatmap": ["heatmap", P, "--run", "{out}"],
    "simulate": ["simulate", P, "--to", "{out}", "--runs", "{out}"],
    "evaluate RUN": ["evaluate", P, "{log}"],
    "evaluate DATASET": ["evaluate", "{run}", P],
    "evaluate --catalogue": ["evaluate", "{run}", P, "--catalogue"],
    "importance RUN": ["importance", P, "{log}"],
    "importance DATASET": ["importance", "{run}", P],
    "explain RUN": ["explain", P, "--lost"],
    "explain DATASET": ["explain", "{run}", P, "--lost"],
    "explain --request": ["explain", "{run}", P, "--request", "1"],
    "score RUN": ["score", P, "{log}", "--to", "{out}.parquet"],
    "score DATASET": ["score", "{run}", P, "--to", "{out}.parquet"],
    "profile": ["profile", P, *QUICK],
    "quotas RUN": ["quotas", P],
    "quotas DATASET": ["quotas", "{two}", P],
    "report RUN": ["report", P, "--to", "{out}"],
    "report --data": ["report", "{run}", "--to", "{out}", "--data", P],
    "prune": ["prune", P, "--to", "{out}"],
    "fields": ["fields", P, "--to", "{out}"],
    "export RUN": ["export", P, "--to", "{out}"],
    "export --dataset": ["export", "{run}", "--to", "{out}", "--dataset", P],
    "export --items": ["export", "{run}", "--to", "{out}", "--items", P],
    "verify": ["verify", P],
}  # fmt: skip
"""Commands with a path that they read."""

WRITES = {
    "prepare --to": ["prepare", "synthetic", "--to", P, "--set", "requests=100"],
    "init --to": ["init", "{log}", "--to", P],
    "train --run": ["train", "{config}", "--run", P],
    "compare --run": ["compare", "{config}", "--run", P],
    "heatmap --run": ["heatmap", "{config}", "--run", P],
    "simulate --to": ["simulate", "{rows}", "--to", P],
    "simulate --runs": ["simulate", "{rows}", "--to", "{out}", "--runs", P],
    "score --to": ["score", "{run}", "{log}", "--to", P, "--format", "jsonl"],
    "explain --to": ["explain", "{run}", "{log}", "--lost", "--to", P],
    "score --vectors": ["score", "{run}", "{log}", "--vectors", P],
    "profile --plot": ["profile", "{run}", *QUICK, "--plot", P],
    "quotas --write": ["quotas", "{two}", "--write", P],
    "quotas --retrain": ["quotas", "{two}", "--retrain", P],
    "report --to": ["report", "{run}", "--to", P, "--no-data"],
    "report --pictures": ["report", "{run}", "--to", "{out}", "--no-data", "--pictures", P],
    "prune --to": ["prune", "{run}", "--to", P],
    "fields --to": ["fields", "{run}", "--to", P],
    "demo --run": ["demo", "--run", P],
    "export --to": ["export", "{run}", "--to", P],
}
"""Commands with a path that they write."""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Paths of a valid data set, runs with one and two stages, config and table, by name."""
    root = tmp_path_factory.mktemp("given")
    SOURCES["synthetic"](None, root / "log", requests=100, users=20, items=100, seed=3)
    settings = check_settings(
        {
            "data": {"path": str(root / "log"), "split": {"by": "request"}},
            "relevance": {"top": 10},
            "stages": {"ranking": {"model": "linear", "quota": 20}},
            "objective": {"name": "ranknet"},
            "train": {"epochs": 1, "batch_size": 50},
            "evaluation": {"bootstrap": 10},
        }
    )
    (root / "config.toml").write_text(settings.to_toml())
    train_run(settings, root / "run")
    (root / "rows.csv").write_text("request_id,item,label\n1,5,1\n1,6,0\n")
    stages = {n: {"model": "linear", "quota": 20} for n in ("first", "second")}
    two = settings.model_copy(update={"objective": ObjectiveSettings()})
    train_run(check_settings({**two.of_run(), "stages": stages}), root / "two")
    return {
        "two": root / "two",
        "log": root / "log",
        "run": root / "run",
        "config": root / "config.toml",
        "rows": root / "rows.csv",
    }


def refusal(words, given, path, out):
    """Run a command, and return the single line of its refusal."""
    names = {name: str(p) for name, p in given.items()} | {"path": str(path), "out": str(out)}
    done = cascaderank(*(word.format(**names) for word in words), cwd=out.parent)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "[Errno" not in line
    return line


@pytest.mark.parametrize("kind", NOT_REGULAR)
@pytest.mark.parametrize("command", READS)
def test_what_is_no_file_and_no_folder_is_not_read(given, tmp_path, command, kind):
    path = tmp_path / "given"
    NOT_REGULAR[kind](path)
    line = refusal(READS[command], given, path, tmp_path / "out")
    assert str(path) in line
    assert not (tmp_path / "out").exists() or "train" in command


@pytest.mark.parametrize("kind", ["pipe", "socket", "empty device", "link to itself"])
@pytest.mark.parametrize("command", [c for c in WRITES if c not in ("simulate --to", "simulate --runs")])  # fmt: skip
def test_what_is_no_file_and_no_folder_is_not_written(given, tmp_path, command, kind):
    path = tmp_path / "given"
    NOT_REGULAR[kind](path)
    before = path.lstat().st_ino
    words = WRITES[command]
    if command == "demo --run":  # says first what it does
        words = ["demo", "--run", P, "--set", "nothing=1"] if kind != "link to itself" else words
    refusal(words, given, path, tmp_path / "out")
    assert path.lstat().st_ino == before


@pytest.mark.parametrize("kind", IMPOSSIBLE)
@pytest.mark.parametrize("command", READS | WRITES)
def test_a_path_that_cannot_be_used_is_named_in_one_line(given, tmp_path, command, kind):
    if kind == "NUL byte":  # cannot be in an argument
        return
    path = IMPOSSIBLE[kind](tmp_path)
    line = refusal((READS | WRITES)[command], given, path, tmp_path / "out")
    told = IMPOSSIBLE_MESSAGE + "|expected words in UTF-8|missing setting|No such file|a folder"
    assert any(text in line for text in told.split("|")), line
    line.encode()


IN_RUNS = ["config.toml", "schema.json", "metrics.jsonl", "weights.safetensors", "report.json",
           "environment.json", "per_request.parquet", "checksums.sha256"]  # fmt: skip
OF_RUNS = [
    "evaluate RUN",
    "importance RUN",
    "explain RUN",
    "score RUN",
    "report RUN",
    "profile",
    "prune",
    "fields",
    "export RUN",
]


@pytest.mark.parametrize("kind", ["pipe", "endless device", "folder", "link to itself"])
@pytest.mark.parametrize("name", IN_RUNS)
@pytest.mark.parametrize("command", [*OF_RUNS, "train"])
def test_files_of_a_run_are_regular(given, tmp_path, command, name, kind):
    shutil.copytree(given["run"], tmp_path / "copy")
    path = tmp_path / "copy" / name
    path.unlink()
    NOT_REGULAR[kind](path)
    words = READS[command] if command != "train" else ["train", "{config}", "--run", P]
    line = refusal(words, given, tmp_path / "copy", tmp_path / "out")
    assert str(path.parent) in line


@pytest.mark.parametrize("words", [["ls", ""], ["ls", "--json", ""], ["train", "a", "--run="]])
def test_an_empty_argument_is_refused(words):
    done = cascaderank(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected a value, found an empty one" in done.stderr


def test_no_permission_is_an_error_of_the_user(given, tmp_path, monkeypatch):
    """As root, the tests can look into every folder."""

    def refuse(path, *_, **__):
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr("pathlib.Path.stat", refuse)
    for command, words in (READS | WRITES).items():
        if "{path}" in words:
            line = refusal(words, given, given["log"], tmp_path / "out")
            assert line.endswith(": cannot be used: Permission denied"), command


def test_a_working_folder_that_was_removed_is_named(tmp_path):
    run = "import os, sys; os.chdir('gone'); os.rmdir('../gone'); from cascaderank.cli import main; main()"

    def done(*words):
        (tmp_path / "gone").mkdir()
        command = [sys.executable, "-c", run, *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)

    profile = done("profile", "run")
    assert profile.returncode == 2
    assert profile.stderr == (
        "cascaderank profile: the working folder cannot be found: No such file or directory; "
        "change to another folder\n"
    )
    version = done("--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("cascaderank ")
