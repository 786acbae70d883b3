"""Runs of a folder are listed with their figures; damaged ones are named and hide no other."""

import json

import pytest

from cascaderank.errors import ConfigError, RunError
from cascaderank.runs.listing import list_runs
from cascaderank.runs.load import load_run
from tests.command_line import cascaderank


def write(folder, *, objective="bce", data="shop", recall=0.5, steps=100, started="2026-01-01"):
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(f'[objective]\nname = "{objective}"\n')
    environment = {"started": f"{started}T10:20:30+00:00", "dataset": {"name": data}}
    (folder / "environment.json").write_text(json.dumps(environment))
    if recall is not None:
        joint = {"mean": recall, "low": recall - 0.1, "high": recall + 0.1}
        report = {
            "training": {"validation": recall + 0.01, "steps": steps},
            "test": {"metrics": {"joint_recall": joint}},
        }
        (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def runs(tmp_path):
    root = tmp_path / "runs"
    write(root / "a", recall=0.5, steps=300)
    write(root / "comparison" / "lcron" / "seed-0", objective="lcron", recall=0.8, steps=200)
    write(root / "z", data="films", recall=None, started="2026-02-01")
    write(root / "bad")
    (root / "bad" / "report.json").write_text('{"training": {}}')
    write(root / "worse")
    (root / "worse" / "config.toml").write_text("[objective")
    (root / "other").mkdir()
    (root / "other" / "config.toml").write_text("")  # no run
    return root


def names(listing):
    return [run.name for run in listing.runs]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["z", "a", "comparison/lcron/seed-0"]),
        ({"sort": "recall"}, ["comparison/lcron/seed-0", "a", "z"]),
        ({"sort": "steps"}, ["a", "comparison/lcron/seed-0", "z"]),
        ({"sort": "name"}, ["a", "comparison/lcron/seed-0", "z"]),
        ({"where": ["LCRON"]}, ["comparison/lcron/seed-0"]),
        ({"where": ["data=shop", "objective=bce"]}, ["a"]),
        ({"where": ["films"]}, ["z"]),
        ({"where": ["recall=0.8"]}, ["comparison/lcron/seed-0"]),
        ({"where": ["nothing"]}, []),
    ],
)
def test_runs_are_sorted_and_selected(runs, options, expected):
    listing = list_runs(runs, **options)
    assert names(listing) == expected
    assert set(listing.damaged) == {"bad", "worse"}


def test_figures_are_those_of_the_report(runs):
    (run,) = list_runs(runs, where=["name=a"]).runs
    assert (run.validation, run.recall, run.low, run.steps) == (0.51, 0.5, 0.4, 300)
    assert (run.data, run.objective, run.complete) == ("shop", "bce", True)
    assert list_runs(runs / "a").runs[0].name == "a"


def test_a_trained_run_is_listed(funnel, settings_for, tmp_path):
    from cascaderank.training.train_run import train_run

    result = train_run(settings_for(funnel, train__epochs=1), tmp_path / "run")
    (run,) = list_runs(tmp_path).runs
    recall = result.test.metrics["joint_recall"]
    assert (run.recall, run.low, run.high) == (recall.mean, recall.low, recall.high)
    assert (run.validation, run.objective, run.steps) == (result.validation, "lcron", 6)


def test_a_folder_of_runs_is_no_run(runs):
    with pytest.raises(RunError, match=r"expected the folder of a run, found runs in it: .*seed-0"):
        load_run(runs)


def test_wrong_names_are_refused(runs, tmp_path):
    with pytest.raises(ConfigError, match=r"--sort: no column 'recal' \(did you mean 'recall'"):
        list_runs(runs, sort="recal")
    with pytest.raises(ConfigError, match=r"--where: no column 'dat' \(did you mean 'date'"):
        list_runs(runs, where=["dat=shop"])
    with pytest.raises(RunError, match="no such folder"):
        list_runs(tmp_path / "none")


def test_the_command(runs):
    shown = cascaderank("ls", "runs", runs)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0].strip() == "3 runs"
    assert all(len(line) <= 80 for line in lines)
    assert ".800 [.700, .900]" in shown.stdout
    assert "bad: damaged: " in shown.stdout
    by_default = cascaderank("ls", "runs", "--json", "--sort", "name", cwd=runs.parent)
    assert json.loads(by_default.stdout)["runs"][0]["name"] == "a"
    misplaced = cascaderank("ls", "losses", "--sort", "name")
    assert misplaced.returncode == 2
    assert "--sort and --where apply to runs" in misplaced.stderr


def test_paths_and_times_are_whole_in_80_columns(tmp_path):
    long = "grid/lcron/learning_rate=0.003_temperature=50.0/fold-0"
    write(tmp_path / long / "seed-0", objective="conditional_survival", started="2026-03-04")
    write(tmp_path / long / ("of many words " * 3) / "seed-1", recall=None)
    done = cascaderank("ls", "runs", tmp_path)
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    assert "val., test: joint recall of the validation and the test requests" in done.stdout
    assert f"{long}/seed-0" in lines
    assert f"{long}/" in lines, "a path longer than a line is folded behind a slash"
    assert lines[lines.index(f"{long}/seed-0") + 1].split(maxsplit=4) == [
        "shop", "conditional_survival", ".510", ".500", "[.400, .600]      100 03-04 10:20"
    ]  # fmt: skip
