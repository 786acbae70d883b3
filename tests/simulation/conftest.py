import pytest

from cascaderank.data.sources import SOURCES
from cascaderank.settings.files import check_as
from cascaderank.simulation.simulation_settings import SimulationSettings
from tests.data.sources.short_videos import (
    histories,
    rand_exposures,
    rand_videos,
    users,
    write_rand,
)

VIDEOS = 90


@pytest.fixture(scope="session")
def watched(tmp_path_factory):
    """A small log in the layout of KuaiRand, with 20 users and 90 videos; read only."""
    folder = tmp_path_factory.mktemp("watched")
    ids = list(range(1, 21))
    exposures = rand_exposures(4, rows=700, user_ids=ids, video_ids=range(VIDEOS), days=6)
    write_rand(
        folder / "files",
        exposures,
        before=histories(ids[:15]),
        videos=rand_videos(range(VIDEOS)),
        people=users(ids),
    )
    SOURCES["kuairand"]((folder / "files",), folder / "log", history_length=5)
    return folder / "log"


@pytest.fixture
def simulation(watched):
    """Build settings of a small simulation over the log, with changes by dotted name."""

    def build(**changes):
        values = {
            "data": {
                "path": str(watched),
                "user": "user_id",
                "item": "video_id",
                "split": {"by": "day", "validation_days": 1, "test_days": 2},
            },
            "funnel": {"candidates": 30, "pool": 4, "requests": 2},
            "stages": {
                "prerank": {"model": "two_tower", "keep": 12, "negatives": 8, "hidden": [4]},
                "rank": {"model": "mlp", "keep": 6, "negatives": 3, "hidden": [4, 3]},
            },
            "truth": {"by": "model", "model": "mlp", "hidden": [4]},
            "train": {"epochs": 1, "batch_size": 64, "learning_rate": 0.01},
        }
        for name, value in changes.items():
            *tables, last = name.split("__")
            inner = values
            for part in tables:
                inner = inner.setdefault(part, {})
            inner[last] = value
        return check_as(SimulationSettings, values)

    return build
