"""Simulated logs: no leakage between parts, agreement with the funnel, and training."""

import json

import numpy as np
import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.data.split import GivenSplit, split_requests
from cascaderank.errors import ConfigError, DataError
from cascaderank.settings.files import check_as
from cascaderank.settings.run import check_settings
from cascaderank.simulation import simulate as module
from cascaderank.simulation.simulate import simulate, simulation_summary
from cascaderank.simulation.simulation_settings import SimulationSettings
from cascaderank.training.train_run import train_run
from tests.data.sources.short_videos import write_rec


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    return tmp_path_factory.mktemp("teachers")


@pytest.fixture
def simulated(simulation, teachers, tmp_path):
    simulate(simulation(), tmp_path / "log", runs=teachers)
    return RequestLog.open(tmp_path / "log")


def rows_by_user(log):
    frame = pl.concat(
        log.frames(["request_id", "user_id", "video_id", "level", "label", "feedback"])
    )
    parts = {}
    for row in frame.to_dicts():
        part = row["request_id"].split("-")[1]
        parts.setdefault(row["user_id"], {}).setdefault(part, []).append(row)
    return parts


def test_exposed_positives_are_absent_from_later_parts(simulated):
    found = 0
    for parts in rows_by_user(simulated).values():
        assert [len(parts[p]) for p in ("test", "validation", "train")] == [1, 1, 2]
        gone = set()
        for part in ("test", "validation", "train"):
            for row in parts[part]:
                assert not gone & set(row["video_id"])
            for row in parts[part] if part != "train" else []:
                gone |= {v for v, f in zip(row["video_id"], row["feedback"], strict=True) if f}
        found += len(gone)
    assert found > 20


def test_no_request_has_an_item_of_the_history(simulated):
    names = ["video_id", "history_exposed", "history_liked", "history_long_viewed"]
    for row in pl.concat(simulated.frames(names)).to_dicts():
        assert not set(row["video_id"]) & {v for n in names[1:] for v in row[n]}


def test_users_have_the_features_of_the_training_requests(simulated, watched):
    log = RequestLog.open(watched)
    days = sorted({p.day for p in log.manifest.parts})
    before = [f for p, f in zip(log.manifest.parts, log.frames(), strict=True) if p.day < days[-3]]
    latest = pl.concat(before).sort("timestamp").unique("user_id", keep="last")
    names = ["user_id", "fans_user_num", "history_exposed", "history_liked"]
    expected = latest.sort("user_id").select(names)
    found = pl.concat(simulated.frames(names)).unique("user_id").sort("user_id").select(names)
    assert found.equals(expected)


def test_levels_label_and_feedback_agree_in_every_request(simulated):
    assert simulated.manifest.level_names == (
        "pool", "prerank_neg", "rank_neg", "exposed", "exposed_pos",
    )  # fmt: skip
    truth = {}
    for user, parts in rows_by_user(simulated).items():
        for row in (r for rows in parts.values() for r in rows):
            levels = np.array(row["level"])
            counts = np.bincount(levels, minlength=5)
            assert counts[:3].tolist() == [4, 8, 3]
            assert counts[3:].sum() == 6
            assert len(set(row["video_id"])) == 21
            label, feedback = np.array(row["label"]), np.array(row["feedback"])
            assert (feedback == label * (levels >= 3)).all()
            assert ((levels == 4) == (feedback > 0)).all()
            for video, value in zip(row["video_id"], row["label"], strict=True):
                assert truth.setdefault((user, video), value) == value, "one truth per pair"
    assert 0.05 < np.mean(list(truth.values())) < 0.95


def test_the_manifest_describes_the_simulation_as_semi_synthetic(simulated):
    assert simulated.manifest.name == "log (semi-synthetic)"
    assert simulated.manifest.extra["item"] == "video_id"
    extra = simulation_summary(simulated)
    assert extra["kind"] == "semi-synthetic"
    assert set(extra["teachers"]) == {"prerank", "rank", "truth"}
    for report in extra["teachers"].values():
        assert 0 <= report["auc"] <= 1
        assert 0 <= report["calibrated_error"] <= 1
        assert sum(b["count"] for b in report["reliability"]) == report["candidates"]
    assert extra["settings"]["funnel"]["candidates"] == 30
    assert simulated.catalogue().height == 90


def test_the_log_depends_on_the_seed_and_not_on_blocks(
    simulation, simulated, teachers, tmp_path, monkeypatch
):
    monkeypatch.setattr(module, "_CELLS", 300)
    simulate(simulation(), str(tmp_path / "again"), runs=str(teachers))
    again = RequestLog.open(tmp_path / "again")
    frames = [pl.concat(log.frames()).sort("request_id") for log in (simulated, again)]
    assert frames[0].equals(frames[1])
    simulate(simulation(funnel__seed=1), tmp_path / "other", runs=teachers)
    other = pl.concat(RequestLog.open(tmp_path / "other").frames()).sort("request_id")
    assert not other["video_id"].equals(frames[0]["video_id"])


def test_a_sample_of_users_has_the_requests_of_the_full_simulation(
    simulation, simulated, teachers, tmp_path
):
    simulate(simulation(funnel__users=5), tmp_path / "few", runs=teachers)
    few = pl.concat(RequestLog.open(tmp_path / "few").frames()).sort("request_id")
    assert few["user_id"].n_unique() == 5
    every = pl.concat(simulated.frames())
    same = every.filter(pl.col("request_id").is_in(few["request_id"].implode()))
    assert same.sort("request_id").equals(few)


def test_a_cascade_trains_on_a_simulated_log(simulated, tmp_path):
    split = split_requests(simulated, GivenSplit())
    users = len(split.test)
    assert (len(split.train), len(split.validation)) == (2 * users, users)
    for objective, relevance in (("lcron", {"top": 3}), ("bce", {"threshold": 4.0})):
        settings = check_settings(
            {
                "data": {
                    "path": str(simulated.path),
                    "target": "level" if objective == "bce" else "funnel",
                    "split": {"by": "given"},
                },
                "relevance": relevance,
                "stages": {
                    "prerank": {"model": "two_tower", "quota": 10, "hidden": [4]},
                    "rank": {"model": "din", "quota": 5, "hidden": [4]},
                },
                "objective": {"name": objective},
                "train": {"epochs": 1, "batch_size": 16},
                "evaluation": {"bootstrap": 2},
            }
        )
        result = train_run(settings, tmp_path / objective)
        assert 0 <= result.validation <= 1


def test_observed_truth_comes_from_the_matrices(tmp_path):
    ids, videos = tuple(range(8)), tuple(range(40))
    folder = write_rec(tmp_path / "files", user_ids=ids, video_ids=videos, rows=60)
    for matrix in ("big", "small"):
        to = tmp_path / matrix
        SOURCES["kuairec"]((folder,), to, matrix=matrix, history_length=2)
    settings = {
        "data": {
            "path": str(tmp_path / "big"),
            "user": "user_id",
            "item": "video_id",
            "split": {"by": "day"},
        },
        "funnel": {"candidates": 15, "pool": 2, "requests": 1},
        "stages": {"rank": {"model": "mlp", "keep": 4, "negatives": 5, "hidden": [3]}},
        "truth": {"by": "observed", "paths": [str(tmp_path / m) for m in ("small", "big")]},
        "train": {"epochs": 1},
    }
    to = tmp_path / "log"
    simulate(check_as(SimulationSettings, settings), to, runs=tmp_path / "runs")
    log = RequestLog.open(to)
    assert log.manifest.name == "log"
    assert simulation_summary(log)["kind"] == "observed"
    seen = {}
    for matrix in ("big", "small"):
        frames = RequestLog.open(tmp_path / matrix).frames(["user_id", "video_id", "feedback"])
        for user, items, feedback in pl.concat(frames).iter_rows():
            for item, value in zip(items, feedback, strict=True):
                seen[user, item] = max(seen.get((user, item), 0.0), value)
    users = set()
    for user, items, labels in pl.concat(log.frames(["user_id", "video_id", "label"])).iter_rows():
        users.add(user)
        for item, label in zip(items, labels, strict=True):
            assert seen[user, item] == label
    assert users == set(ids[1:])  # users of the small matrix


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stages__rank__keep": 13},
            r"stages.rank: .* at most the 12 candidates that reach the stage; got 13 \+ 3",
        ),
        ({"stages__prerank__kepe": 3}, r"stage 'two_tower' has no option 'kepe'"),
        ({"funnel__candiates": 3}, r"unknown setting funnel.candiates \(did you mean 'candidates'"),
        ({"truth__by": "observed"}, "observed truth needs paths"),
        ({"truth__hiden": [3]}, "stage 'mlp' has no option 'hiden'"),
        (
            {"stages__truth": {"model": "mlp", "keep": 1, "negatives": 1}},
            "cannot be the name of a stage",
        ),
    ],
)
def test_invalid_settings_are_rejected_before_any_work(simulation, changes, message):
    with pytest.raises(ConfigError, match=message):
        simulation(**changes)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"funnel__candidates": 80},
            DataError,
            r"at least 96 items .* 20 of 20 users have fewer; the minimum is \d+ of 90",
        ),
        (
            {"funnel__users": 21},
            ConfigError,
            "funnel.users must be at most the number of users, 20; got 21",
        ),
        (
            {"data__user": "video_id"},
            ConfigError,
            "data.user must be a categorical feature of the req",
        ),
        (
            {"data__item": "vidoe_id"},
            ConfigError,
            r"unknown feature 'vidoe_id' \(did you mean 'video_id'",
        ),
        ({"stages__rank__features": ["tga"]}, DataError, "no feature 'tga'"),
    ],
)
def test_invalid_data_are_rejected_before_any_training(
    simulation, tmp_path, changes, error, message
):
    with pytest.raises(error, match=message):
        simulate(simulation(**changes), tmp_path / "log", runs=tmp_path / "runs")
    assert not (tmp_path / "log").exists()
    assert not (tmp_path / "runs").exists()


def test_a_feature_of_pairs_is_rejected_as_a_feature_of_items(funnel, tmp_path):
    settings = {
        "data": {
            "path": str(funnel),
            "target": "level",
            "threshold": 3,
            "user": "user_id",
            "item": "item_id",
        },
        "funnel": {"candidates": 20, "pool": 2, "requests": 1},
        "stages": {"rank": {"model": "mlp", "keep": 4, "negatives": 5, "hidden": [3]}},
        "truth": {"by": "model", "hidden": [3]},
        "train": {"epochs": 1},
    }
    with pytest.raises(
        ConfigError, match=r'match_2, gap_2 also depends .* \["\*", "!match_2", "!gap_2"\]'
    ):
        simulate(check_as(SimulationSettings, settings), tmp_path / "log", runs=tmp_path / "runs")
    settings["data"]["features"] = ["*", "!match_2", "!gap_2"]
    simulate(check_as(SimulationSettings, settings), tmp_path / "log", runs=tmp_path / "runs")
    log = RequestLog.open(tmp_path / "log")
    assert "gap_2" not in log.schema.names
    manifest = json.loads((tmp_path / "log" / "manifest.json").read_text())
    assert manifest["extra"]["notes"]["truth"] == "semi-synthetic"


def test_a_log_that_was_not_simulated_is_rejected(watched):
    with pytest.raises(DataError, match="not a simulated log"):
        simulation_summary(RequestLog.open(watched))
