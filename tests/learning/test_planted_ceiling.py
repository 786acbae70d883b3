"""No model exceeds the planted ceiling, and simple models come close to it."""

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


class PlantedFunnel:
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
        self.factors = np.concatenate([b.factors for b in blocks], axis=1)
        self.estimates = {
            part: np.concatenate([b.estimates[part] for b in blocks]) for part in settings.estimates
        }
        self.scores = np.concatenate([planted_scores(settings, b) for b in blocks], axis=1)
        self.mask = np.concatenate([b.choice.mask for b in blocks])
        levels = np.concatenate([b.choice.levels for b in blocks])
        self.top = (levels == settings.stages + 1) & self.mask

    def views(self, stage):
        """Inputs of a stage by part: the part itself, or its expectation given an estimate."""
        return {
            part: self.parts[part]
            if share == 1
            else share**0.5 * deviation(part) * self.estimates[part] * self.factors[part]
            for part, share in enumerate(self.settings.knowledge[stage])
            if share
        }

    def everything(self):
        """Scores of stages that have all parts as inputs."""
        known = FunnelSettings(**{**vars(self.settings), "complementarity": 0.0})
        return np.concatenate([planted_scores(known, b) for b in self.blocks], axis=1)

    def recall(self, scores, rows=slice(None)):
        """Joint recall of each request, by the metric of the library.

        Lists are shuffled: they are ordered by level, best first, which must not favour a rival
        with tied scores.
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
        {"stages": 3, "complementarity": 0.4, "unevenness": 0.5},
        {"stages": 2, "complementarity": 0.75, "unevenness": 1.0},
    ],
    ids=[
        "default",
        "little noise",
        "ragged",
        "shared",
        "much noise, shared",
        "private",
        "all private",
        "uneven",
        "private, all uneven",
    ],
)
def funnel(request):
    return PlantedFunnel(**request.param)


def test_the_ceiling_is_the_recall_of_the_planted_scores(funnel):
    ties = 2e-3 if funnel.settings.unevenness else 0
    recall = funnel.recall(funnel.scores).mean().item()
    assert funnel.ceiling.joint_recall == pytest.approx(recall, abs=ties or 1e-6)
    assert funnel.ceiling.random_recall + 0.2 < funnel.ceiling.joint_recall < 0.999


def test_random_scores_have_the_random_recall(funnel):
    guesses = np.random.default_rng(0).random(funnel.scores.shape)
    assert funnel.recall(guesses).mean().item() == pytest.approx(
        funnel.ceiling.random_recall, abs=0.015
    )


def test_late_stages_have_a_higher_recall_than_early_ones(funnel):
    if funnel.settings.complementarity > 0.5:
        pytest.skip("here late stages do not have the inputs of early ones")
    kept = [alive_after(own[None], funnel.mask, [12])[0] for own in funnel.scores]
    recalls = [(k & funnel.top).sum() / funnel.top.sum() for k in kept]
    assert all(late > early + 0.02 for early, late in pairwise(recalls))


def test_a_random_first_stage_reduces_recall(funnel):
    guesses = np.random.default_rng(0).random(funnel.scores[:1].shape)
    broken = funnel.recall(np.concatenate([guesses, funnel.scores[1:]])).mean().item()
    assert broken < funnel.ceiling.joint_recall - 0.1


def utilities(funnel):
    """Sum of the inputs of each stage."""
    return np.stack([sum(funnel.views(t).values()) for t in range(funnel.settings.stages)])


def own_parts(funnel):
    """The part that only this stage has, by itself."""
    return funnel.parts


def fitted(funnel, make_model, among=None):
    """Fit one model per stage on its inputs in the first two thirds of the requests.

    Args:
        among: training candidates of each stage, ``[stages, requests, list]``; all by default.
    """
    train = funnel.settings.requests * 2 // 3
    scores = []
    for stage in range(funnel.settings.stages):
        inputs = np.stack([*funnel.views(stage).values(), *funnel.factors], axis=-1)
        real = (funnel.mask if among is None else among[stage])[:train]
        model = make_model().fit(inputs[:train][real], funnel.top[:train][real])
        flat = inputs.reshape(-1, inputs.shape[-1])
        scores.append(model.predict_proba(flat)[:, 1].reshape(inputs.shape[:2]))
    return np.stack(scores)


def logistic(funnel):
    return fitted(funnel, LogisticRegression)


def boosted(funnel):
    return fitted(funnel, lambda: HistGradientBoostingClassifier(max_iter=60, random_state=0))


def boosted_among_survivors(funnel):
    """Fit each stage on the candidates that the planted stages before it keep."""
    left = alive_after(funnel.scores, funnel.mask, funnel.settings.kept)
    among = np.stack([funnel.mask, *left[:-1]])
    return fitted(
        funnel, lambda: HistGradientBoostingClassifier(max_iter=60, random_state=0), among
    )


@pytest.mark.parametrize("rival", [utilities, own_parts, logistic, boosted])
def test_no_model_of_the_same_inputs_exceeds_the_ceiling(funnel, rival):
    held_out = slice(funnel.settings.requests * 2 // 3, None)
    gain = funnel.recall(rival(funnel), held_out) - funnel.recall(funnel.scores, held_out)
    assert gain.mean() < 2.5 * gain.std() / len(gain) ** 0.5
    assert gain.std() > 0  # the scores differ


def test_stages_with_all_inputs_exceed_the_ceiling(funnel):
    gain = funnel.recall(funnel.everything()) - funnel.recall(funnel.scores)
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    assert funnel.recall(funnel.everything()).mean().item() > funnel.ceiling.bound - 1e-6


def test_if_all_stages_have_the_same_inputs_the_ceiling_is_the_bound():
    funnel = PlantedFunnel(stages=3, complementarity=0.0)
    np.testing.assert_array_equal(funnel.scores, funnel.everything())
    assert funnel.ceiling.joint_recall == funnel.ceiling.bound
    assert funnel.ceiling.survival == funnel.ceiling.recall


@pytest.mark.parametrize("stages", [2, 3])
def test_the_ceiling_of_stages_with_one_part_each_is_ranking_by_that_part(stages):
    funnel = PlantedFunnel(stages=stages, complementarity=1.0)
    by_part = funnel.recall(funnel.parts).mean().item()
    assert by_part == pytest.approx(funnel.ceiling.joint_recall, abs=1e-3)
    held_out = slice(funnel.settings.requests * 2 // 3, None)
    gain = funnel.recall(boosted(funnel), held_out) - funnel.recall(funnel.scores, held_out)
    assert gain.mean() < 2.5 * gain.std() / len(gain) ** 0.5


def test_complementarity_changes_the_inputs_of_stages_but_not_the_log():
    by_share = {c: PlantedFunnel(complementarity=c, stages=3) for c in (0.0, 0.25, 0.5, 0.75, 1.0)}
    ceilings = [funnel.ceiling for funnel in by_share.values()]
    for funnel in by_share.values():
        np.testing.assert_array_equal(funnel.parts, by_share[0.5].parts)
        np.testing.assert_array_equal(funnel.top, by_share[0.5].top)
        assert funnel.ceiling.joint_recall <= funnel.ceiling.bound
    assert (
        len({ceiling.bound for ceiling in ceilings}) == 1
    )  # together, the stages have the same inputs
    assert all(a.joint_recall > b.joint_recall + 0.004 for a, b in pairwise(ceilings))


def test_stages_that_leave_room_for_what_only_a_later_one_can_rank_exceed_the_ceiling():
    """Three types of candidates, each ranked by one stage; the others keep more of them."""
    funnel = PlantedFunnel(stages=3, complementarity=1.0, unevenness=1.0)
    known = funnel.factors > 0
    odds = funnel.scores / np.maximum(1 - funnel.scores, 1e-6)
    generous = np.where(known, odds, odds * np.array([3, 3, 1])[:, None, None])
    gain = funnel.recall(generous) - funnel.recall(funnel.scores)
    assert gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    assert funnel.recall(generous).mean() < funnel.ceiling.bound


def test_stages_with_different_inputs_can_exceed_the_ceiling_but_not_the_bound():
    """The selection of an earlier stage carries information that the later one has no input for."""
    funnel = PlantedFunnel(stages=3, complementarity=0.75, requests=6000)
    held_out = slice(4000, None)
    recall = funnel.recall(boosted_among_survivors(funnel), held_out)
    gain = recall - funnel.recall(funnel.scores, held_out)
    assert gain.mean() > 2.5 * gain.std() / len(gain) ** 0.5
    assert recall.mean() < funnel.ceiling.bound - 0.05


@pytest.mark.parametrize(
    ("stages", "ragged", "complementarity", "unevenness"),
    [
        (2, False, 0.5, 0.0),
        (2, True, 0.5, 0.0),
        (3, False, 0.5, 0.0),
        (2, False, 0.0, 0.0),
        (2, True, 0.1, 0.0),
        (2, False, 0.6, 0.0),
        (3, False, 0.8, 0.0),
        (3, True, 1.0, 0.0),
        (2, False, 0.25, 1.0),
        (3, False, 0.3, 0.5),
    ],
)
def test_planted_scores_are_probabilities(stages, ragged, complementarity, unevenness, monkeypatch):
    # The usual number of points is coarse in the tail, which changes probabilities but no order.
    monkeypatch.setattr("cascaderank.data.funnel.ceiling._POINTS", 256)
    # Levels so large that candidates are independent given the cut-offs, as the formula has it.
    funnel = PlantedFunnel(
        requests=800,
        stages=stages,
        ragged=ragged,
        ground_truth=60,
        per_level=60,
        complementarity=complementarity,
        unevenness=unevenness,
    )
    for scores in funnel.scores:
        scores, top = scores[funnel.mask], funnel.top[funnel.mask]
        for low in np.arange(0, 1, 0.1):
            inside = (scores >= low) & (scores < low + 0.1)
            if inside.sum() > 1000:
                assert scores[inside].mean() == pytest.approx(top[inside].mean(), abs=0.04)


def test_simple_models_of_the_logged_features_come_close_to_the_ceiling(tmp_path):
    """With logged features only: rates per segment and category, and a logistic model."""
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
