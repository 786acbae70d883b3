"""RecFlow from its files to a report, with the commands of the recipes."""

import json
import shlex
from pathlib import Path

import pytest
from tests.command_line import cascaderank, cascaderank_process
from tests.data.sources.recflow_files import write_days

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.settings.run import read_settings
from cascaderank.training.train_run import train_run

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = ["recflow_two_stage", "recflow_three_stage"]
SMALL = ["train.batch_size=32", "train.epochs=3", "evaluation.bootstrap=50"]


def commands(recipe):
    """The commands at the head of a recipe."""
    lines = (CONFIGS / f"{recipe}.toml").read_text().splitlines()
    return [line[1:].split() for line in lines if line.startswith("#   cascaderank ")]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_commands_of_a_recipe_work(recipe, tmp_path):
    write_days(tmp_path / "downloads/RecFlow", 5, 200, videos=3_000, ragged=False)
    (tmp_path / "configs").symlink_to(CONFIGS)
    prepare, train, compare = commands(recipe)
    done = cascaderank(*prepare[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert train[1:] == ["train", f"configs/{recipe}.toml"]
    assert compare[1:] == ["compare", f"configs/{recipe}.toml"]
    shrunk = [f"--set={change}" for change in SMALL]
    done = cascaderank(*train[1:], *shrunk, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "runs" / recipe / "report.json").read_text())
    assert report["test"]["metrics"]["joint_recall"]["mean"] > chance(recipe) + 0.1
    log = RequestLog.open(tmp_path / prepare[prepare.index("--to") + 1])
    assert report["test"]["requests"] == log.manifest.parts[-1].requests == 200


def chance(recipe):
    """Joint recall of a random order, with ten candidates per level."""
    settings = read_settings(CONFIGS / f"{recipe}.toml")
    return settings.quotas[-1] / (10 * (len(settings.stages) + 2))


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_the_settings_of_the_paper(recipe):
    settings = read_settings(CONFIGS / f"{recipe}.toml")
    stages = {2: (("two_tower", 30), ("din", 20)), 3: (("two_tower", 40), ("mlp", 30), ("din", 20))}
    found = tuple((s.model, s.quota) for s in settings.stages.values())
    assert found == stages[len(found)]
    assert settings.relevance.top == 10
    assert settings.data.history_length == 50
    assert settings.train.learning_rate == 1e-2
    assert (settings.train.batch_size, settings.train.epochs, settings.train.order) == (
        1024,
        1,
        "days",
    )
    assert (settings.data.split.by, settings.data.split.test_days) == ("day", 1)


def changes_to_as_published(recipe):
    """The changes at the head of a recipe, one per deviation."""
    lines = (CONFIGS / f"{recipe}.toml").read_text().splitlines()
    found = [shlex.split(line[1:])[1] for line in lines if line.startswith("#   --set ")]
    if recipe == "recflow_three_stage":
        assert len([c for c in found if "embedding_deviation" in c]) == 3
    return found


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_deviation_of_a_recipe_is_removed_by_the_change_in_its_header(recipe, tmp_path):
    changes = changes_to_as_published(recipe)
    before = read_settings(CONFIGS / f"{recipe}.toml")
    for change in changes:
        lines = before.differences(read_settings(CONFIGS / f"{recipe}.toml", [change]))
        assert len(lines) == 1, change
        assert lines[0].startswith(change.split("=")[0].removesuffix("data.target"))
    write_days(tmp_path / "RecFlow", 4, 60, videos=500, ragged=True)
    SOURCES["recflow"](tmp_path / "RecFlow", tmp_path / "log", stages=len(before.stages))
    own = [f'data.path="{(tmp_path / "log").as_posix()}"', *SMALL]
    settings = read_settings(CONFIGS / f"{recipe}.toml", [*changes, *own])
    result = train_run(settings, tmp_path / "run")
    assert result.validation is None
    assert result.test.metrics["joint_recall"].mean > chance(recipe)


def test_skipped_days_are_reported_on_stderr(tmp_path):
    folder = write_days(tmp_path / "RecFlow", 3, 5)
    (folder / "seq_effective_50_dict/2024-01-14.pkl").unlink()
    words = ["prepare", "recflow", "--from", folder, "--to", tmp_path / "log"]
    done = cascaderank(*words)
    assert done.returncode == 2
    assert "2024-01-14.pkl: no such file" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    # A process of its own: pytest takes what is logged in this one.
    done = cascaderank_process(*words, "--set", "skip_bad_days=true", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("skipped 2024-01-14: ")
    assert json.loads(done.stdout)["notes"]["days_left_out"] == ["2024-01-14"]
