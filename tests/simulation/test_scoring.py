"""Scores of pairs: equal to those of the stage for every path of computation."""

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.cascade import build_stage
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.fitting import fit_schema
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog
from cascaderank.simulation import scoring
from cascaderank.simulation.population import read_population
from cascaderank.simulation.scoring import PairScorer

STAGES = {
    "two_tower": {"hidden": (6, 4)},
    "mlp": {"hidden": (6, 4)},
    "mlp with a linear layer": {"hidden": (6, 4), "linear_skip": True},
    "mlp with a prior": {"hidden": (6, 4), "prior": "video_duration"},
    "din": {"hidden": (6,)},
    "linear": {},
}


@pytest.fixture(scope="module")
def known(watched):
    log = RequestLog.open(watched)
    rows = np.arange(log.manifest.requests)
    population = read_population(log, rows, user="user_id", item="video_id")
    return population, fit_schema(log.schema, log.frames())


def plain_scores(stage, fitted, population):
    """Scores by the stage itself, with all items as candidates of every user."""
    items = population.items.select(pl.all().implode())
    frame = population.users.join(items, how="cross").with_row_index("request_id")
    loader = RequestLoader(EncodedLog.of_frame(frame, fitted), np.arange(1), batch_size=1)
    with torch.no_grad():
        return stage.eval()(loader.collate(np.arange(frame.height))).numpy()


@pytest.mark.parametrize("name", STAGES)
def test_scores_of_pairs_are_those_of_the_stage(known, name, monkeypatch):
    population, fitted = known
    monkeypatch.setattr(scoring, "_PAIRS", 17)  # blocks split the pairs of a user
    torch.manual_seed(1)
    stage = build_stage(name.partition(" ")[0], fitted, options=STAGES[name])
    for parameter in stage.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    expected = plain_scores(stage, fitted, population)
    assert expected.std() > 0.01
    users = np.array([3, 0, 11])
    chance = np.random.default_rng(0)
    block = PairScorer(stage, fitted, population).block(users)
    for _ in range(3):
        items = np.stack([chance.permutation(expected.shape[1])[:23] for _ in users])
        wanted = np.take_along_axis(expected[users], items, axis=1)
        np.testing.assert_allclose(block(items), wanted, rtol=1e-4, atol=1e-5)


def test_no_pair_is_scored_twice(known, monkeypatch):
    population, fitted = known
    scorer = PairScorer(build_stage("mlp", fitted, options={"hidden": (4,)}), fitted, population)
    counted = []
    of_pairs = scorer.of_pairs

    def counting(users, rows, items):
        counted.append(len(rows))
        return of_pairs(users, rows, items)

    monkeypatch.setattr(scorer, "of_pairs", counting)
    block = scorer.block(np.array([0, 1]))
    first = block(np.array([[1, 2, 3], [4, 5, 6]]))
    second = block(np.array([[3, 9, 1], [6, 5, 4]]))
    assert counted == [6, 1]
    assert second[0, 0] == first[0, 2]
    assert second[1].tolist() == first[1, ::-1].tolist()
