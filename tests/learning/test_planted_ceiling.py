"""The planted ceiling is what it says it is: not beaten, and nearly reached by simple models."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from cascaderank.data.funnel.ceiling import Ceiling, alive_after, planted_scores
from cascaderank.data.funnel.settings import FunnelSettings
from cascaderank.data.funnel.traffic import block_size, draw_block
from cascaderank.data.funnel.world import make_world
from cascaderank.data.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.metrics import cascade_recall_metric


class Drawn:
    """A funnel in memory, with its planted scores."""

    def __init__(self, **options):
        self.settings = settings = FunnelSettings(**{"requests": 2400, **options})
        world, ceiling = make_world(settings), Ceiling(settings)
        size = block_size(settings)
        blocks = [draw_block(settings, world, n) for n in range(-(-settings.requests // size))]
        for block in blocks:
            ceiling.add(block)
        self.ceiling = ceiling
        self.parts = np.concatenate([b.parts for b in blocks], axis=1)
        self.scores = np.concatenate([planted_scores(settings, b) for b in blocks], axis=1)
        self.mask = np.concatenate([b.choice.mask for b in blocks])
        levels = np.concatenate([b.choice.levels for b in blocks])
        self.top = (levels == settings.stages + 1) & self.mask

    def recall(self, scores, rows=slice(None)):
        """Joint recall of each request, by the metric of the library.

        Lists are shuffled: they come best level first, and a rival whose scores tie must not
        profit from that.
        """
        order = np.random.default_rng(0).random(self.top.shape).argsort(axis=1)[rows]
        return cascade_recall_metric(
            torch.tensor(np.take_along_axis(scores[:, rows], order[None], axis=2)),
            torch.tensor(np.take_along_axis(self.top[rows], order, axis=1)).float(),
            quotas=self.settings.kept,
            threshold=1.0,
            mask=torch.tensor(np.take_along_axis(self.mask[rows], order, axis=1)),
        )


@pytest.fixture(
    scope="module",
    params=[
        {"stages": 2},
        {"stages": 3, "noise": 0.4},
        {"stages": 3, "ragged": True, "quotas": (18, 14, 11)},
    ],
    ids=["default", "little noise", "ragged"],
)
def drawn(request):
    return Drawn(**request.param)


def test_the_ceiling_is_the_recall_of_the_planted_scores(drawn):
    assert drawn.ceiling.joint_recall == pytest.approx(drawn.recall(drawn.scores).mean().item())
    assert drawn.ceiling.random_recall + 0.2 < drawn.ceiling.joint_recall < 0.999


def test_a_cascade_that_guesses_reaches_the_random_recall(drawn):
    guesses = np.random.default_rng(0).random(drawn.scores.shape)
    assert drawn.recall(guesses).mean().item() == pytest.approx(
        drawn.ceiling.random_recall, abs=0.015
    )


def test_early_stages_know_less_than_late_ones(drawn):
    kept = [alive_after(own[None], drawn.mask, [12])[0] for own in drawn.scores]
    recalls = [(k & drawn.top).sum() / drawn.top.sum() for k in kept]
    assert all(late > early + 0.03 for early, late in pairwise(recalls))


def test_a_first_stage_that_guesses_costs_much(drawn):
    guesses = np.random.default_rng(0).random(drawn.scores[:1].shape)
    broken = drawn.recall(np.concatenate([guesses, drawn.scores[1:]])).mean().item()
    assert broken < drawn.ceiling.joint_recall - 0.1


def utilities(drawn):
    """What each stage sees of the utility, added up."""
    return np.stack([drawn.parts[list(p)].sum(0) for p in drawn.settings.stage_parts])


def last_views(drawn):
    """The best single guess: the last part that a stage sees, alone."""
    return np.stack([drawn.parts[p[-1]] for p in drawn.settings.stage_parts])


def fitted(drawn, make_model):
    """A model per stage, fitted on the parts that it sees of the first two thirds."""
    train = drawn.settings.requests * 2 // 3
    scores = []
    for seen in drawn.settings.stage_parts:
        inputs = np.moveaxis(drawn.parts[list(seen)], 0, -1)
        real = drawn.mask[:train]
        model = make_model().fit(inputs[:train][real], drawn.top[:train][real])
        flat = inputs.reshape(-1, len(seen))
        scores.append(model.predict_proba(flat)[:, 1].reshape(inputs.shape[:2]))
    return np.stack(scores)


def logistic(drawn):
    return fitted(drawn, LogisticRegression)


def boosted(drawn):
    return fitted(drawn, lambda: HistGradientBoostingClassifier(max_iter=60, random_state=0))


@pytest.mark.parametrize("rival", [utilities, last_views, logistic, boosted])
def test_nothing_that_sees_the_same_beats_the_ceiling(drawn, rival):
    held_out = slice(drawn.settings.requests * 2 // 3, None)
    gain = drawn.recall(rival(drawn), held_out) - drawn.recall(drawn.scores, held_out)
    assert gain.mean() < 2.5 * gain.std() / len(gain) ** 0.5
    assert gain.std() > 0  # they do differ


def test_a_first_stage_that_saw_everything_would_beat_the_ceiling(drawn):
    gain = drawn.recall(drawn.scores[-1:].repeat(len(drawn.scores), axis=0)) - drawn.recall(
        drawn.scores
    )
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5


@pytest.mark.parametrize(("stages", "ragged"), [(2, False), (2, True), (3, False)])
def test_planted_scores_are_probabilities(stages, ragged):
    # Levels so large that candidates are independent given the cut-offs, as the formula has it.
    drawn = Drawn(requests=800, stages=stages, ragged=ragged, ground_truth=60, per_level=60)
    for stage, scores in enumerate(drawn.scores):
        scores, top = scores[drawn.mask], drawn.top[drawn.mask]
        # Two unseen parts are integrated out by few points, which is coarse in the tail.
        tolerance = 0.045 if stages - stage > 2 else 0.03
        for low in np.arange(0, 1, 0.1):
            inside = (scores >= low) & (scores < low + 0.1)
            if inside.sum() > 1000:
                assert scores[inside].mean() == pytest.approx(top[inside].mean(), abs=tolerance)


def test_simple_models_of_the_logged_features_come_near_the_ceiling(tmp_path):
    """Nothing but what the manifest allows: rates per segment and category, and a logistic model."""
    SOURCES["synthetic"]([], tmp_path / "log", requests=4000, users=400, items=1000, seed=1)
    log = RequestLog.open(tmp_path / "log")
    planted = log.manifest.extra["planted"]
    rows = pl.concat(list(log.frames())).sort("request_id")
    train = 3200

    def column(name):
        return np.stack(rows[name].to_numpy()).astype(float)

    top = column("level") == 3
    cell = rows["segment"].to_numpy()[:, None] * 20 + column("category").astype(int)
    item = column("item_id").astype(int)
    inputs = [
        log_odds(cell, top, train),
        log_odds(item, top, train),
        shares(rows, column("category")),
        column("quality"),
        np.log(column("price")) * rows["sensitivity"].to_numpy()[:, None],
    ]
    scores = []
    for extra in ([], [column("match_2"), column("gap_2") ** 2]):
        features = np.stack([*inputs, *extra], axis=-1)
        features /= features.std((0, 1))
        model = LogisticRegression().fit(
            features[:train].reshape(-1, features.shape[-1]), top[:train].ravel()
        )
        flat = features[train:].reshape(-1, features.shape[-1])
        scores.append(model.decision_function(flat).reshape(-1, top.shape[1]))
    recall = cascade_recall_metric(
        torch.tensor(np.stack(scores)),
        torch.tensor(top[train:], dtype=torch.float64),
        quotas=planted["quotas"],
        threshold=1.0,
    )
    reached = recall.mean().item() / planted["joint_recall"]
    assert 0.93 < reached < 1.01


def log_odds(codes, top, train):
    """Smoothed log-odds of the ground truth by code, from the training requests."""
    seen = np.bincount(codes[:train].ravel(), minlength=codes.max() + 1)
    good = np.bincount(codes[:train].ravel(), top[:train].ravel(), minlength=codes.max() + 1)
    rate = (good + 5) / (seen + 20)
    return np.log(rate / (1 - rate))[codes]


def shares(rows, category):
    """Share of each candidate's category in the history of its request."""
    out = np.zeros_like(category)
    for row, past in enumerate(rows["history_category"].to_list()):
        counts = np.bincount(past, minlength=20) / max(len(past), 1)
        out[row] = counts[category[row].astype(int)]
    return out
