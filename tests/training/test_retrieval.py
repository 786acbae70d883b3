"""A run with sampled candidates and a search of all items, from settings to report."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

from cascaderank.cli import app
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError
from cascaderank.evaluation import exact_search
from cascaderank.runs.data import run_data
from cascaderank.runs.load import load_run
from cascaderank.settings.run import check_settings
from cascaderank.training.evaluate_run import evaluate_run_catalogue
from cascaderank.training.retrieval import ItemRetrieval
from cascaderank.training.train_run import train_run
from tests.cli.test_commands import cascaderank, refused


def settings(log, **changes):
    plain = check_settings(
        {
            "data": {"path": str(log), "target": {"z": [0, 1, 2, 3]}},
            "relevance": {"threshold": 3},
            "stages": {
                "retrieval": {
                    "model": "matrix_factorisation",
                    "quota": 20,
                    "features": ["user_id", "item_id", "category", "quality"],
                    "dim": 8,
                }
            },
            "objective": {"name": "fs_lambdarank"},
            "train": {
                "epochs": 2,
                "batch_size": 32,
                "candidates": {
                    "levels": {"rank_pos": 2, "rank_neg": 2, "coarse_neg": 1},
                    "pool": 3,
                },
            },
            "catalogue": {"item": "item_id", "user": "user_id", "cutoffs": [5, 20]},
            "evaluation": {"bootstrap": 20},
        }
    )
    return plain.changed({k.replace("__", "."): v for k, v in changes.items()})


@pytest.fixture(scope="module")
def run(funnel, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return folder, train_run(settings(funnel), folder)


def test_training_candidates_are_sampled_as_the_settings_require(funnel):
    with run_data(settings(funnel)) as data:
        drawn = (
            ItemRetrieval(settings(funnel), data, torch.device("cpu"))
            .sampler()
            .draw(data.split.train[:50], 0)
        )
    logged = drawn.lengths - np.add.reduceat(drawn.random, np.cumsum(drawn.lengths) - drawn.lengths)
    assert logged.tolist() == [5] * 50
    assert 100 < drawn.random.sum() <= 150


def test_a_run_reports_its_search_and_evaluate_says_the_same(run, funnel):
    folder, result = run
    report = json.loads((folder / "report.json").read_text())["catalogue"]
    assert list(report["metrics"]) == [
        f"{metric}@{m}" for m in (5, 20) for metric in ("hit_rate", "ndcg", "recall", "precision")
    ]
    part, found = evaluate_run_catalogue(folder, funnel)
    assert part == "test"
    assert found.to_json() == report
    values = pl.read_parquet(folder / "per_request.parquet")["catalogue/recall@20"]
    assert values.mean() == pytest.approx(report["metrics"]["recall@20"]["mean"])
    again = train_run(settings(funnel), folder)  # complete, so that the result is read
    same = again.test.per_request["catalogue/recall@20"]
    assert np.array_equal(same, result.test.per_request["catalogue/recall@20"], equal_nan=True)


@pytest.mark.parametrize("leaves_out", [None, 2])
def test_the_search_ranks_all_items_but_those_of_the_user_in_training(
    run, funnel, tmp_path, leaves_out
):
    """Compared with plain Python on the log, by item ids."""
    folder, _ = run
    if leaves_out is not None:
        folder = tmp_path / "run"
        train_run(settings(funnel, catalogue__leaves_out=leaves_out, train__epochs=1), folder)
    known = 3 if leaves_out is None else leaves_out
    trained = load_run(folder)
    cascade, schema = trained.cascade, trained.schema
    _, found = evaluate_run_catalogue(folder, funnel)
    with run_data(trained.settings) as data:
        split = data.split
        frame = pl.concat(list(data.log.frames(["user_id", "item_id", "level"])))
        codes = {v: i + 1 for i, v in enumerate(schema.vocabularies["item_id"])}
        liked = {}
        for user, items, levels in frame[split.train].iter_rows():
            liked.setdefault(user, set()).update(
                codes[i] for i, level in zip(items, levels, strict=True) if level >= known
            )
        encoded = data.encoded
        of = {c: k for k, c in reversed(list(enumerate(encoded.items["item_id"].tolist())))}
        everything = sorted(c for c in of if c > 0)
        at = torch.tensor([of[c] for c in everything])
        from cascaderank.batch import RequestBatch
        from cascaderank.data.loading.loader import RequestLoader

        items = {
            n: torch.from_numpy(np.array(v))[at][None].to(
                torch.float32 if v.dtype.kind == "f" else torch.int64
            )
            for n, v in encoded.items.items()
        }
        recalls = []
        (batch,) = RequestLoader(encoded, split.test, batch_size=999).epoch(0)
        with torch.no_grad():
            stage = cascade.stages["retrieval"]
            of_items = stage.item_vectors(
                RequestBatch(mask=torch.ones(1, len(at), dtype=torch.bool), items=items)
            )[0]
            scores = stage.request_vectors(batch) @ of_items.T
        for row, (user, ids, levels) in enumerate(frame[split.test].iter_rows()):
            own = {codes.get(i, -i) for i, x in zip(ids, levels, strict=True) if x == 3}
            order = sorted((-s, c) for s, c in zip(scores[row].tolist(), everything, strict=True))
            left = [c for _, c in order if c in own or c not in liked.get(user, set())]
            recalls.append(len(own & set(left[:20])) / len(own))
    np.testing.assert_allclose(found.per_request["recall@20"], recalls, atol=1e-12)
    assert 0 < np.mean(recalls) < 1


def test_the_validation_metric_depends_on_the_excluded_items(funnel, tmp_path):
    changes = {"catalogue__decides": "recall@20", "train__epochs": 1}
    found = []
    for leaves_out in (None, 2, 0):
        changed = settings(funnel, catalogue__leaves_out=leaves_out, **changes)
        found.append(train_run(changed, tmp_path / str(leaves_out)).validation)
    assert len(set(found)) == 3


def test_excluding_items_needs_a_user(funnel):
    with pytest.raises(ConfigError, match="leaves_out needs user"):
        settings(funnel, catalogue={"item": "item_id", "leaves_out": 2})


def test_an_index_is_as_good_as_its_recall(run, funnel):
    folder, _ = run
    _, exact = evaluate_run_catalogue(folder, funnel)
    _, flat = evaluate_run_catalogue(folder, funnel, index="Flat")
    _, graph = evaluate_run_catalogue(folder, funnel, index="HNSW16")
    assert flat.index_recall > 0.99  # sums may be rounded differently
    assert 0.9 < graph.index_recall <= 1
    for name, summary in exact.metrics.items():
        assert flat.metrics[name].mean == pytest.approx(summary.mean, abs=0.01)
        assert graph.metrics[name].mean == pytest.approx(summary.mean, abs=0.1)
    assert exact.index_recall == 1


def test_all_items_are_searched_by_a_two_tower_stage_too(funnel, tmp_path):
    changes = {
        "stages.retrieval": {
            "model": "two_tower",
            "quota": 20,
            "features": ["*", "!match_*", "!gap_*"],
            "hidden": [8, 4],
        },
        "objective": {"name": "sampled_softmax", "corrected": True},
        "train.candidates": {"levels": {"rank_pos": 1}, "pool": 5, "draw": "frequency"},
        "train.epochs": 1,
    }
    train_run(settings(funnel).changed(changes), tmp_path / "run")
    _, found = evaluate_run_catalogue(tmp_path / "run", funnel)
    assert found.items > 150
    assert 0 <= found.metrics["recall@20"].mean <= 1


def test_the_command_searches_all_items(run, funnel):
    folder, _ = run
    table = cascaderank("evaluate", folder, funnel, "--catalogue", "--index", "HNSW16")
    assert table.returncode == 0, table.stderr
    assert "hit rate" in table.stdout
    assert "of the exact lists" in " ".join(table.stdout.split())
    assert max(map(len, table.stdout.splitlines())) <= 100
    printed = json.loads(cascaderank("evaluate", folder, funnel, "--catalogue", "--json").stdout)
    report = json.loads((folder / "report.json").read_text())
    assert printed["metrics"] == report["catalogue"]["metrics"]
    assert "add --catalogue" in refused("evaluate", folder, funnel, "--index", "Flat")
    message = refused("evaluate", folder, funnel, "--catalogue", "--stage", "retrieva")
    assert "no stage called 'retrieva' (did you mean 'retrieval'?)" in message


def test_the_command_searches_for_the_requests_that_are_named(run, funnel):
    folder, _ = run
    words = ["evaluate", str(folder), str(funnel), "--catalogue", "--json", "--part", "validation"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    _, found = evaluate_run_catalogue(folder, funnel, part="validation")
    assert printed["part"] == "validation"
    assert printed["metrics"] == found.to_json()["metrics"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"catalogue": None}, "train.candidates.pool draws random items"),
        ({"train__candidates": None, "objective__name": "sampled_softmax",
          "objective__corrected": True}, "corrected = true of 'sampled_softmax' needs random"),
        ({"catalogue__item": "quality"}, "catalogue.item must be a categorical item feature"),
        ({"catalogue__item": "itemid"}, "did you mean 'item_id'"),
        ({"objective__z": [0, 1]}, "objective.z must have one value per level"),
        ({"data__target": {"z": [0, 3]}}, "has 4 levels, so z of the target must have 4 values"),
        ({"stages__retrieval__features": ["*"]}, "stages.retrieval reads 'match_2', 'gap_2'"),
        ({"train__candidates__levels": {"rankpos": 1}}, "no level called 'rankpos'"),
        ({"catalogue__decides": "recall@10"}, "catalogue: decides must be one of hit_rate@5"),
        ({"stages__ranking": {"model": "linear", "quota": 5, "features": ["quality"]},
          "catalogue__decides": "recall@20"},
         "catalogue.decides needs a cascade of one stage; got 2"),
        ({"stages__retrieval": {"model": "linear", "quota": 20},
          "catalogue__decides": "recall@20", "train__candidates": None},
         "catalogue.decides needs a stage that can search all items, and stages.retrieval"),
        ({"catalogue__user": "price"}, "catalogue.user must be a categorical feature"),
    ],
    ids=str,
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(funnel, tmp_path, changes, message):
    with pytest.raises(ConfigError) as caught:
        train_run(settings(funnel, train__epochs=1, **changes), tmp_path / "run")
    assert message in str(caught.value)


def test_the_search_decides_which_epoch_is_kept(funnel, tmp_path):
    catalogue = {"item": "item_id", "user": "user_id", "cutoffs": [5, 20], "decides": "recall@5"}
    deciding = settings(funnel, catalogue=catalogue, train__epochs=4)
    result = train_run(deciding, tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line)["validation"]["decides"] for line in lines]
    report = json.loads((tmp_path / "run" / "report.json").read_text())["training"]
    assert report["decided_by"] == "catalogue/recall@5"
    assert report["best_epoch"] == max(range(len(found)), key=lambda i: found[i])
    assert result.validation == report["validation"] == max(found)
    _, validation = evaluate_run_catalogue(tmp_path / "run", funnel, part="validation")
    assert validation.metrics["recall@5"].mean == pytest.approx(result.validation)
    again = train_run(deciding, tmp_path / "run")
    assert again.validation == result.validation


def test_a_stage_that_cannot_search_is_refused_before_training(funnel, tmp_path):
    wrong = settings(
        funnel, train__candidates=None, objective__name="bce", stages__retrieval__features=["*"]
    )
    with pytest.raises(ConfigError, match="reads 'match_2', 'gap_2'"):
        train_run(wrong, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_a_stage_without_vectors_cannot_search(funnel, settings_for, tmp_path):
    small = settings_for(funnel, train__epochs=1, catalogue={"item": "item_id"})
    cheap = ["*", "!match_*", "!gap_*"]
    small = small.changed({f"stages.{s}.features": cheap for s in ("retrieval", "ranking")})
    train_run(small, tmp_path / "run")
    with pytest.raises(ConfigError, match="score is a dot product of two vectors; got a MLP"):
        evaluate_run_catalogue(tmp_path / "run", funnel, stage="ranking")


def test_a_log_without_an_item_table_has_no_catalogue(funnel):
    assert RequestLog.open(funnel).catalogue() is None
    assert exact_search(torch.ones(1, 1), torch.ones(3, 1), 2).tolist() == [[0, 1]]
