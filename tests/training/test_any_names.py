"""Any text names features, stages and levels, from training to the tables of a comparison."""

import re

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import fit_schema
from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.experiments.compare import compare
from cascaderank.reports import (
    comparison_tables,
    importance_tables,
    report_tables,
    write_comparison,
    write_plot,
)
from cascaderank.runs.load import load_run
from cascaderank.runs.score_run import score_run
from cascaderank.schema import Schema
from cascaderank.settings.run import check_settings
from cascaderank.training.evaluate_run import evaluate_run, run_importance
from cascaderank.training.train_run import train_run

NUMBERS = ("user.age", "a", "b", "a,b", "a:b", "a b", "a_b", "a/b", "x|y")
CATEGORIES = ("type", "items", "values", "training", "user.city", "[red]", "ä", "x/y", "_a$b$")
STAGES = ("type", "v1.2", "[red]", "x/y", "p|p&q", "_a$b$")
LEVELS = ("a.b", "[red]", "type")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    rng = np.random.default_rng(0)
    features = [{"name": n, "role": "item", "kind": "numeric"} for n in NUMBERS]
    features += [
        {"name": n, "role": "item", "kind": "categorical", "vocabulary": ""} for n in CATEGORIES
    ]
    columns = {n: rng.normal(size=(24, 8)).round(3).tolist() for n in NUMBERS}
    columns |= {n: rng.integers(4, size=(24, 8)).tolist() for n in CATEGORIES}
    columns |= {
        "request_id": range(24),
        "level": rng.integers(3, size=(24, 8)).tolist(),
        "label": rng.integers(3, size=(24, 8)).tolist(),
    }
    schema = Schema(features=features)
    with RequestLogWriter(
        folder / "log", name="[red]", schema=schema, level_names=LEVELS
    ) as writer:
        writer.write(pl.DataFrame(columns))
    stages = {n: {"model": "linear", "quota": 7 - i} for i, n in enumerate(STAGES)}
    return check_settings(
        {
            "data": {
                "path": str(folder / "log"),
                "target": "label",
                "split": {"by": "request", "test": 0.4},
            },
            "relevance": {"top": 2},
            "stages": stages,
            "objective": {"name": "arf"},
            "train": {"epochs": 1, "batch_size": 16},
            "evaluation": {"bootstrap": 5, "metrics": ["ndcg@2"]},
        }
    )


@pytest.fixture(scope="module")
def run(settings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "run"
    return train_run(settings, folder), folder


def printed(*tables):
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(*tables)
    return captured.get()


def test_a_run_is_evaluated_as_it_was_trained(settings, run):
    trained, folder = run
    _, again = evaluate_run(folder, settings.data.path)
    assert again.to_json()["stages"] == trained.test.to_json()["stages"]
    assert tuple(again.stages) == STAGES
    assert {f"recall/{n}" for n in STAGES} <= again.per_request.keys()
    text = printed(*report_tables(again))
    assert all(name in text for name in STAGES)
    assert tuple(load_run(folder).cascade.stage_names) == STAGES


def test_importance_names_every_feature(settings, run):
    _, found = run_importance(run[1], settings.data.path, repeats=1)
    assert {(f.stage, f.feature) for f in found.features} == {
        (s, f) for s in STAGES for f in (*NUMBERS, *CATEGORIES)
    }
    text = printed(*importance_tables(found))
    assert all(name in text for name in (*NUMBERS, *CATEGORIES))


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_scores_have_a_column_of_each_stage(settings, run, tmp_path, suffix):
    file = tmp_path / f"scores.{suffix}"
    score_run(run[1], settings.data.path, to=file)
    frame = pl.read_parquet(file) if suffix == "parquet" else pl.read_ndjson(file)
    assert {f"score/{n}" for n in STAGES} <= set(frame.columns)
    assert set(frame["stage_reached"]) == set(STAGES)


def test_a_comparison_with_trees_writes_whole_tables(settings, tmp_path):
    pytest.importorskip("lightgbm")
    changed = settings.changed(
        {
            "compare": {
                "objectives": ["bce", "lightgbm_lambdarank"],
                "seeds": 1,
                "baselines": [],
                "grid": {"lightgbm_lambdarank": {"rounds": [3], "patience": [2]}},
            }
        }
    )
    found = compare(changed, tmp_path / "compared")
    text = printed(*comparison_tables(found))
    assert "[red]" in text
    write_comparison(found, tmp_path)
    write_plot(found, tmp_path)
    rows = [row for row in (tmp_path / "comparison.md").read_text().splitlines() if row[:1] == "|"]
    cells = [len(re.findall(r"(?<!\\)\|", row)) for row in rows]
    tables = [len(set(cells[i - 1 : i + 2])) for i, row in enumerate(rows) if "| :--" in row]
    assert tables
    assert set(tables) == {1}
    assert r"p\|p&q" in "".join(rows)
    written = (tmp_path / "comparison.tex").read_text()
    assert r"\_a\$b\$" in written
    assert r"p|p\&q" in written
    assert (tmp_path / "comparison.png").stat().st_size


def test_a_category_called_as_two_numbers_together_keeps_its_own_column(tmp_path):
    kinds = {"a": "numeric", "b": "numeric", "a,b": "categorical"}
    schema = Schema(features=[{"name": n, "role": "item", "kind": k} for n, k in kinds.items()])
    frame = pl.DataFrame({"request_id": [1], "a": [[1.0, 2.0]], "b": [[3.0, 5.0]], "a,b": [[7, 8]]})
    with RequestLogWriter(tmp_path / "log", name="log", schema=schema) as writer:
        writer.write(frame)
    log = RequestLog.open(tmp_path / "log")
    fitted = fit_schema(log.schema, log.frames())
    encoded = EncodedLog.build(log, fitted, target=None, folder=tmp_path / "columns")
    assert sorted(encoded.items["a,b"].tolist()) == [1, 2]
    assert len(set(encoded.items["a"].tolist())) == len(set(encoded.items["b"].tolist())) == 2
