"""A run writes a complete folder, from which it can be loaded and evaluated again."""

import json
import tomllib

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import ConfigError, DataError, RunError, SchemaError
from cascaderank.runs.load import load_run
from cascaderank.schema import Feature, Schema
from cascaderank.training.evaluate_run import evaluate_run
from cascaderank.training.train_run import train_run


@pytest.fixture(scope="module")
def run(funnel, tmp_path_factory):
    from cascaderank.settings.run import check_settings

    settings = check_settings(
        {
            "data": {"path": str(funnel)},
            "relevance": {"top": 10},
            "stages": {
                "retrieval": {"model": "linear", "quota": 30},
                "ranking": {"model": "mlp", "quota": 20, "hidden": [8]},
            },
            "train": {"epochs": 2},
            "evaluation": {"bootstrap": 50},
        }
    )
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train_run(settings, folder), folder


def test_the_folder_is_complete(run):
    _, folder = run
    assert {p.name for p in folder.iterdir()} == {
        ".lock", "checksums.sha256", "config.toml", "environment.json", "metrics.jsonl", "per_request.parquet",
        "report.json", "schema.json", "weights.safetensors",
    }  # fmt: skip
    assert tomllib.loads((folder / "config.toml").read_text())["train"]["epochs"] == 2
    environment = json.loads((folder / "environment.json").read_text())
    assert (
        environment["packages"]["torch"] == torch.__version__.partition("+")[0]
        or environment["packages"]["torch"] == torch.__version__
    )
    assert {"seed", "device", "python", "git", "threads"} <= set(environment)


def test_metrics_hold_every_term_of_every_epoch(run):
    _, folder = run
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [r["epoch"] for r in records] == [0, 1]
    for record in records:
        assert set(record["train"]) == {"loss", "end_to_end", "top_k/retrieval", "top_k/ranking"}
        assert set(record["validation"]) == {"joint_recall", "recall/retrieval", "recall/ranking"}
        assert len(record["weights"]) >= 2


def test_report_and_per_request_values_agree(run):
    result, folder = run
    report = json.loads((folder / "report.json").read_text())
    values = pl.read_parquet(folder / "per_request.parquet")
    assert values.height == report["requests"]["test"] == report["test"]["requests"]
    mean = report["test"]["metrics"]["joint_recall"]["mean"]
    assert values["joint_recall"].fill_nan(None).mean() == pytest.approx(mean, abs=1e-12)
    assert result.test.metrics["joint_recall"].mean == pytest.approx(mean, abs=1e-12)


def test_weights_are_the_best_ones_and_load(run):
    _, folder = run
    trained = load_run(folder)
    cascade, schema, settings = trained.cascade, trained.schema, trained.settings
    assert cascade.stage_names == ("retrieval", "ranking")
    assert not cascade.training
    saved = load_file(folder / "weights.safetensors")
    assert all(torch.equal(saved[k], v) for k, v in cascade.state_dict().items())
    assert settings.relevance.top == 10
    assert schema.moments


def test_judging_again_gives_the_same_report(run, funnel):
    result, folder = run
    part, report = evaluate_run(folder, funnel)
    assert part == "test"
    assert report.to_json() == result.test.to_json()


def test_a_run_can_be_evaluated_with_another_ground_truth(run, funnel):
    result, folder = run
    _, report = evaluate_run(folder, funnel, target="level", threshold=2)
    top = pl.concat(RequestLog.open(funnel).frames(["level"]))["level"]
    per_request = report.per_request
    liked = [sum(level >= 2 for level in of) for of in top.gather(per_request["row"])]
    assert per_request["ground_truth"].tolist() == liked
    assert report.metrics["joint_recall"].mean != result.test.metrics["joint_recall"].mean
    with pytest.raises(ConfigError, match="no target called 'lable'"):
        evaluate_run(folder, funnel, target="lable")


def test_all_requests_of_a_log_can_be_evaluated(run, funnel):
    part, report = evaluate_run(run[1], funnel, part="all")
    assert (part, report.requests) == ("all", RequestLog.open(funnel).manifest.requests)


def test_all_requests_of_another_log_are_evaluated(run, funnel, tmp_path):
    log = RequestLog.open(funnel)
    with RequestLogWriter(
        tmp_path / "other", name="other", schema=log.schema, level_names=log.manifest.level_names
    ) as writer:
        writer.write(next(log.frames())[:7])
    part, report = evaluate_run(run[1], tmp_path / "other")
    assert (part, report.requests) == ("all", 7)


def test_a_log_of_another_schema_is_refused(run, tmp_path):
    schema = Schema(features=(Feature(name="price", role="item", kind="numeric"),))
    with RequestLogWriter(tmp_path / "other", name="other", schema=schema) as writer:
        writer.write(pl.DataFrame({"request_id": ["a"], "price": [[1.0, 2.0]]}))
    with pytest.raises(SchemaError, match=r"the schema differs from that of the model"):
        evaluate_run(run[1], tmp_path / "other")


def test_a_folder_that_is_no_run_is_refused(tmp_path, funnel):
    with pytest.raises(RunError, match="no such folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"found files and no config\.toml"):
        load_run(funnel)


def test_training_improves_recall(funnel, settings_for, tmp_path):
    few = train_run(
        settings_for(funnel, train__epochs=1, train__learning_rate=1e-6), tmp_path / "a"
    )
    many = train_run(
        settings_for(funnel, train__epochs=15, train__patience=15, train__learning_rate=0.01),
        tmp_path / "b",
    )
    assert many.test.metrics["joint_recall"].mean > few.test.metrics["joint_recall"].mean + 0.05, (
        "training must clearly improve on the initial weights"
    )


def test_a_diverging_loss_is_an_error(funnel, settings_for, tmp_path, monkeypatch):
    from cascaderank.stages.linear import Linear

    monkeypatch.setattr(
        Linear, "forward", lambda self, batch: self.weights.both.weight.sum() * np.nan + batch.mask
    )
    settings = settings_for(funnel)
    settings = settings.changed({"stages": {"only": {"model": "linear", "quota": 5}}})
    with pytest.raises(RunError, match="the loss is not finite at step"):
        train_run(settings, tmp_path / "run")


def test_a_run_can_be_trained_day_by_day(funnel, settings_for, tmp_path):
    weights = {}
    for order in ("shuffled", "days"):
        settings = settings_for(funnel, train__order=order, train__epochs=1)
        train_run(settings, tmp_path / order)
        weights[order] = (tmp_path / order / "weights.safetensors").read_bytes()
    assert weights["days"] != weights["shuffled"]


def test_a_log_without_timestamps_is_refused_before_encoding(funnel, settings_for, tmp_path):
    log = RequestLog.open(funnel)
    with RequestLogWriter(
        tmp_path / "log", name="days", schema=log.schema, level_names=log.manifest.level_names
    ) as writer:
        writer.write(pl.concat(log.frames()).drop("timestamp"))
    settings = settings_for(tmp_path / "log", train__order="days")
    with pytest.raises(
        DataError, match=r"needs timestamps, and the log has none; set train\.order"
    ):
        train_run(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "schema.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relevance.top": 40}, "relevance.top is 40, so all candidates are ground truth"),
        (
            {"stages.retrieval.quota": 50, "stages.ranking.quota": 45},
            "the last quota is 45, so no stage drops a candidate",
        ),
    ],
)
def test_lists_on_which_all_cascades_are_equal_are_refused(
    funnel, settings_for, tmp_path, changes, message
):
    settings = settings_for(funnel).changed(changes)
    with pytest.raises(DataError, match=message):
        train_run(settings, tmp_path / "run")
