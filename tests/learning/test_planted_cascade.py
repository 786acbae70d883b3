"""Training on a planted cascade closes most of the gap between chance and the ceiling."""

import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.settings.run import read_settings
from cascaderank.training.train_run import train_run
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs") / "funnel"
    SOURCES["synthetic"](None, path, requests=3000, seed=11)
    return path


@pytest.mark.parametrize("objective", ["bce", "lcron"])
def test_an_objective_recovers_the_planted_cascade(log, tmp_path, objective):
    planted = RequestLog.open(log).manifest.extra["planted"]
    settings = read_settings(
        ROOT / "configs/funnel_two_stage.toml",
        [f"data.path={log}", f"objective.name={objective}", "train.epochs=4"],
    )
    result = train_run(settings, tmp_path / "run")
    chance, ceiling = planted["random_recall"], planted["joint_recall"]
    gained = (result.test.metrics["joint_recall"].mean - chance) / (ceiling - chance)
    assert gained > 0.55
    assert gained < 1.05, "above the best possible recall: the labels leak"
    # The first stage has fewer features than the second; its recall is limited by its own ceiling.
    first = result.test.stages["retrieval"].recall.mean
    assert first < planted["stages"][0]["recall"] + 0.02


def test_shuffled_labels_leave_recall_at_chance(log, tmp_path):
    """Labels that are independent of the features must not improve recall; otherwise they leak."""
    import polars as pl

    from cascaderank.data.log.request_log import RequestLogWriter

    source = RequestLog.open(log)
    path = tmp_path / "shuffled"
    with RequestLogWriter(
        path, name="shuffled", schema=source.schema, level_names=source.manifest.level_names
    ) as writer:
        for frame in source.frames():
            both = frame.select("request_id", "level", "position").explode("level", "position")
            order = pl.int_range(pl.len()).shuffle(seed=5).over("request_id")
            mixed = both.with_columns(pl.col("level", "position").gather(order).over("request_id"))
            lists = mixed.group_by("request_id", maintain_order=True).all()
            writer.write(frame.with_columns(lists["level"], lists["position"]))
    settings = read_settings(
        ROOT / "configs/funnel_two_stage.toml", [f"data.path={path}", "train.epochs=2"]
    )
    recall = train_run(settings, tmp_path / "run").test.metrics["joint_recall"]
    assert recall.mean == pytest.approx(0.5, abs=0.03)
