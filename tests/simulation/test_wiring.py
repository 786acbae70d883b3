"""Simulated funnels use the requests, seeds, histories and noise that they claim to use."""

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import rankdata

from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import split_requests
from cascaderank.progress import Silent
from cascaderank.runs.data import run_data
from cascaderank.runs.load import load_run
from cascaderank.simulation.calibration import Platt
from cascaderank.simulation.funnel import Funnel, FunnelStage, draw_requests
from cascaderank.simulation.population import read_population
from cascaderank.simulation.scoring import PairScorer
from cascaderank.simulation.simulate import simulate, simulation_summary
from cascaderank.simulation.teachers import train_teachers


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    return tmp_path_factory.mktemp("teachers")


def test_only_what_was_shown_counts_as_positive():
    funnel = Funnel(candidates=20, pool=5, stages=(FunnelStage(name="rank", keep=6, negatives=9),))
    everything = np.ones((3, 40), bool)
    requests = draw_requests(
        funnel,
        users=np.arange(3),
        number=0,
        pool=everything,
        scorers=[lambda items: -items.astype(np.float32)],
        truth=lambda items: (items % 2).astype(np.float32),
    )
    positives = requests.positives()
    assert (positives == (requests.levels == 3)).all()
    assert 0 < positives.sum() < requests.labels.sum()


def test_each_stage_has_noise_of_its_own():
    stages = (
        FunnelStage(name="prerank", keep=200, negatives=0, noise=1.0),
        FunnelStage(name="rank", keep=100, negatives=0, noise=1.0),
    )
    reached = []

    def equal(items):
        reached.append(items)
        return np.zeros(items.shape, np.float32)

    requests = draw_requests(
        Funnel(candidates=400, stages=stages),
        users=np.arange(4),
        number=0,
        pool=np.ones((4, 400), bool),
        scorers=[equal, equal],
        truth=lambda items: np.zeros(items.shape, np.float32),
    )
    best_of_prerank = reached[1][:, :100]
    for shown, best in zip(requests.items, best_of_prerank, strict=True):
        assert 20 < len(set(shown) & set(best)) < 80, "50 expected of 100"


def test_the_truth_is_not_the_model_that_plays_a_stage(simulation):
    settings = simulation(train__seed=4)
    seeds = {of: settings.run_of(of, ("*",)).train.seed for of in settings.teachers()}
    assert seeds["prerank"] == seeds["rank"] == 4
    assert seeds["truth"] != 4


def test_teachers_are_calibrated_on_validation_and_reported_on_test_requests(simulation, tmp_path):
    settings = simulation().run_of("rank", ("*",))
    found = train_teachers({"rank": settings}, tmp_path, threshold=1.0, progress=Silent())
    cascade = load_run(tmp_path / "rank").cascade
    scores, labels = {}, {}
    with run_data(settings) as data, torch.no_grad():
        for part in ("validation", "test"):
            loader = RequestLoader(data.encoded, getattr(data.split, part), batch_size=10_000)
            (batch,) = loader.epoch(0)
            scores[part] = cascade.stages["rank"](batch)[batch.mask].double().numpy()
            labels[part] = (batch.labels[batch.mask] >= 1.0).double().numpy()
    report = found["rank"].report
    line = Platt.fit(scores["validation"], labels["validation"])
    other = Platt.fit(scores["test"], labels["test"])
    assert report["platt"] == pytest.approx(line.model_dump(), rel=1e-3)
    assert report["platt"] != pytest.approx(other.model_dump(), rel=1e-3)
    positive = labels["test"] == 1
    wins = rankdata(scores["test"])[positive].sum() - positive.sum() * (positive.sum() + 1) / 2
    assert report["auc"] == pytest.approx(wins / positive.sum() / (~positive).sum(), abs=1e-6)
    assert report["candidates"] == len(labels["test"]) != len(labels["validation"])
    assert report["positive"] == pytest.approx(labels["test"].mean())


def test_stages_rank_by_histories_of_the_length_that_teachers_were_trained_on(
    simulation, watched, tmp_path
):
    rank = {"model": "mlp", "keep": 8, "negatives": 9, "hidden": [4]}
    settings = simulation(
        data__history_length=1, stages={"rank": rank}, train__learning_rate=0.1, train__epochs=3
    )
    simulate(settings, tmp_path / "log", runs=tmp_path / "runs")
    log = RequestLog.open(watched)
    split = split_requests(log, settings.data.split)
    population = read_population(log, split.train, user="user_id", item="video_id")
    run = load_run(tmp_path / "runs" / "rank")
    names = ["user_id", "video_id", "level"]
    simulated = pl.concat(RequestLog.open(tmp_path / "log").frames(names))

    def passed_on_the_best(history_length):
        """Share of requests whose exposed candidates have higher scores than its negatives."""
        scorer = PairScorer(
            run.cascade.stages["rank"], run.schema, population, history_length=history_length
        )
        users = population.users["user_id"].to_list()
        scores = scorer.block(np.arange(len(users)))(
            np.tile(np.arange(population.items.height), (len(users), 1))
        )
        right = []
        for user, videos, levels in simulated.iter_rows():
            own = scores[users.index(user), population.places(pl.Series(videos))]
            level = np.array(levels)
            right.append(own[level >= 2].min() >= own[level == 1].max() - 1e-6)
        return np.mean(right)

    assert passed_on_the_best(1) == 1
    assert passed_on_the_best(50) < 1, "vacuous: histories change no order"


def test_notes_tell_the_positives_of_a_request_of_each_part(simulation, teachers, tmp_path):
    simulate(simulation(funnel__requests=3), tmp_path / "log", runs=teachers)
    log = RequestLog.open(tmp_path / "log")
    frame = pl.concat(log.frames(["request_id", "feedback"]))
    for part, requests in (("test", 20), ("validation", 20), ("train", 60)):
        of_part = frame.filter(pl.col("request_id").str.contains(f"-{part}"))
        assert of_part.height == requests
        mean = of_part["feedback"].list.sum().mean()
        assert mean > 0
        told_mean = log.manifest.extra["notes"][f"exposed_positive_per_{part}_request"]
        assert told_mean == pytest.approx(mean, abs=5e-4)
    assert simulation_summary(log)["settings"]["funnel"]["requests"] == 3


def test_another_seed_draws_other_users(simulation, teachers, tmp_path):
    drawn = set()
    for seed in range(2):
        to = tmp_path / str(seed)
        simulate(simulation(funnel__users=5, funnel__seed=seed), to, runs=teachers)
        drawn.add(frozenset(pl.concat(RequestLog.open(to).frames(["user_id"]))["user_id"]))
    assert [len(users) for users in drawn] == [5, 5]
