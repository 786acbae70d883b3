"""Requests of a funnel against plain loops, and distributions of random choices."""

import numpy as np
import pytest

from cascaderank.errors import ConfigError, DataError
from cascaderank.simulation.funnel import Funnel, FunnelStage, draw_requests, uniform_of_pairs

USERS, ITEMS = 7, 40


def table(seed, scale=3):
    """Scores of user-item pairs with many ties."""
    return np.random.default_rng(seed).integers(-scale, scale, (USERS, ITEMS)).astype(np.float32)


def scorer(scores, asked=None):
    def score(items):
        assert all(len(set(row)) == len(row) for row in items.tolist())
        if asked is not None:
            asked.append(items)
        return np.take_along_axis(scores, items, axis=1)

    return score


def draw(funnel, tables, truth, *, pool=None, users=None, number=0, asked=None):
    return draw_requests(
        funnel,
        users=np.arange(USERS) if users is None else users,
        number=number,
        pool=np.ones((USERS, ITEMS), bool) if pool is None else pool,
        scorers=[scorer(t, asked) for t in tables],
        truth=scorer(truth),
    )


def funnel_of(*stages, candidates=ITEMS, **options):
    made = tuple(
        FunnelStage(name=name, keep=keep, negatives=negatives, **more)
        for name, keep, negatives, more in stages
    )
    return Funnel(candidates=candidates, stages=made, **options)


def logged(requests, user):
    """Logged candidates of a user: item, level, position, label, feedback."""
    columns = (
        requests.items,
        requests.levels,
        requests.positions,
        requests.labels,
        requests.feedback,
    )
    return sorted(zip(*(c[user].tolist() for c in columns), strict=True))


@pytest.mark.parametrize(
    "stages",
    [
        [("rank", 10, 30, {})],
        [("prerank", 16, 8, {}), ("rank", 6, 5, {})],
        [("prerank", 20, 5, {}), ("rank", 12, 4, {}), ("rerank", 3, 9, {})],
    ],
)
def test_stages_select_as_plain_loops_do(stages):
    tables, truth = [table(t) for t in range(len(stages))], (table(9) > 0).astype(np.float32)
    requests = draw(funnel_of(*stages), tables, truth)
    for user in range(USERS):
        alive, expected = list(range(ITEMS)), []
        for level, ((_, keep, negatives, _), scores) in enumerate(
            zip(stages, tables, strict=True), 1
        ):
            alive.sort(key=lambda i: -scores[user, i])  # stable: ties keep their order
            bottom = alive[len(alive) - negatives :]
            alive = alive[:keep]
            expected += [(i, level, p, truth[user, i], 0.0) for p, i in enumerate(bottom, 1)]
        places = {0.0: 0, 1.0: 0}
        for item in alive:
            like = float(truth[user, item])
            places[like] += 1
            level = len(stages) + 1 + int(like)
            expected.append((item, level, places[like], like, like))
        assert logged(requests, user) == sorted(expected)


def test_levels_are_those_of_the_relabelling():
    funnel = funnel_of(("retrieval", 20, 1, {}), ("prerank", 9, 1, {}), ("rank", 4, 1, {}), pool=0)
    assert funnel.level_names == (
        "pool", "retrieval_neg", "prerank_neg", "rank_neg", "exposed", "exposed_pos",
    )  # fmt: skip


def test_candidates_and_pool_are_sampled_uniformly_from_allowed_items():
    allowed = np.random.default_rng(1).random((USERS, ITEMS)) < 0.8
    funnel = funnel_of(("rank", 8, 2, {}), candidates=10, pool=5)
    counts = np.zeros((USERS, ITEMS))
    for number in range(400):
        asked = []
        requests = draw(funnel, [table(0)], table(1), pool=allowed, number=number, asked=asked)
        (candidates,) = asked
        assert candidates.shape == (USERS, 10)
        pool = requests.items[:, :5]
        assert (requests.levels[:, :5] == 0).all()
        assert (requests.positions[:, :5] == 0).all()
        together = np.concatenate([candidates, pool], axis=1)
        assert all(len(set(row)) == 15 for row in together.tolist())
        np.add.at(counts, (np.arange(USERS)[:, None], together), 1)
    assert (counts[~allowed] == 0).all()
    share = 400 * 15 / allowed.sum(1, keepdims=True)
    spread = np.sqrt(share)
    assert (
        np.abs(counts - share)[allowed] < 5 * np.broadcast_to(spread, counts.shape)[allowed]
    ).all()


def test_a_request_is_independent_of_the_other_users():
    funnel = funnel_of(
        ("prerank", 12, 4, {"noise": 1.0, "exploration": 0.3}),
        ("rank", 5, 3, {"negatives_from": "random"}),
        candidates=25,
        pool=4,
        seed=3,
    )
    tables, truth = [table(0), table(1)], (table(2) > 0).astype(np.float32)
    whole = draw(funnel, tables, truth, users=np.arange(100, 107), number=2)
    chosen = [4, 1]
    some = draw_requests(
        funnel,
        users=np.array([104, 101]),
        number=2,
        pool=np.ones((2, ITEMS), bool),
        scorers=[scorer(t[chosen]) for t in tables],
        truth=scorer(truth[chosen]),
    )
    assert [logged(some, i) for i in range(2)] == [logged(whole, i) for i in chosen]
    other = draw(funnel, tables, truth, users=np.arange(100, 107), number=3)
    assert logged(other, 0) != logged(whole, 0)


def test_exploration_keeps_candidates_that_the_scores_would_drop():
    scores = np.tile(np.arange(ITEMS, dtype=np.float32), (USERS, 1))
    stage = ("rank", 10, 30, {"exploration": 0.4})
    luck = np.zeros(ITEMS)
    for number in range(200):
        requests = draw(funnel_of(stage), [scores], np.zeros_like(scores), number=number)
        shown = requests.items[:, 30:]
        assert all(set(range(34, 40)) < set(row) for row in shown.tolist())
        assert all(sorted(row) == list(range(ITEMS)) for row in requests.items.tolist())
        np.add.at(luck, shown.ravel(), 1)
    expected = 200 * USERS * 4 / 34
    assert (np.abs(luck[:34] - expected) < 5 * np.sqrt(expected)).all()


def test_random_negatives_are_sampled_from_all_dropped_candidates():
    scores = np.tile(np.arange(ITEMS, dtype=np.float32), (USERS, 1))
    found = np.zeros(ITEMS)
    for number in range(100):
        funnel = funnel_of(("rank", 10, 6, {"negatives_from": "random"}))
        requests = draw(funnel, [scores], np.zeros_like(scores), number=number)
        negatives = requests.items[:, :6]
        assert (np.diff(negatives, axis=1) < 0).all(), "positions tell the order of the stage"
        np.add.at(found, negatives.ravel(), 1)
    assert (found[30:] == 0).all()
    assert (found[:30] > 0).all()


def test_noise_has_the_configured_deviation():
    # Two items whose scores differ by a deviation of the difference swap with P(z > 1 / sqrt 2).
    scores = np.zeros((USERS, ITEMS), np.float32)
    scores[:, 0] = 1.0
    funnel = funnel_of(("rank", 1, 1, {"noise": 1.0}), candidates=2)
    pool = np.zeros((USERS, ITEMS), bool)
    pool[:, :2] = True
    wrong = [
        draw(funnel, [scores], scores, pool=pool, number=n).items[:, 1] != 0 for n in range(600)
    ]
    assert abs(np.mean(wrong) - 0.2398) < 0.03


def test_nan_scores_rank_last_and_signed_zeros_tie():
    scores = np.zeros((USERS, ITEMS), np.float32)
    scores[:, ::2] = -0.0
    scores[:, 3] = np.nan
    requests = draw(funnel_of(("rank", 39, 1, {})), [scores], np.zeros_like(scores))
    assert (requests.items[:, 0] == 3).all()
    assert requests.items[0, 1:].tolist() == [i for i in range(ITEMS) if i != 3]


def test_pairs_have_one_uniform_number_each():
    numbers = uniform_of_pairs(0, np.arange(50), np.tile(np.arange(200), (50, 1)))
    assert abs(numbers.mean() - 0.5) < 0.02
    assert 0 < numbers.min() < 0.01 < 0.99 < numbers.max() < 1
    assert len(np.unique(numbers)) == numbers.size
    again = uniform_of_pairs(0, np.array([7]), np.array([[3, 150]]))
    assert again.tolist() == [[numbers[7, 3], numbers[7, 150]]]
    assert uniform_of_pairs(1, np.array([7]), np.array([[3]]))[0, 0] != numbers[7, 3]


def test_all_invalid_values_of_a_funnel_are_reported_together():
    with pytest.raises(ConfigError) as error:
        funnel_of(("prerank", 30, 20, {"noise": -1.0}), ("rank", 31, 0, {}), candidates=40, pool=-1)
    for part in (
        "stages.prerank: keep + negatives must be at most the 40 candidates that reach the stage; "
        "got 30 + 20",
        "stages.prerank: noise must be at least 0, in the range of float32",
        "stages.rank: keep + negatives must be at most the 30 candidates that reach the stage; "
        "got 31 + 0",
        "pool must be at least 0; got -1",
    ):
        assert part in str(error.value)


def test_infinite_noise_is_rejected():
    with pytest.raises(ConfigError, match=r"stages.prerank: noise must be .*; got inf and 0"):
        funnel_of(("prerank", 30, 0, {"noise": float("inf")}), candidates=40)


def test_fewer_items_than_candidates_are_rejected():
    pool = np.ones((USERS, ITEMS), bool)
    pool[2, :6] = False
    with pytest.raises(
        DataError, match=r"at least 35 items .*; 1 of 7 users have fewer; the minimum is 34"
    ):
        draw(funnel_of(("rank", 1, 1, {}), candidates=30, pool=5), [table(0)], table(1), pool=pool)
