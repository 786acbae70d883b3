"""Simulation over irregular logs, as real services produce them."""

import random
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import Schema
from cascaderank.settings.files import check_as
from cascaderank.simulation.simulate import simulate
from cascaderank.simulation.simulation_settings import SimulationSettings

USERS, ITEMS, DAYS = range(6), range(30), 5
UNLISTED = 29
"""Item in the log that is not in the catalogue."""
NEWCOMER = 5
"""User without history."""


def a_request(chance, user, day, hour):
    items = chance.sample(ITEMS, 6)
    return {
        "request_id": f"{user}-{day}-{hour}",
        "timestamp": datetime(2024, 5, 1, hour, user, tzinfo=UTC) + timedelta(days=day),
        "user": user,
        "hours": 24.0 * day + hour,
        "history": [] if user == NEWCOMER else chance.sample(ITEMS[:20], 3),
        "item": [*items, items[0], UNLISTED],  # the first item occurs twice
        "feedback": [float(chance.randrange(2)) for _ in range(8)],
    }


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """A log whose requests are not sorted by time."""
    schema = Schema(
        features=(
            {"name": "user", "role": "request", "kind": "categorical"},
            {"name": "hours", "role": "request", "kind": "numeric"},
            {
                "name": "history",
                "role": "history",
                "kind": "categorical",
                "vocabulary": "item",
                "sequence": "history",
            },
            {"name": "item", "role": "item", "kind": "categorical"},
        )
    )
    chance = random.Random(3)
    requests = [
        a_request(chance, user, day, hour)
        for user in USERS
        for day in range(DAYS)
        for hour in (8, 12, 16)
    ]
    chance.shuffle(requests)
    path = tmp_path_factory.mktemp("odd") / "log"
    with RequestLogWriter(path, name="odd", schema=schema) as writer:
        for some in (requests[:40], requests[40:]):
            writer.write(pl.DataFrame(some))
        writer.write_catalogue(pl.DataFrame({"item": [i for i in ITEMS if i != UNLISTED]}))
    return path


def settings(path, **funnel):
    return check_as(
        SimulationSettings,
        {
            "data": {
                "path": str(path),
                "user": "user",
                "item": "item",
                "split": {"by": "day", "validation_days": 1, "test_days": 1},
            },
            "funnel": {"candidates": 12, "pool": 2, "requests": 2, **funnel},
            "stages": {"rank": {"model": "mlp", "keep": 3, "negatives": 4, "hidden": [3]}},
            "truth": {"by": "model", "hidden": [3]},
            "train": {"epochs": 1},
        },
    )


@pytest.fixture(scope="module")
def simulated(odd, tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    simulate(settings(odd), folder / "log", runs=folder / "runs")
    return pl.concat(RequestLog.open(folder / "log").frames())


def test_an_item_outside_the_catalogue_is_never_a_candidate(simulated):
    shown = set(simulated["item"].explode())
    assert UNLISTED not in shown
    assert len(shown) > 20


def test_a_user_without_history_has_requests_like_any_other(simulated):
    of_newcomer = simulated.filter(pl.col("user") == NEWCOMER)
    assert of_newcomer.height == simulated.height / len(USERS) == 4
    assert of_newcomer["history"].list.len().max() == 0
    assert simulated.filter(pl.col("user") != NEWCOMER)["history"].list.len().min() == 3


def test_users_have_the_features_of_their_latest_time(simulated):
    assert set(simulated["hours"]) == {24.0 * (DAYS - 3) + 16}


def test_an_item_shown_twice_is_drawn_once(simulated):
    for items in simulated["item"].to_list():
        assert len(items) == len(set(items)) == 9


def test_more_candidates_than_items_are_rejected(odd, tmp_path):
    message = r"at least 36 items .* 6 of 6 users have fewer; the minimum is 26 of 29"
    with pytest.raises(DataError, match=message):
        simulate(settings(odd, candidates=28), tmp_path / "log", runs=tmp_path / "runs")


@pytest.mark.parametrize("name", ["user", "item"])
def test_an_unknown_feature_name_is_rejected_with_its_setting(odd, tmp_path, name):
    wrong = settings(odd)
    wrong = wrong.model_copy(update={"data": wrong.data.model_copy(update={name: "who"})})
    message = f"data.{name}: unknown feature 'who'; available: user, hours, history, item"
    with pytest.raises(ConfigError, match=message):
        simulate(wrong, tmp_path / "log", runs=tmp_path / "runs")
