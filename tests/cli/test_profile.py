"""The command ``cascaderank profile``."""

import json

import pytest
from tests.cli.test_commands import cascaderank, refused

from cascaderank.training.train_run import train_run


@pytest.fixture
def run(funnel, settings_for, tmp_path):
    train_run(settings_for(funnel, train__epochs=1), tmp_path / "run")
    return tmp_path / "run"


QUICK = ("--lists", "5,40", "--batch", 2, "--seconds", 0.001)


def test_a_run_is_profiled(run):
    done = cascaderank("profile", run, *QUICK)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    for word in ("retrieval", "TwoTower", "ranking", "MLP", "p99", "look-ups"):
        assert word in done.stdout


def test_several_runs_are_compared_and_plotted(run, tmp_path):
    pytest.importorskip("matplotlib")
    other = tmp_path / "other"
    other.symlink_to(run)
    drawn = tmp_path / "drawn.png"
    done = cascaderank("profile", run, other, *QUICK, "--plot", drawn, "--json")
    found = json.loads(done.stdout)["runs"]
    assert [of["run"] for of in found] == [str(run), str(other)]
    report = json.loads((run / "report.json").read_text())
    for of in found:
        assert of["joint_recall"] == report["test"]["metrics"]["joint_recall"]["mean"]
        assert {n: s["parameters"] for n, s in of["stages"].items()} == report["parameters"]
        assert [w["candidates"] for w in of["walks"]] == [5, 40]
        assert of["history"] == 50
    assert drawn.read_bytes().startswith(b"\x89PNG")
    before = drawn.read_bytes()
    refused = cascaderank("profile", run, *QUICK, "--plot", drawn)
    assert (refused.returncode, drawn.read_bytes()) == (2, before)
    assert f"{drawn} exists; choose another file, or add --overwrite" in refused.stderr
    table = cascaderank("profile", run, other, *QUICK, "--plot", drawn, "--overwrite")
    assert "Recall and cost" in table.stdout
    assert "cannot be written" in cascaderank(
        "profile", run, other, *QUICK, "--plot", tmp_path / "other" / "report.json" / "a.png"
    ).stderr  # fmt: skip


def test_no_plot_is_written_by_default(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert cascaderank("profile", run, run, *QUICK).returncode == 0
    assert sorted(tmp_path.rglob("*")) == before


def test_mistakes_are_reported_in_one_line(tmp_path, run):
    (tmp_path / "empty").mkdir()
    assert "no weights.safetensors" in refused("profile", tmp_path / "empty")
    assert "no such folder" in refused("profile", tmp_path / "nowhere")
    assert "--lists takes integers" in refused("profile", run, "--lists", "ten")
    assert "from 1 to" in refused("profile", run, "--lists", "0")
