"""Streaming: each of the last days is a test of models trained on earlier days only."""

import numpy as np
import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import DaySplit, days_of, split_requests
from cascaderank.errors import DataError
from cascaderank.experiments import compare as module
from cascaderank.experiments.compare import compare
from cascaderank.experiments.folds import folds_of
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import read_settings


@pytest.fixture
def streamed(funnel, settings_for):
    return settings_for(
        funnel,
        data__split={"by": "day", "validation_days": 2},
        train__epochs=1,
        compare__objectives=["bce"],
        compare__seeds=1,
        compare__streaming=2,
    )


def days_by_row(log):
    return pl.concat(log.frames(["timestamp"]))["timestamp"].dt.date()


def test_each_day_is_tested_by_models_of_earlier_days(streamed, funnel):
    log = RequestLog.open(funnel)
    days, of_row = days_of(log), days_by_row(log)
    folds = folds_of(streamed, log)
    assert [fold.name for fold in folds] == [f"day {day}" for day in days[-2:]]
    for fold, day in zip(folds, days[-2:], strict=True):
        split = split_requests(log, fold.settings.data.split)
        before = days[: days.index(day)]
        assert set(of_row[split.test]) == {day}
        assert set(of_row[split.validation]) == set(before[-2:])
        assert set(of_row[split.train]) == set(before[:-2])


def test_skipped_last_days_are_unused(streamed, funnel):
    log = RequestLog.open(funnel)
    days = days_of(log)
    shorter = streamed.changed({"data.split.skip_last": 1})
    assert [f.name for f in folds_of(shorter, log)] == [f"day {day}" for day in days[-3:-1]]
    split = split_requests(log, DaySplit(skip_last=2, test_days=2))
    used = np.concatenate([split.train, split.validation, split.test])
    assert set(days_by_row(log)[used]) == set(days[:-2])
    assert set(days_by_row(log)[split.test]) == set(days[-4:-2])


def test_too_few_days_are_rejected_before_any_work(streamed, funnel, tmp_path):
    days = len(days_of(RequestLog.open(funnel)))
    with pytest.raises(
        DataError,
        match=rf"at least {days + 1} days \({days - 2} to test, 2 to validate.*got {days};",
    ):
        compare(streamed, tmp_path, streaming=days - 2)
    assert len(folds_of(streamed.changed({"compare.streaming": days - 3}), RequestLog.open(funnel)))
    with pytest.raises(DataError, match=f"days, of which the last {days} are skipped; .*skip_last"):
        split_requests(RequestLog.open(funnel), DaySplit(skip_last=days))


def test_values_are_per_day_and_vocabularies_are_of_earlier_days(
    streamed, funnel, tmp_path, monkeypatch
):
    seen = {}

    def summarise(settings, runs, **known):
        seen.update(runs=runs, **known)
        return summary(settings, runs, **known)

    summary = module.summarise
    monkeypatch.setattr(module, "summarise", summarise)
    compare(streamed, tmp_path)
    log = RequestLog.open(funnel)
    names = [f"day {day}" for day in days_of(log)[-2:]]
    assert seen["fold_names"] == names
    schemas = []
    for i, name in enumerate(names):
        run = tmp_path / f"bce/run/{name.replace(' ', '-')}/seed-0"
        values = pl.read_parquet(run / "per_request.parquet")["joint_recall"].to_numpy()
        np.testing.assert_array_equal(seen["runs"]["bce"].values[0]["joint_recall"][i], values)
        schemas.append(FittedSchema.load(run / "schema.json"))
        split = split_requests(log, read_settings(run / "config.toml").data.split)
        trained = pl.concat(log.frames(["user_id"], rows=split.train))["user_id"]
        assert set(schemas[-1].vocabularies["user_id"]) == set(trained)
    assert schemas[0] != schemas[1]


def test_more_days_reuse_existing_runs(streamed, tmp_path):
    compare(streamed, tmp_path)
    runs = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("weights.safetensors")}
    compare(streamed, tmp_path, streaming=3)
    after = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("weights.safetensors")}
    assert len(after) == len(runs) + 1
    assert runs.items() <= after.items()
