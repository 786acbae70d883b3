"""The commands ``cascaderank export`` and ``cascaderank verify``, and the page that describes them."""

import json
import re

import polars as pl
import pytest
from tests.command_line import cascaderank
from tests.data.shops import write_shop
from tests.pages import run_page
from tests.runs.conftest import untrained
from tests.serving.conftest import MARKET, STAGES, market_frame, market_items

from cascaderank.serving.bundle_files import read_bundle_manifest, write_bundle_manifest

RUN_EXPECTED = "log/manifest.json: expected the folder of a run, found a file"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a run and its bundle, and the output of the export."""
    folder = tmp_path_factory.mktemp("export")
    log = write_shop(folder / "log", [market_frame()], schema=MARKET, level_names=())
    untrained(folder / "run", log, STAGES, catalogue={"item": "video"})
    return folder, cascaderank("export", "run", "--to", "bundle", cwd=folder)


def test_the_page_runs(tmp_path):
    output = run_page("docs/serving.md", tmp_path, toml="funnel.toml")
    assert "bundle: equal for 60 golden requests, 2,400 candidates, 2,000 items" in output
    assert "retrieval: 2000 came, 30 left," in output


def test_export_states_what_the_bundle_needs(place):
    _, done = place
    assert done.returncode == 0
    assert done.stdout.startswith("bundle: ")
    assert "MiB, verified with 8 golden requests" in done.stdout
    assert "items: 30 by 'video', requests of" in done.stderr
    assert "stage 'ranking' reads features of request and item together" in done.stderr
    assert "candidates must be rows with distance" in done.stderr
    assert "values of 'video'" in done.stderr, "rare videos are out of vocabulary"


def test_export_as_json(place, tmp_path):
    folder, _ = place
    market_items(31).write_parquet(tmp_path / "items.parquet")
    options = ("--items", tmp_path / "items.parquet", "--golden", "3", "--name", "shop", "--json")
    done = cascaderank("export", "run", "--to", tmp_path / "bundle", *options, cwd=folder)
    content = json.loads(done.stdout)
    assert (content["name"], content["items"]["count"], content["golden"]) == ("shop", 31, 3)
    assert content["verification"]["equal"]


def test_export_prints_the_recall_of_an_index(place, tmp_path):
    folder, _ = place
    done = cascaderank("export", "run", "--to", tmp_path / "bundle", "--index", "hnsw", cwd=folder)
    assert done.returncode == 0, done.stderr
    pattern = r"index HNSW32: recall@8 (0\.\d{4}|1\.0000) against exact search, over 8 golden requests; [\d.]+ ms"
    assert re.search(pattern, done.stderr), done.stderr
    assert ", index, modules of training" in cascaderank("verify", tmp_path / "bundle").stdout
    done = cascaderank("export", "run", "--to", tmp_path / "b", "--index", "HSNW", cwd=folder)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "faiss cannot build index 'HSNW'" in done.stderr


def test_verify_prints_the_first_difference_and_exits_with_1(place, tmp_path):
    folder, _ = place
    done = cascaderank("verify", "bundle", cwd=folder)
    assert done.returncode == 0
    assert "bundle: equal for 8 golden requests" in done.stdout
    assert "Ranker, keys, Ranker, rows" in done.stdout
    frame = pl.read_parquet(folder / "bundle" / "golden.parquet")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (folder / "bundle").iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    frame.with_columns(pl.col("age") + 1).write_parquet(copy / "golden.parquet")
    done = cascaderank("verify", copy)
    assert done.returncode == 2, "the checksum differs"
    assert "golden.parquet: changed" in done.stderr
    write_bundle_manifest(copy, read_bundle_manifest(copy))
    done = cascaderank("verify", copy)
    assert (done.returncode, done.stdout) == (1, "")
    assert "modules of training: request 'r0" in done.stderr
    content = cascaderank("verify", copy, "--json")
    assert content.returncode == 1
    assert "expected the score" in json.loads(content.stdout)["difference"]


def test_mistakes_are_reported_in_one_line(place, tmp_path):
    folder, _ = place
    for words, message in [
        (("export", tmp_path / "none", "--to", tmp_path / "b"), "no such folder"),
        (("export", "run", "--to", "log"), "log: expected a bundle or an empty folder"),
        (("export", "run", "--to", tmp_path / "b", "--item", "vide"), "did you mean 'video'?"),
        (("export", "run", "--to", tmp_path / "b", "--latest", "x"), "no feature 'x'"),
        (("export", "log/manifest.json", "--to", tmp_path / "b"), RUN_EXPECTED),
        (("export", "run", "--to", "log/manifest.json"), "expected a folder, found a file"),
        (("verify", "log"), "expected a bundle, found no bundle.json"),
        (("verify", "run"), "found a run; write one with `cascaderank export run --to BUNDLE`"),
    ]:
        done = cascaderank(*words, cwd=folder)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert message in done.stderr
