"""The command ``cascaderank score``, and the page that describes it."""

import json
import re
from pathlib import Path

import polars as pl
import pytest
from tests.cli.test_commands import refused
from tests.command_line import cascaderank
from tests.data.shops import shop_frame, write_shop
from tests.runs.conftest import untrained

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "score.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder in which the commands of the page were run, and the output of the last."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "configs").symlink_to(ROOT / "configs")
    for command in "".join(blocks("bash")).splitlines():
        done = cascaderank(*command.split()[1:], cwd=folder)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    return folder, done


def test_the_commands_of_the_page_write_what_it_describes(place):
    folder, done = place
    columns = re.findall(
        r"^\| `(\w+(?:/STAGE)?)` \|", PAGE.partition("## Formats")[0], re.MULTILINE
    )
    stages = ("retrieval", "ranking")
    expected = [
        name.replace("STAGE", stage)
        for name in columns
        for stage in (stages if "STAGE" in name else stages[:1])
    ]
    assert pl.read_parquet(folder / "runs/scores.parquet").columns == expected
    assert pl.read_ndjson(folder / "runs/scores.jsonl").height == 300 * 40
    assert len((folder / "runs/final.run").read_text().splitlines()) == 60 * 20
    assert {p.name for p in (folder / "runs/vectors").iterdir()} == set(
        re.findall(r"^\| `(\w+\.(?:npy|parquet))`", PAGE, re.MULTILINE)
    )
    assert "requests: all of datasets/funnel" in done.stderr
    assert "item key: 'item_id' (recorded in the log)" in done.stderr
    assert "runs/scores.jsonl: 12,000 rows, 300 requests" in done.stdout
    assert "vectors of 'retrieval'" in done.stdout
    assert max(map(len, (done.stdout + done.stderr).splitlines())) <= 100


def test_the_python_of_the_page_runs(place, monkeypatch):
    monkeypatch.chdir(place[0])
    names = {}
    exec("\n".join(blocks("python")), names)
    assert len(names["best"]) == 10
    assert names["lists"]["rank"].max() == 5


@pytest.fixture
def shop(tmp_path):
    log = write_shop(tmp_path / "log", [shop_frame(9)])
    return untrained(tmp_path / "run", log), log.path


def test_json_describes_the_files(shop, tmp_path):
    to = tmp_path / "s.txt"
    words = ("score", *shop, "--part", "all", "--to", to, "--format", "trec", "--json")
    found = json.loads(cascaderank(*words).stdout)
    assert found["to"] == str(to)
    assert found["item_key"] == "position in the logged list, from 0"
    assert (found["part"], found["requests"], found["written"]) == ("all", 9, 9)
    assert found["candidates"] == 18
    assert "vectors" not in found


def test_mistakes_are_reported_in_one_line(shop, tmp_path):
    assert "set --to FILE, --vectors DIR or both" in refused("score", *shop)
    assert "must end with .parquet" in refused("score", *shop, "--to", "s.csv")
    assert "choose one with --item" in refused("score", *shop, "--vectors", tmp_path / "v")
    (tmp_path / "s.run").touch()
    assert "--overwrite" in refused("score", *shop, "--to", tmp_path / "s.run")
    assert "no such folder" in refused("score", tmp_path / "no", shop[1], "--to", "s.run")


def test_copies_that_a_trec_file_leaves_out_are_counted(tmp_path):
    same = pl.col("video").list.eval(pl.element().first().repeat_by(pl.len()).explode())
    log = write_shop(tmp_path / "log", [shop_frame(9).with_columns(same)])
    stages = {"only": {"model": "mlp", "quota": 3, "features": ["video", "price"]}}
    run = untrained(tmp_path / "run", log, stages)
    words = ("--part", "all", "--to", tmp_path / "s.run", "--item", "video")
    done = cascaderank("score", run, log.path, *words)
    assert "left out: 9 candidates of final lists" in done.stderr
    assert "9 rows, 9 requests" in done.stdout
