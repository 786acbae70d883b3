"""Slices: a planted weakness is found first, and without one chance flags at most 5 % of logs."""

import math

import numpy as np
import pytest

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation import Grouping, holm, weak_slices


def grouping(codes, values, *, feature="f", **details):
    codes = np.asarray(codes)
    names = [f"s{i}" for i in range(int(codes.max()) + 1)]
    return Grouping(
        feature=feature, names=names, codes=codes, values=np.asarray(values, float), details=details
    )


def plain(g, min_units):
    """Means of each slice and of the rest, by loops."""
    found = {}
    for i, name in enumerate(g.names):
        own = [v for c, v in zip(g.codes, g.values, strict=True) if c == i and not math.isnan(v)]
        rest = [v for c, v in zip(g.codes, g.values, strict=True) if c != i and not math.isnan(v)]
        if min(len(own), len(rest)) >= min_units:
            found[name] = (len(own), sum(own) / len(own), sum(rest) / len(rest))
    return found


def test_means_are_those_of_plain_loops():
    rng = np.random.default_rng(0)
    codes, values = rng.integers(-1, 6, 400), rng.random(400)
    values[rng.random(400) < 0.1] = np.nan
    codes[:390][codes[:390] == 5] = 4  # a slice that is too small
    lost = rng.random(400)
    g = grouping(codes, values, lost=lost)
    found = {s.name: s for s in weak_slices([g], min_units=10)}
    assert {n: (s.units, s.mean, s.rest) for n, s in found.items()} == {
        n: (count, pytest.approx(mean), pytest.approx(rest))
        for n, (count, mean, rest) in plain(g, 10).items()
    }
    defined = ~np.isnan(values)
    for name, s in found.items():
        own = codes == int(name[1:])
        expected = lost[own & defined].mean(), lost[~own & defined].mean()
        assert s.details["lost"] == pytest.approx(expected)
        assert s.difference == pytest.approx(s.mean - s.rest)


def test_p_values_are_those_of_random_slices():
    """Binary recall with few failures, where a normal distribution is wrong by a factor."""
    rng = np.random.default_rng(1)
    values = (rng.random(600) > 0.06).astype(float)
    codes = np.full(600, -1)
    codes[:40] = 0
    order = np.argsort(values, kind="stable")  # failures first
    for failures in (5, 6, 7):
        mixed = values[
            np.r_[order[:failures], order[-(40 - failures) :], order[failures : -(40 - failures)]]
        ]
        (found,) = weak_slices([grouping(codes, mixed)])
        drawn = np.array([rng.permutation(mixed)[:40].mean() for _ in range(20_000)])
        exact = (drawn <= mixed[:40].mean() + 1e-12).mean()
        assert 0.4 * exact < found.p < 1.3 * exact
    normal = 0.5 * math.erfc(
        (mixed.mean() - mixed[:40].mean()) / mixed.std() * math.sqrt(40) / math.sqrt(2)
    )
    assert normal < 0.1 * exact


def test_p_values_of_a_slice_of_most_requests_are_those_of_random_slices():
    rng = np.random.default_rng(4)
    values = rng.random(400) ** 0.5
    values[:350] -= 0.06
    codes = np.repeat([0, -1], [350, 50])
    (found,) = weak_slices([grouping(codes, values)])
    drawn = np.array([rng.permutation(values)[:350].mean() for _ in range(20_000)])
    exact = (drawn <= values[:350].mean()).mean()
    assert 0.01 < exact < 0.4
    assert found.p == pytest.approx(exact, rel=0.1)


def test_the_interval_is_students():
    from scipy import stats

    values = np.random.default_rng(2).random(60)
    (found, *_) = [
        s for s in weak_slices([grouping(np.arange(60) // 30, values)]) if s.name == "s0"
    ]
    own = values[:30]
    low, high = stats.t.interval(0.95, 29, own.mean(), own.std(ddof=1) / math.sqrt(30))
    assert (found.low, found.high) == pytest.approx((low, high))


def log(seed, *, weak=False):
    """Recall per request of a log with a dozen features; retrieval fails in one country if weak."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, 4, 1500)
    probability = np.full(1500, 0.9)
    country = rng.choice(30, 1500, p=np.arange(1, 31)[::-1] / 465)
    if weak:
        probability[country == 7] = 0.5
    recall = rng.binomial(truth, probability) / truth
    features = {"country": country}
    features |= {f"f{i}": rng.integers(0, 2 + 4 * i, 1500) for i in range(12)}
    return [
        grouping(codes, recall, feature=name, **{"lost/retrieval": 1 - recall})
        for name, codes in features.items()
    ]


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_weakness_is_found_first(seed):
    first, *others = weak_slices(log(seed, weak=True))
    assert (first.feature, first.name) == ("country", "s7")
    assert first.p_holm < 0.001
    assert first.details["lost/retrieval"][0] == pytest.approx(0.5, abs=0.15)
    assert sum(s.p_holm < 0.05 for s in others) <= 1


def test_without_a_weakness_nothing_is_flagged_beyond_the_level():
    draws = 300
    flagged = sum(weak_slices(log(1000 + seed))[0].p_holm < 0.05 for seed in range(draws))
    # At most 5 %: 24 of 300 is the 99th percentile of a binomial distribution at that level.
    assert flagged <= 24


def test_units_of_items_in_one_request_do_not_raise_the_level():
    """Requests have several units with a common effect, at most one in each slice."""
    flagged = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        common = rng.random(300)
        codes = np.stack([rng.permutation(12)[:4] for _ in range(300)])
        values = (rng.random((300, 4)) < (0.5 + 0.5 * common)[:, None]).astype(float)
        flagged += weak_slices([grouping(codes.ravel(), values.ravel())])[0].p_holm < 0.05
    assert flagged <= 18  # the 99th percentile at 5 %


def test_adjustment_covers_the_slices_of_all_features():
    groupings = log(3, weak=True)[:4]
    found = weak_slices(groupings)
    raw = {f"{s.feature}/{s.name}": s.p for s in found}
    expected = holm(raw)
    assert {f"{s.feature}/{s.name}": s.p_holm for s in found} == pytest.approx(expected)
    assert list(expected.values()) == sorted(expected.values())


def test_constant_values_flag_nothing():
    found = weak_slices([grouping(np.arange(100) % 2, np.ones(100))])
    assert [(s.p, s.low, s.high) for s in found] == [(1.0, 1.0, 1.0)] * 2


def test_nothing_to_test_returns_nothing():
    assert weak_slices([]) == ()
    assert weak_slices([grouping(np.arange(10) % 2, np.ones(10))]) == ()


def test_wrong_groupings_are_refused():
    with pytest.raises(ShapeError, match=r"'f': expected one value per unit; got lengths"):
        weak_slices([grouping([0, 1], [1.0])])
    wrong = Grouping(feature="f", names=["a"], codes=np.array([0, 1]), values=np.ones(2))
    with pytest.raises(ConfigError, match=r"'f': codes must be below 1.*got 1"):
        weak_slices([wrong])
    with pytest.raises(ConfigError, match="min_units must be at least 2; got 1"):
        weak_slices([], min_units=1)
    with pytest.raises(ConfigError, match="confidence must be in"):
        weak_slices([], confidence=1.0)
