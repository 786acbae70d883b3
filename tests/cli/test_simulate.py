"""The command ``cascaderank simulate``, and the recipes of simulations."""

import json
import re
import shlex

import pytest
from tests.conftest import ROOT
from tests.data.sources.short_videos import rand_exposures, rand_videos, users, write_rand
from typer.testing import CliRunner

from cascaderank.cli import app
from cascaderank.data.sources import SOURCES
from cascaderank.settings.files import read_as
from cascaderank.settings.run import read_settings
from cascaderank.simulation.simulation_settings import SimulationSettings

RECIPES = sorted((ROOT / "configs" / "simulation").glob("*.toml"))
SMALL = [
    "funnel.candidates=20", "funnel.pool=3", "funnel.requests=1", "train.epochs=1",
    "stages.prerank.keep=8", "stages.prerank.negatives=6", "stages.prerank.hidden=[4]",
    "stages.rank.keep=4", "stages.rank.negatives=2", "stages.rank.hidden=[4]",
]  # fmt: skip


def call(*words):
    return CliRunner().invoke(app, list(map(str, words)), prog_name="cascaderank")


def changes(*settings):
    return [word for change in settings for word in ("--set", change)]


@pytest.fixture(scope="module")
def kuairand(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kuairand")
    exposures = rand_exposures(2, rows=300, user_ids=list(range(1, 9)), video_ids=range(60))
    people, videos = users(list(range(1, 9))), rand_videos(range(60))
    write_rand(folder / "files", exposures, people=people, videos=videos)
    SOURCES["kuairand"]((folder / "files",), folder / "log", history_length=3)
    return folder / "log"


def test_a_simulation_is_written_and_told(kuairand, tmp_path):
    config, to = ROOT / "configs/simulation/kuairand.toml", tmp_path / "simulated"
    small = [*SMALL, "funnel.users=6", "truth.hidden=[4]", "data.split.test_days=1"]
    words = ["simulate", config, "--to", to, "--runs", tmp_path / "runs"]
    words += changes(*small, f"data.path={kuairand}")
    done = call(*words, "--json")
    assert done.exit_code == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["requests"] == 18
    assert summary["simulation"]["kind"] == "semi-synthetic"
    trained = {path.parent.name for path in (tmp_path / "runs").glob("*/weights.safetensors")}
    assert trained == {"prerank", "rank", "truth"}
    again = call(*words)
    assert again.exit_code == 2
    assert "add --overwrite" in again.stderr
    table = call(*words, "--overwrite")
    assert table.exit_code == 0, table.stderr
    assert "simulated (semi-synthetic)" in table.stdout
    assert "teacher truth" in table.stdout


def test_a_mistake_is_one_line(kuairand, tmp_path):
    config = ROOT / "configs/simulation/kuairand.toml"
    done = call("simulate", config, "--to", tmp_path / "log", *changes("stages.rank.keep=201"))
    assert done.exit_code == 2
    assert "stages.rank: keep + negatives must be at most the 200 candidates" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_of_a_simulation_has_its_command_and_expected_results(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    header = [line[1:].strip() for line in lines[: lines.index("")]]
    assert any(line.startswith("Expect: ") for line in header)
    commands = [shlex.split(line) for line in header if line.startswith("cascaderank ")]
    (own,) = [c for c in commands if c[1] == "simulate"]
    assert own[2] == str(path.relative_to(ROOT))
    prepared = [c[c.index("--to") + 1] for c in commands if c[1] == "prepare"]
    settings = read_as(SimulationSettings, path)
    assert {str(p) for p in (settings.data.path, *settings.truth.paths)} == set(prepared)


@pytest.mark.parametrize(
    "path", [p for p in RECIPES if not p.stem.endswith("_chain")], ids=lambda p: p.stem
)
def test_a_run_recipe_trains_on_the_simulated_data_set(path):
    run = ROOT / "configs" / f"simulated_{path.stem}.toml"
    lines = run.read_text(encoding="utf-8").splitlines()
    made = [shlex.split(line[1:]) for line in lines if "cascaderank simulate" in line]
    settings, simulation = read_settings(run), read_as(SimulationSettings, path)
    assert made[0][2] == str(path.relative_to(ROOT))
    assert made[0][made[0].index("--to") + 1] == str(settings.data.path)
    assert settings.data.split.by == "given"
    top = len(simulation.as_funnel().level_names) - 1
    assert (settings.data.target, settings.relevance.threshold) == ("level", top)


TINY = {
    "prepare": ["requests=240", "users=16", "items=500"],
    "simulate": ["funnel.requests=1", "train.epochs=1"],
    "compare": ["train.epochs=1", "evaluation.bootstrap=2"],
}
"""Additional settings of the commands on the page, which make them fast."""


def test_the_commands_on_the_page_of_simulations_work(tmp_path, monkeypatch):
    page = (ROOT / "docs" / "simulation.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if "kuairand" not in line]
    assert [line.split()[1] for line in lines] == ["prepare", "simulate", "compare", "evaluate"]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        words = shlex.split(line)[1:]
        done = call(*words, *changes(*TINY.get(words[0], [])))
        assert done.exit_code == 0, f"{line}\n{done.stderr}"
        assert done.stdout, line
    comparison = tmp_path / "runs/simulated_funnel-compare/comparison.json"
    methods = json.loads(comparison.read_text())["methods"]
    assert {"bce", "lcron"} < {method["name"] for method in methods}
    pytest.importorskip("matplotlib")
    for picture in re.findall(r"`(runs/\S+\.png)`", page):
        assert (tmp_path / picture).is_file(), "the page refers to the file"
