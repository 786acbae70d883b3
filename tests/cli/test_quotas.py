"""The command ``cascaderank quotas``."""

import json

import polars as pl
import pytest
from tests.cli.test_commands import cascaderank, refused

from cascaderank.runs.load import load_run
from cascaderank.settings.run import read_settings
from cascaderank.training.train_run import train_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    from cascaderank.data.sources import SOURCES
    from cascaderank.settings.run import check_settings

    root = tmp_path_factory.mktemp("quotas")
    SOURCES["synthetic"](None, root / "log", requests=240, users=50, items=200, seed=3)
    stages = {
        "retrieval": {"model": "two_tower", "quota": 30, "hidden": [8, 4]},
        "pre[red]ranking": {"model": "linear", "quota": 25},
        "ranking": {"model": "mlp", "quota": 20, "hidden": [8]},
    }
    settings = check_settings(
        {
            "data": {"path": str(root / "log"), "split": {"by": "request", "seed": 1}},
            "relevance": {"top": 10},
            "stages": stages,
            "objective": {"name": "lcron"},
            "train": {"epochs": 1, "batch_size": 32},
            "evaluation": {"bootstrap": 50},
        }
    )
    train_run(settings, root / "run")
    return root / "run"


def found(run, *words):
    done = cascaderank("quotas", run, *words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_tables_fit_and_have_all_parts(run):
    done = cascaderank("quotas", run)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "no progress bar if stderr is not a terminal"
    assert max(map(len, done.stdout.splitlines())) <= 80
    for words in ("present", "best", "30 25 20", "Without a stage", "uneven", "pre[red]ranking"):
        assert words in done.stdout
    json_ = found(run)
    assert json_["goal"]["value"] == json_["present"]["cost"]


def test_a_budget_and_a_recall_are_met(run):
    present = found(run)["present"]
    less = found(run, "--budget-products", present["cost"] * 0.97)
    assert less["best"]["cost"] <= present["cost"] * 0.97
    assert less["unit"] == "products"
    cheap = found(run, "--recall", less["best"]["recall"])
    assert cheap["best"]["recall"] >= less["best"]["recall"]
    assert cheap["best"]["cost"] == less["best"]["cost"]
    slow = found(run, "--budget-ms", 1000, "--seconds", 0.001)
    assert slow["unit"] == "ms"
    assert found(run, "--unit", "ms", "--seconds", 0.001)["unit"] == "ms"


def test_files_are_written_and_not_replaced(run, tmp_path):
    pytest.importorskip("matplotlib")
    config, drawn = tmp_path / "new.toml", tmp_path / "front.svg"
    rows = tmp_path / "front.parquet"
    words = ["quotas", run, "--write", config, "--plot", drawn, "--to", rows]
    done = cascaderank(*words)
    assert done.returncode == 0, done.stderr
    for name in ("config", "plot", "front"):
        assert f"wrote the {name} to" in done.stderr
    best = found(run)["best"]["quotas"]
    written = read_settings(config)
    assert list(written.quotas) == best
    settings = load_run(run).settings
    assert [line.partition(".quota")[1] for line in written.differences(settings)] == [
        ".quota" for a, b in zip(best, settings.quotas, strict=True) if a != b
    ]
    assert b"<svg" in drawn.read_bytes()
    assert pl.read_parquet(rows).filter(kind="best").height == 1
    before = config.read_bytes()
    assert f"{config} exists; choose another file, or add --overwrite" in refused(*words)
    assert config.read_bytes() == before
    assert cascaderank(*words, "--overwrite").returncode == 0
    csv = tmp_path / "front.csv"
    assert cascaderank("quotas", run, "--to", csv).returncode == 0
    assert csv.read_text().startswith("kind,quota/retrieval,quota/pre[red]ranking,")


def test_training_again_reports_before_and_after(run, tmp_path):
    done = cascaderank("quotas", run, "--retrain", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert "trained again" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    again = found(run, "--retrain", tmp_path / "again")["retrained"]
    report = json.loads((tmp_path / "again" / "report.json").read_text())
    recall = report["test"]["metrics"]["joint_recall"]["mean"]
    assert again["after"]["mean"] == pytest.approx(recall)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget-products", 0], "the budget must be positive and finite; got 0"),
        (["--budget-ms", -1], "the budget must be positive and finite; got -1"),
        (["--budget-ms", "nan"], "nan is not a finite number"),
        (["--budget-products", "inf"], "inf is not a finite number"),
        (["--recall", 1.2], "the recall must be above 0 and at most 1; got 1.2"),
        (["--recall", 0.5, "--budget-ms", 1], "got --budget-ms and --recall"),
        (["--budget-products", 1], "no quotas cost at most 1 multiply-adds per request; the cheapest"),
        (["--recall", 1], "no quotas have a recall of 1 on the validation requests; the highest"),
        (["--plot", "front.pdf"], "--plot: the name of the file must end with .png or .svg"),
        (["--to", "front.txt"], "--to: the name of the file must end with .csv or .parquet"),
        (["--values", 1], "--values"),
    ],
)  # fmt: skip
def test_mistakes_are_reported_in_one_line(run, words, message):
    assert message in refused("quotas", run, *words)


def test_a_run_folder_that_is_none(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no weights.safetensors" in refused("quotas", tmp_path / "empty")
    assert "no such folder" in refused("quotas", tmp_path / "nowhere")
