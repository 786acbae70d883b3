"""Noise on the request vector: reproducible, of the stated size, and with right propensities."""

import numpy as np
import polars as pl
import pytest
import torch

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError
from cascaderank.evaluation import ExposureLog, off_policy_value
from cascaderank.serving import (
    Condition,
    Exploration,
    Filters,
    LogSettings,
    Ranker,
    Rerank,
    Sampling,
    ServedLogWriter,
    export_run,
)
from cascaderank.serving.exploration_propensities import served_propensities
from tests.runs.conftest import untrained
from tests.serving.conftest import SEARCHING, market_frame, request_of
from tests.serving.test_served_log import options_of, served_as

REQUEST = request_of(market_frame(12).row(3, named=True))
EVERY = Sampling(size=30)


def test_noise_has_the_stated_deviation_and_depends_on_seed_and_request():
    vector = np.array([3.0, 0.0, 4.0, 0.0], np.float32)
    exploration = Exploration(scale=0.2, seed=5)
    noise = np.stack([exploration.noisy(vector, f"r{i}") for i in range(4000)]) - vector
    np.testing.assert_allclose(noise.std(axis=0), 0.2 * 5 / 2, rtol=0.05)
    np.testing.assert_allclose(noise.mean(axis=0), 0, atol=0.04)
    np.testing.assert_allclose(np.corrcoef(noise.T), np.eye(4), atol=0.08)
    again = exploration.noisy(vector, "r7") - vector
    assert (again == noise[7]).all()
    assert (
        Exploration(scale=0.2, seed=6).noisy(vector, "r7") != exploration.noisy(vector, "r7")
    ).all()
    assert (Exploration(scale=0.0).noisy(vector, "a") == vector).all()


def test_scores_are_those_of_the_noisy_vector(searcher):
    exploration = Exploration(scale=0.5)
    answer = searcher.rank(REQUEST, exploration=exploration, request_id="a", trace=True)
    stage = searcher.plans[0]
    encoded = searcher._shared.encoder.request(REQUEST)
    vector = exploration.noisy(stage.stage.request_vectors(encoded)[0].numpy(), "a")
    expected = stage.parts.numpy() @ vector
    np.testing.assert_allclose(answer.trace.scores["retrieval"], expected, atol=1e-6)
    same = searcher.rank(REQUEST, exploration=exploration, request_id="a")
    assert (same.ids, same.scores) == (answer.ids, answer.scores)
    plain = searcher.rank(REQUEST, trace=True)
    assert not np.allclose(plain.trace.scores["retrieval"], expected)
    # Later stages have no noise.
    both = answer.trace.kept["retrieval"] & plain.trace.kept["retrieval"]
    assert both.any()
    np.testing.assert_allclose(
        answer.trace.scores["preranking"][both], plain.trace.scores["preranking"][both], atol=1e-6
    )


def test_rows_that_replace_features_have_the_same_noise(searcher):
    row = market_frame(12).row(3, named=True)
    by_key, by_row = (
        searcher.rank(
            REQUEST, given, exploration=Exploration(scale=0.7), request_id="a", trace=True
        )
        for given in (row["video"], {"video": row["video"], "price": row["price"]})
    )
    for stage, scores in by_key.trace.scores.items():
        np.testing.assert_allclose(by_row.trace.scores[stage], scores, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top": 2},
        {"quotas": {"retrieval": 12}},
        {"filters": Filters(where=[Condition("shop", "=", "s1")])},
    ],
)
def test_propensities_are_the_frequencies_of_being_served(searcher, options):
    exploration, times = Exploration(scale=1.0), 600
    answer = searcher.rank(
        REQUEST, exploration=exploration, request_id="one", sampling=EVERY, **options
    )
    keys = answer.logged.keys
    propensities = served_propensities(answer.logged.explored, exploration, draws=2000)
    counts = dict.fromkeys(keys, 0)
    for number in range(times):
        found = searcher.rank(REQUEST, exploration=exploration, request_id=f"x{number}", **options)
        for key in found.ids:
            counts[key] += 1
    frequencies = np.array([counts[key] for key in keys]) / times
    pooled = (frequencies + propensities) / 2
    error = np.sqrt(pooled * (1 - pooled) * (1 / times + 1 / 2000))
    assert (abs(propensities - frequencies) <= 4.5 * error + 1 / times).all()
    assert 0.05 < propensities.max() < 1 or (propensities > 0.05).sum() > len(answer.ids)
    assert propensities.sum() == pytest.approx(len(answer.ids))


def test_propensities_of_rows_and_without_noise(searcher):
    row = market_frame(12).row(11, named=True)
    rows = {"video": row["video"], "price": [1.0] * len(row["video"])}
    answer = searcher.rank(
        request_of(row), rows, exploration=Exploration(scale=1e-6), request_id="a", sampling=EVERY
    )
    found = served_propensities(answer.logged.explored, Exploration(scale=1e-6), draws=5)
    served = [key in answer.ids for key in answer.logged.keys]
    assert found.tolist() == [float(s) for s in served]


def test_the_log_has_what_off_policy_estimates_need(searcher, tmp_path):
    settings = LogSettings(
        sampling=EVERY, exploration=Exploration(scale=1.0, seed=3), propensity_draws=400
    )
    with ServedLogWriter(tmp_path / "log", searcher, settings) as log:
        for number in range(60):
            answer = searcher.rank(REQUEST, **options_of(log, f"{number}"))
            log.record(served_as(f"{number}", REQUEST, answer, searcher))
            for key in answer.ids:
                log.feedback(f"{number}", key, float(key % 2))
    part = RequestLog.open(tmp_path / "log").manifest.parts[0]
    frame = pl.read_parquet(tmp_path / "log" / part.path, glob=False)
    assert frame["served/exploration"].unique().to_list() == [1.0]
    assert frame["served/exploration_seed"].unique().to_list() == [3]
    rewards, levels, propensities = (
        np.array(frame[name].to_list()) for name in ("feedback", "level", "served/propensity")
    )
    exposures = ExposureLog(
        rewards=rewards, exposed=levels == 3, propensities=np.where(levels == 3, propensities.clip(1 / 400), propensities)
    )  # fmt: skip
    value = off_policy_value(exposures, exposures.propensities, resamples=0)
    assert value.estimates["ips"].mean == pytest.approx(rewards.sum(1).mean())
    # The value without noise, which is known: its list.
    plain = searcher.rank(REQUEST).ids
    target = np.array([[float(k in plain) for k in keys] for keys in frame["video"].to_list()])
    estimate = off_policy_value(exposures, target, most_unsupported=1.0, resamples=0)
    assert estimate.estimates["snips"].mean == pytest.approx(sum(k % 2 for k in plain), abs=0.9)
    # Noise can be drawn again from the log.
    again = searcher.rank(REQUEST, exploration=Exploration(scale=1.0, seed=3), request_id="17")
    row = frame.row(by_predicate=pl.col("request_id") == "17", named=True)
    assert row["video"][: len(again.ids)] == again.ids


def test_re_ranking_and_left_out_stages_have_no_propensities(searching_bundle):
    ranker, options = Ranker.load(searching_bundle), {"request_id": "a", "sampling": EVERY}
    exploration = Exploration(scale=1.0)
    capped = ranker.rank(
        REQUEST, rerank=Rerank(caps={"shop": 1}), exploration=exploration, **options
    )
    assert capped.logged.explored is None
    ranker.plans[1].pace.took(1e9, 8)
    late = ranker.rank(REQUEST, deadline_ms=10_000, exploration=exploration, **options)
    assert late.degraded
    assert late.logged.explored is None
    assert np.isnan(late.logged.scores["preranking"]).all()


def test_exploration_needs_vectors(market, tmp_path):
    stages = {**SEARCHING, "retrieval": {**SEARCHING["retrieval"], "model": "mlp"}}
    run = untrained(tmp_path / "run", market, stages, catalogue={"item": "video"})
    export_run(run, tmp_path / "bundle")
    ranker = Ranker.load(tmp_path / "bundle")
    with pytest.raises(
        ConfigError, match="needs a first stage with vectors, such as two_tower; 'retr"
    ):
        ranker.rank(REQUEST, exploration=Exploration(scale=0.1))
    with pytest.raises(ConfigError, match="serve without exploration"):
        ServedLogWriter(tmp_path / "log", ranker, LogSettings(exploration=Exploration(scale=0.1)))
    assert ranker.rank(REQUEST, exploration=Exploration(scale=0)).ids == ranker.rank(REQUEST).ids


@pytest.mark.parametrize("scale", [-0.1, float("nan"), float("inf")])
def test_a_scale_is_a_number_of_at_least_0(scale):
    with pytest.raises(ConfigError, match="exploration must be a number of at least 0"):
        Exploration(scale=scale)
    with pytest.raises(ConfigError, match="draws must be at least 1; got 0"):
        served_propensities(None, Exploration(scale=1), draws=0)
    assert torch.is_grad_enabled()
