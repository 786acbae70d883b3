"""The result of a run is written, read and evaluated according to its settings."""

import json

import polars as pl
import pytest
import torch

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError, RunError
from cascaderank.runs.build import build_cascade
from cascaderank.runs.data import run_data
from cascaderank.runs.folder import RunFolder
from cascaderank.runs.load import load_run
from cascaderank.training.evaluate_run import evaluate_rows, evaluate_run_catalogue
from cascaderank.training.retrieval import ItemRetrieval
from cascaderank.training.run_result import read_result
from cascaderank.training.train_run import train_run
from tests.training.test_resume import StopAfter, StoppedError
from tests.training.test_retrieval import settings as search_settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(funnel, tmp_path_factory):
    """A complete run whose report includes a search of all items; its path is no pattern."""
    folder = tmp_path_factory.mktemp("runs") / "run[1]*"
    return train_run(search_settings(funnel, train__epochs=1), folder), folder


def test_values_per_request_have_the_ids_of_the_test_requests(run, funnel):
    _, folder = run
    values = pl.read_parquet(folder / "per_request.parquet", glob=False)
    rows = values["row"].to_list()
    assert rows != list(range(len(rows))), "the test requests must not be the first of the log"
    ids = pl.concat(RequestLog.open(funnel).frames(["request_id"]))["request_id"]
    assert values["request_id"].equals(ids.gather(rows))


def test_a_report_of_version_0_1_can_be_read(run, tmp_path):
    result, folder = run
    report = json.loads((folder / "report.json").read_text())
    training = report["training"]
    assert result.validation == training["validation"] == read_result(RunFolder(folder)).validation
    assert result.validation > 0
    training["validation_joint_recall"] = training.pop("validation")
    old = RunFolder(folder)
    old.checksums = tmp_path / "none"  # as in version 0.3 and earlier
    old.report = tmp_path / "report.json"
    old.report.write_text(json.dumps(report))
    assert read_result(old).validation == result.validation


def test_a_run_of_version_0_2_can_be_read(funnel, tmp_path):
    """Additional metrics of a stage had other names; those of the final list did not exist."""
    changes = {"train__epochs": 1, "evaluation__metrics": ["recall@5"]}
    result = train_run(search_settings(funnel, **changes), tmp_path)
    run = RunFolder(tmp_path)
    report, values = json.loads(run.report.read_text()), pl.read_parquet(run.per_request)
    for stage in report["test"]["stages"].values():
        stage["metrics"] = stage.pop("all_candidates")
    new = ("joint_recall_decided", "ndcg_linear", "ndcg_exponential", "recall@5")
    for name in new:
        report["test"]["metrics"].pop(name, None)
    run.report.write_text(json.dumps(report))
    run.checksums.unlink()
    prefix = "all_candidates/"
    values.drop(new).rename(lambda name: name.removeprefix(prefix)).write_parquet(run.per_request)
    old = read_result(run).test
    assert old.stages == result.test.stages
    assert set(result.test.per_request) - set(old.per_request) == set(new)
    key = f"{prefix}recall@5/{next(iter(old.stages))}"
    assert (old.per_request[key] == result.test.per_request[key]).all()


def test_a_run_unpacks_as_the_tuple_of_version_0_1(run):
    trained = load_run(run[1])
    with pytest.warns(DeprecationWarning, match=r"use run\.cascade, run\.schema"):
        cascade, schema, settings = trained
    assert cascade is trained.cascade
    assert schema is trained.schema
    assert settings is trained.settings


def test_validation_without_ground_truth_is_undefined(funnel, settings_for, tmp_path, monkeypatch):
    # A log without any ground truth is refused; one whose validation requests have none is not.
    monkeypatch.setattr("cascaderank.runs.data.check_lists", lambda *_: None)
    settings = settings_for(funnel, relevance={"threshold": 1e6}, train__epochs=1)
    settings = settings.changed({"objective": {"name": "ranknet"}})
    result = train_run(settings, tmp_path / "run")
    assert result.validation is None
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["training"]["validation"] is None
    assert train_run(settings, tmp_path / "run").validation is None


def test_the_report_of_a_search_names_its_index(run, funnel):
    reports = [
        evaluate_run_catalogue(run[1], funnel, index=index)[1] for index in ("exact", "HNSW16")
    ]
    assert [report.index for report in reports] == ["exact", "HNSW16"]


def test_the_intervals_of_a_search_depend_on_the_seed_of_evaluation(funnel):
    settings = search_settings(funnel)
    with run_data(settings) as data:
        cascade = build_cascade(settings, data.schema)

        def interval(seed):
            seeded = settings.changed({"evaluation.seed": seed})
            report = ItemRetrieval(seeded, data, CPU).evaluate(cascade, data.split.test)
            recall = report.metrics["recall@20"]
            return recall.low, recall.high

        assert interval(1) == interval(1)
        assert interval(0) != interval(1)


def test_the_stage_that_searches_is_checked_before_training(funnel):
    """Only the first stage searches; later stages may use features of logged candidates."""
    ranking = {"model": "linear", "quota": 10}
    settings = search_settings(funnel, train__candidates=None, stages__ranking=ranking)
    with run_data(settings) as data:
        ItemRetrieval(settings, data, CPU).check(build_cascade(settings, data.schema))
        wrong = settings.changed({"stages.retrieval.features": ["*"]})
        with pytest.raises(ConfigError, match=r"stages\.retrieval"):
            ItemRetrieval(wrong, data, CPU).check(build_cascade(wrong, data.schema))


def test_batches_of_an_evaluation_have_the_size_of_the_settings(funnel, settings_for):
    """The batch size does not affect the report."""
    settings = settings_for(funnel, evaluation__batch_size=5)
    torch.manual_seed(0)
    with run_data(settings_for(funnel)) as data, run_data(settings) as small:
        cascade = build_cascade(settings, data.schema)
        assert max(len(batch) for batch in small.loader(small.split.test).epoch(0)) == 5
        reports = [
            evaluate_rows(settings, cascade, d, d.split.test, device=CPU) for d in (data, small)
        ]
    assert reports[0].to_json() == reports[1].to_json()


def test_a_killed_run_is_not_continued_with_other_settings(funnel, settings_for, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(StoppedError):
        train_run(settings_for(funnel), folder, progress=StopAfter(5))
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    with pytest.raises(RunError, match=r"other settings \(train\.seed: 0, not 1\)"):
        train_run(settings_for(funnel, train__seed=1), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before
