"""``cascaderank init``: recipes of the package, and one-line errors."""

import json
import tomllib
from pathlib import Path

import pytest
from tests.command_line import cascaderank
from tests.conftest import ROOT

from cascaderank.settings.recipes import recipe, recipes
from cascaderank.settings.run import read_settings

CONFIGS = ROOT / "configs"


def refused(*words, cwd=None):
    done = cascaderank("init", *words, cwd=cwd)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_every_config_of_the_repository_is_a_recipe_with_a_summary():
    paths = [
        path.relative_to(CONFIGS).with_suffix("").as_posix() for path in CONFIGS.rglob("*.toml")
    ]
    assert sorted(paths) == list(recipes())
    assert all(20 < len(text) < 200 and text.endswith(".") for text in recipes().values())
    listed = json.loads(cascaderank("init", "--list", "--json").stdout)
    assert listed == recipes()
    table = cascaderank("init", "--list").stdout
    assert "funnel_two_stage" in table
    assert max(map(len, table.splitlines())) <= 100


def test_a_recipe_is_written_where_the_documentation_expects_it(tmp_path):
    done = cascaderank("init", "--recipe", "funnel_two_stage", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "configs" / "funnel_two_stage.toml").read_text()
    assert text == (CONFIGS / "funnel_two_stage.toml").read_text()


def test_a_recipe_in_another_file_names_this_file_in_its_commands(tmp_path):
    to = tmp_path / "mine.toml"
    assert (
        cascaderank("init", "--recipe", "simulation/funnel", "--to", to, "--json").returncode == 0
    )
    assert f"cascaderank simulate {to} --to" in to.read_text()
    assert "configs/simulation/funnel.toml" not in to.read_text()


def test_a_recipe_for_a_data_set_has_its_path(funnel, tmp_path):
    to = tmp_path / "mine.toml"
    done = cascaderank("init", funnel, "--recipe", "funnel_two_stage", "--to", to)
    assert done.returncode == 0, done.stderr
    settings = read_settings(to)
    assert settings.data.path == funnel
    assert settings.changed({"data.path": "datasets/funnel"}) == read_settings(
        CONFIGS / "funnel_two_stage.toml"
    )
    assert "no feature 'f?'" in refused(
        funnel, "--recipe", "clueweb09_two_stage", "--to", tmp_path / "other.toml"
    )
    assert not (tmp_path / "other.toml").exists()


@pytest.mark.parametrize("name", list(recipes()))
def test_the_path_of_every_recipe_can_be_replaced(name):
    assert tomllib.loads(recipe(name, dataset='my "logs"/a'))["data"]["path"] == 'my "logs"/a'


def test_a_config_has_the_name_of_its_data_set(funnel, tmp_path):
    assert cascaderank("init", funnel, cwd=tmp_path).returncode == 0
    assert read_settings(tmp_path / "configs" / "funnel.toml").data.path == funnel


def test_a_file_is_replaced_only_with_overwrite(funnel, tmp_path):
    to = tmp_path / "mine.toml"
    to.write_text("# by hand")
    assert f"{to} exists; choose another file, or add --overwrite" in refused(funnel, "--to", to)
    assert to.read_text() == "# by hand"
    assert cascaderank("init", funnel, "--to", to, "--overwrite").returncode == 0
    assert read_settings(to).data.path == funnel


def test_mistakes_are_reported_in_one_line(funnel, tmp_path):
    assert "--recipe NAME or --list, found none" in refused()
    assert "(did you mean 'funnel_two_stage'?)" in refused("--recipe", "funel_two_stage")
    assert "no such folder" in refused(tmp_path / "nothing")
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(funnel, "--to", tmp_path / "file" / "mine.toml")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_the_package_has_the_recipes_where_they_are_looked_for():
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"][
        "targets"
    ]
    assert wheel["wheel"]["force-include"] == {"configs": "cascaderank/recipes"}
    assert Path(CONFIGS).is_dir()


def test_ls_lists_and_prints_recipes():
    assert json.loads(cascaderank("ls", "recipes", "--json").stdout) == {"recipes": recipes()}
    shown = cascaderank("ls", "recipes", "funnel_two_stage").stdout
    assert shown == recipe("funnel_two_stage")
