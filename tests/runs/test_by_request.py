"""Features that are standardised by request, in training, evaluation, scores and vectors."""

import numpy as np
import polars as pl
import pytest

from cascaderank.errors import ConfigError
from cascaderank.runs.load import load_run
from cascaderank.runs.score_run import score_run
from cascaderank.schema import Schema, Transform
from cascaderank.simulation.population import read_population
from tests.data.shops import SCHEMA, shop_frame, write_shop
from tests.runs.conftest import STAGES, untrained

BY_REQUEST = Schema(
    features=tuple(
        f.model_copy(update={"transform": Transform.STANDARDISE_BY_REQUEST})
        if f.name == "price"
        else f
        for f in SCHEMA.features
    )
)
SCORES = ["score/retrieval", "score/ranking"]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs") / "shop"
    frame = shop_frame(40).with_columns(price=pl.col("price").list.eval(pl.element() ** 2))
    return write_shop(path, [frame], schema=BY_REQUEST)


@pytest.fixture(scope="module")
def folder(log, tmp_path_factory):
    stages = {**STAGES, "ranking": {**STAGES["ranking"], "prior": "price", "linear_skip": True}}
    return untrained(tmp_path_factory.mktemp("runs") / "run", log, stages)


def test_scores_of_raw_columns_are_those_of_the_log(log, folder, tmp_path):
    score_run(folder, log.path, to=tmp_path / "s.parquet", part="all")
    of_log = pl.read_parquet(tmp_path / "s.parquet")
    frame = pl.concat(list(log.frames()))
    rows = frame.explode("video", "price", "level", "position", "label", "feedback")
    for of_frame in (load_run(folder).score(frame).explode(SCORES), load_run(folder).score(rows)):
        for name in SCORES:
            np.testing.assert_allclose(of_frame[name], of_log[name], atol=1e-6)


def test_the_scale_and_origin_of_the_values_of_a_request_have_no_effect(log, folder):
    run, frame = load_run(folder), pl.concat(list(log.frames()))
    price = pl.col("price").list.eval(pl.element() * 8 - 100)
    for name in SCORES:
        a, b = (run.score(f)[name].explode() for f in (frame, frame.with_columns(price=price)))
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_without_the_other_candidates_a_value_is_another(log, folder):
    """The reason why the documentation asks for all candidates of a request."""
    run, frame = load_run(folder), pl.concat(list(log.frames()))
    rows = frame.explode("video", "price", "level", "position", "label", "feedback")
    best = rows.filter(pl.int_range(pl.len()).over("request_id") == 0)
    whole = run.score(rows).filter(pl.int_range(pl.len()).over("request_id") == 0)
    assert np.abs(run.score(best)["score/ranking"] - whole["score/ranking"]).max() > 0.01
    np.testing.assert_allclose(
        run.score(best)["score/retrieval"], whole["score/retrieval"], atol=1e-6
    )


def test_items_have_no_vectors_of_such_features(log, tmp_path):
    stages = {**STAGES, "retrieval": {**STAGES["retrieval"], "features": ["user", "price"]}}
    run = untrained(tmp_path / "run", log, stages)
    with pytest.raises(ConfigError, match="the vector of an item reads price, standardised by"):
        score_run(run, log.path, vectors=tmp_path / "v", item="video", part="all")
    assert not list((tmp_path / "v").glob("*"))


def test_simulated_users_cannot_see_such_features(log):
    with pytest.raises(
        ConfigError, match=r'price also depends .*data.features = \["\*", "!price"\]'
    ):
        read_population(log, np.arange(40), user="user", item="video")
