"""The planted ceiling is what it says it is: not beaten, and nearly reached by simple models."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from cascaderank.data.funnel.ceiling import Ceiling, alive_after, planted_scores
from cascaderank.data.funnel.funnel_settings import FunnelSettings
from cascaderank.data.funnel.traffic import block_size, deviation, draw_block
from cascaderank.data.funnel.world import make_world
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.sources import SOURCES
from cascaderank.metrics import cascade_recall_metric


class Drawn:
    """A funnel in memory, with its planted scores."""

    def __init__(self, **options):
        self.settings = settings = FunnelSettings(**{"requests": 2400, **options})
        world, ceiling = make_world(settings), Ceiling(settings)
        size = block_size(settings)
        self.blocks = blocks = [
            draw_block(settings, world, n) for n in range(-(-settings.requests // size))
        ]
        for block in blocks:
            ceiling.add(block)
        self.ceiling = ceiling
        self.parts = np.concatenate([b.parts for b in blocks], axis=1)
        self.estimates = {
            part: np.concatenate([b.estimates[part] for b in blocks]) for part in settings.estimates
        }
        self.scores = np.concatenate([planted_scores(settings, b) for b in blocks], axis=1)
        self.mask = np.concatenate([b.choice.mask for b in blocks])
        levels = np.concatenate([b.choice.levels for b in blocks])
        self.top = (levels == settings.stages + 1) & self.mask

    def views(self, stage):
        """What a stage sees: parts, and of some what an estimate lets it expect; by part."""
        return {
            part: self.parts[part]
            if share == 1
            else share**0.5 * deviation(part) * self.estimates[part]
            for part, share in enumerate(self.settings.knowledge[stage])
            if share
        }

    def everything(self):
        """Scores of stages that all know everything."""
        known = FunnelSettings(**{**vars(self.settings), "complementarity": 0.0})
        return np.concatenate([planted_scores(known, b) for b in self.blocks], axis=1)

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
        {"stages": 2, "complementarity": 0.25},
        {"stages": 3, "complementarity": 0.3, "noise": 1.5},
        {"stages": 2, "complementarity": 0.75},
        {"stages": 2, "complementarity": 0.95, "noise": 0.4},
    ],
    ids=[
        "default",
        "little noise",
        "ragged",
        "shared",
        "much noise, shared",
        "private",
        "all private",
    ],
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
    if drawn.settings.complementarity > 0.5:
        pytest.skip("here late stages do not know what early ones know")
    kept = [alive_after(own[None], drawn.mask, [12])[0] for own in drawn.scores]
    recalls = [(k & drawn.top).sum() / drawn.top.sum() for k in kept]
    assert all(late > early + 0.02 for early, late in pairwise(recalls))


def test_a_first_stage_that_guesses_costs_much(drawn):
    guesses = np.random.default_rng(0).random(drawn.scores[:1].shape)
    broken = drawn.recall(np.concatenate([guesses, drawn.scores[1:]])).mean().item()
    assert broken < drawn.ceiling.joint_recall - 0.1


def utilities(drawn):
    """What each stage sees of the utility, added up."""
    return np.stack([sum(drawn.views(t).values()) for t in range(drawn.settings.stages)])


def own_parts(drawn):
    """The best single guess: the part that a stage knows by itself, alone."""
    return drawn.parts


def fitted(drawn, make_model, among=None):
    """A model per stage, fitted on what it sees of the first two thirds.

    Args:
        among: candidates that each stage learns from, ``[stages, requests, list]``; all if not
            given.
    """
    train = drawn.settings.requests * 2 // 3
    scores = []
    for stage in range(drawn.settings.stages):
        inputs = np.stack([*drawn.views(stage).values()], axis=-1)
        real = (drawn.mask if among is None else among[stage])[:train]
        model = make_model().fit(inputs[:train][real], drawn.top[:train][real])
        flat = inputs.reshape(-1, inputs.shape[-1])
        scores.append(model.predict_proba(flat)[:, 1].reshape(inputs.shape[:2]))
    return np.stack(scores)


def logistic(drawn):
    return fitted(drawn, LogisticRegression)


def boosted(drawn):
    return fitted(drawn, lambda: HistGradientBoostingClassifier(max_iter=60, random_state=0))


def boosted_among_survivors(drawn):
    """Each stage learns from what the planted stages before it leave."""
    left = alive_after(drawn.scores, drawn.mask, drawn.settings.kept)
    among = np.stack([drawn.mask, *left[:-1]])
    return fitted(drawn, lambda: HistGradientBoostingClassifier(max_iter=60, random_state=0), among)


@pytest.mark.parametrize("rival", [utilities, own_parts, logistic, boosted])
def test_nothing_that_sees_the_same_beats_the_ceiling(drawn, rival):
    held_out = slice(drawn.settings.requests * 2 // 3, None)
    gain = drawn.recall(rival(drawn), held_out) - drawn.recall(drawn.scores, held_out)
    assert gain.mean() < 2.5 * gain.std() / len(gain) ** 0.5
    assert gain.std() > 0  # they do differ


def test_stages_that_saw_everything_would_beat_the_ceiling(drawn):
    gain = drawn.recall(drawn.everything()) - drawn.recall(drawn.scores)
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    assert drawn.recall(drawn.everything()).mean().item() > drawn.ceiling.bound - 1e-6


def test_if_all_stages_know_the_same_nothing_is_better():
    drawn = Drawn(stages=3, complementarity=0.0)
    np.testing.assert_array_equal(drawn.scores, drawn.everything())
    assert drawn.ceiling.joint_recall == drawn.ceiling.bound
    assert drawn.ceiling.survival == drawn.ceiling.recall


@pytest.mark.parametrize("stages", [2, 3])
def test_a_stage_that_knows_one_part_only_ranks_by_it(stages):
    drawn = Drawn(stages=stages, complementarity=1.0)
    by_part = drawn.recall(drawn.parts).mean().item()
    assert by_part == pytest.approx(drawn.ceiling.joint_recall, abs=1e-3)
    held_out = slice(drawn.settings.requests * 2 // 3, None)
    gain = drawn.recall(boosted(drawn), held_out) - drawn.recall(drawn.scores, held_out)
    assert gain.mean() < 2.5 * gain.std() / len(gain) ** 0.5


def test_what_stages_know_differs_and_what_is_logged_does_not():
    by_share = {c: Drawn(complementarity=c, stages=3) for c in (0.0, 0.25, 0.5, 0.75, 1.0)}
    ceilings = [drawn.ceiling for drawn in by_share.values()]
    for drawn in by_share.values():
        np.testing.assert_array_equal(drawn.parts, by_share[0.5].parts)
        np.testing.assert_array_equal(drawn.top, by_share[0.5].top)
        assert drawn.ceiling.joint_recall <= drawn.ceiling.bound
    assert len({ceiling.bound for ceiling in ceilings}) == 1  # together they know the same
    assert all(a.joint_recall > b.joint_recall + 0.004 for a, b in pairwise(ceilings))


def test_stages_in_part_ignorant_of_each_other_can_beat_the_ceiling_but_not_the_bound():
    """What an earlier stage dropped tells a later one something that it does not see itself."""
    drawn = Drawn(stages=3, complementarity=0.75, requests=6000)
    held_out = slice(4000, None)
    recall = drawn.recall(boosted_among_survivors(drawn), held_out)
    gain = recall - drawn.recall(drawn.scores, held_out)
    assert gain.mean() > 2.5 * gain.std() / len(gain) ** 0.5
    assert recall.mean() < drawn.ceiling.bound - 0.05


@pytest.mark.parametrize(
    ("stages", "ragged", "complementarity"),
    [
        (2, False, 0.5),
        (2, True, 0.5),
        (3, False, 0.5),
        (2, False, 0.0),
        (2, True, 0.1),
        (2, False, 0.6),
        (3, False, 0.8),
        (3, True, 1.0),
    ],
)
def test_planted_scores_are_probabilities(stages, ragged, complementarity, monkeypatch):
    # The usual number of points is coarse in the tail, which changes probabilities but no order.
    monkeypatch.setattr("cascaderank.data.funnel.ceiling._POINTS", 512)
    # Levels so large that candidates are independent given the cut-offs, as the formula has it.
    drawn = Drawn(
        requests=800,
        stages=stages,
        ragged=ragged,
        ground_truth=60,
        per_level=60,
        complementarity=complementarity,
    )
    for scores in drawn.scores:
        scores, top = scores[drawn.mask], drawn.top[drawn.mask]
        for low in np.arange(0, 1, 0.1):
            inside = (scores >= low) & (scores < low + 0.1)
            if inside.sum() > 1000:
                assert scores[inside].mean() == pytest.approx(top[inside].mean(), abs=0.04)


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
