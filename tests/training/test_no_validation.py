"""Without validation days, training uses all days before the test and keeps its last weights."""

import json

import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import days_of
from cascaderank.errors import ConfigError, DataError
from cascaderank.experiments.compare import compare
from cascaderank.experiments.folds import folds_of
from cascaderank.training.evaluate_run import evaluate_run
from cascaderank.training.train_run import train_run
from tests.training.test_resume import StopAfter, StoppedError, bits_of

SPLIT = {"by": "day", "validation_days": 0}


@pytest.fixture
def settings(funnel, settings_for):
    return settings_for(
        funnel, data__split=SPLIT, train__epochs=3, train__patience=1, train__learning_rate=0.05
    )


def test_all_days_before_the_test_are_trained_on_and_all_epochs_run(settings, funnel, tmp_path):
    result = train_run(settings, tmp_path / "run")
    log = RequestLog.open(funnel)
    last = sum(p.requests for p in log.manifest.parts if p.day == days_of(log)[-1])
    sizes = json.loads((tmp_path / "run" / "report.json").read_text())["requests"]
    assert sizes == {"train": log.manifest.requests - last, "validation": 0, "test": last}
    assert result.validation is None
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [0, 1, 2]
    assert {*json.loads(lines[0])["validation"].values()} == {None}
    assert result.test.metrics["joint_recall"].mean > 0.5


def test_a_stopped_run_resumes_with_the_same_bits(settings, tmp_path):
    train_run(settings, tmp_path / "whole")
    with pytest.raises(StoppedError):
        train_run(settings, tmp_path / "stopped", progress=StopAfter(8))
    train_run(settings, tmp_path / "stopped")
    assert bits_of(tmp_path / "stopped") == bits_of(tmp_path / "whole")


def test_the_weights_are_those_of_the_last_step(settings, tmp_path):
    """As with validation requests whose value never decides: fewer epochs give other weights."""
    train_run(settings, tmp_path / "three")
    train_run(settings.changed({"train.epochs": 2}), tmp_path / "two")
    one, other = (
        (tmp_path / name / "weights.safetensors").read_bytes() for name in ("two", "three")
    )
    assert one != other


def test_evaluation_of_the_validation_requests_is_refused(settings, funnel, tmp_path):
    train_run(settings, tmp_path / "run")
    with pytest.raises(
        DataError, match=r"no validation requests; its data.split.validation_days is 0"
    ):
        evaluate_run(tmp_path / "run", funnel, part="validation")


def test_streaming_trains_on_all_earlier_days(settings, funnel):
    asked = settings.changed({"compare.streaming": 2})
    log = RequestLog.open(funnel)
    names = [fold.name for fold in folds_of(asked, log)]
    assert names == [f"day {day}" for day in days_of(log)[-2:]]
    most = len(days_of(log)) - 1
    assert len(folds_of(asked.changed({"compare.streaming": most}), log)) == most


def test_phases_follow_one_another_without_a_best_epoch(settings, tmp_path):
    phases = [{"stages": ["retrieval"], "epochs": 1}, {"stages": ["ranking"], "epochs": 1}]
    train_run(settings.changed({"train.schedule": {"phases": phases}}), tmp_path / "run")
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["phase"] for line in lines] == [0, 1]


def test_what_needs_validation_requests_is_refused_at_once(settings):
    with pytest.raises(ConfigError, match=r"compare\.grid .*validation_days = 0; set it to 1"):
        settings.changed({"compare.grid": {"bce": {"train.learning_rate": [0.1, 0.2]}}})


def test_a_scorer_that_stops_by_validation_is_refused(settings, tmp_path):
    pytest.importorskip("lightgbm")
    asked = settings.changed(
        {"compare.objectives": ["bce", "lightgbm_lambdarank"], "compare.seeds": 1}
    )
    with pytest.raises(ConfigError, match="stops by validation requests; got"):
        compare(asked, tmp_path / "compare")
