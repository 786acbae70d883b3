"""Trees learn a planted cascade, alone and after a network, about as well as networks do."""

import pytest

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.settings.run import read_settings
from cascaderank.training.train_run import train_run
from tests.conftest import ROOT

pytest.importorskip("lightgbm")

NETWORK = [
    "stages.retrieval.model=two_tower",
    'stages.retrieval.features=["*", "!match_*", "!gap_*"]',
]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs") / "funnel"
    SOURCES["synthetic"](None, path, requests=1500, seed=11)
    return path


@pytest.mark.parametrize("changes", [[], NETWORK], ids=["trees", "network and trees"])
def test_trees_recover_the_planted_cascade(log, tmp_path, changes):
    planted = RequestLog.open(log).manifest.extra["planted"]
    settings = read_settings(
        ROOT / "configs/funnel_trees.toml", [f"data.path={log}", "train.epochs=5", *changes]
    )
    result = train_run(settings, tmp_path / "run")
    chance, ceiling = planted["random_recall"], planted["joint_recall"]
    gained = (result.test.metrics["joint_recall"].mean - chance) / (ceiling - chance)
    assert gained > 0.6
    assert gained < 1.05, "above the best possible recall: the labels leak"
