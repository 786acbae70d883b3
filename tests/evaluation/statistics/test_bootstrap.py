"""Bootstrap intervals: seeded, independent of block size, with nominal coverage."""

import math
import tracemalloc

import numpy as np
import pytest

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation.statistics import bootstrap
from cascaderank.evaluation.statistics.bootstrap import (
    Summary,
    bootstrap_interval,
    bootstrap_intervals,
    two_way_bootstrap,
)


@pytest.fixture
def values():
    return np.random.default_rng(0).beta(5, 2, 400)


def test_intervals_depend_on_the_seed_alone(values):
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_agrees_with_a_loop_over_resamples(values):
    values[::7] = np.nan
    rng = np.random.default_rng(3)
    means = [np.nanmean(values[rng.integers(400, size=400)]) for _ in range(500)]
    got = bootstrap_interval(values, resamples=500, seed=3)
    assert got.mean == pytest.approx(np.nanmean(values))
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_agrees_with_the_normal_approximation(values):
    got = bootstrap_interval(values, resamples=5000)
    error = 1.96 * values.std() / math.sqrt(len(values))
    assert got.mean - got.low == pytest.approx(error, rel=0.06)
    assert got.high - got.mean == pytest.approx(error, rel=0.06)


def test_coverage_equals_the_confidence_level():
    rng, covered = np.random.default_rng(11), 0
    for seed in range(400):
        found = bootstrap_interval(rng.beta(5, 2, 200), resamples=200, seed=seed, confidence=0.8)
        covered += found.low <= 5 / 7 <= found.high
    assert 0.74 < covered / 400 < 0.86  # within three standard errors of 0.8


def test_undefined_values_are_excluded_and_counted(values):
    values[:100] = np.nan
    got = bootstrap_interval(values)
    assert (got.requests, got.undefined) == (300, 100)
    assert got.mean == values[100:].mean()
    assert got.low < got.mean < got.high


def test_a_column_without_defined_values_is_undefined():
    for values in (np.full(5, np.nan), np.empty(0)):
        got = bootstrap_interval(values)
        assert math.isnan(got.mean)
        assert math.isnan(got.low)
        assert math.isnan(got.high)
        assert (got.requests, got.undefined) == (0, len(values))


def test_a_single_defined_value_is_both_ends_of_its_interval():
    got = bootstrap_interval(np.array([np.nan] * 50 + [0.3]), resamples=20)
    assert (got.low, got.mean, got.high) == (0.3, 0.3, 0.3)


def test_the_interval_of_a_constant_has_zero_width():
    got = bootstrap_interval(np.full(1000, 0.1))
    assert (got.low, got.high) == (0.1, 0.1)
    assert got.mean == pytest.approx(0.1)


def test_the_interval_of_a_column_is_independent_of_other_columns(values):
    others = {"a": values, "b": np.full(400, np.nan), "c": values[::-1] * 1e9}
    found = bootstrap_intervals(others, seed=5)
    alone = bootstrap_interval(values, seed=5)
    assert found["a"].mean == alone.mean
    assert (found["a"].low, found["a"].high) == pytest.approx((alone.low, alone.high), rel=1e-12)
    assert found["b"].requests == 0


@pytest.mark.parametrize(
    ("block", "sizes"),
    [
        ("_CACHED_DRAWS", (1, 400 * 7, 400 * 1000)),
        ("_REPLICATES_AT_ONCE", (1, 7, 1000)),
        ("_REQUESTS_AT_ONCE", (1, 7, 399, 1000)),
    ],
)
def test_the_block_size_does_not_change_the_intervals(values, monkeypatch, block, sizes):
    values[::5] = np.nan
    want = bootstrap_interval(values, resamples=100)
    for at_once in sizes:
        monkeypatch.setattr(bootstrap, block, at_once)
        got = bootstrap_interval(values, resamples=100)
        assert (got.low, got.high) == pytest.approx((want.low, want.high), rel=1e-12)


def test_memory_is_a_few_numbers_per_request_whatever_the_number_of_resamples(monkeypatch):
    monkeypatch.setattr(bootstrap, "_REPLICATES_AT_ONCE", 8)
    monkeypatch.setattr(bootstrap, "_REQUESTS_AT_ONCE", 1 << 10)
    peaks = []
    for requests in (50_000, 100_000):
        values = np.random.default_rng(0).random(requests)
        tracemalloc.start()
        bootstrap_interval(values, resamples=40)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The values, the draws of one replicate, and their counts in 2 bytes for 8 replicates.
    assert (peaks[1] - peaks[0]) / 50_000 < 6 * 8


def test_zero_resamples_disable_the_interval(values):
    got = bootstrap_interval(values, resamples=0)
    assert got.mean == values.mean()
    assert math.isnan(got.low)
    assert math.isnan(got.high)


def test_a_higher_confidence_widens_the_interval(values):
    narrow, wide = (bootstrap_interval(values, confidence=c) for c in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_summaries_round_trip_through_json():
    summary = Summary(mean=math.nan, low=math.nan, high=math.nan, requests=0, undefined=3)
    data = summary.to_json()
    assert data == {"mean": None, "low": None, "high": None, "requests": 0, "undefined": 3}
    assert math.isnan(Summary.from_json(data).mean)
    summary = Summary(mean=0.5, low=0.0, high=1.0, requests=2, undefined=0)
    assert Summary.from_json(summary.to_json()) == summary


def test_invalid_arguments_are_rejected(values):
    with pytest.raises(ConfigError, match="resamples must be at least 0; got -1"):
        bootstrap_interval(values, resamples=-1)
    with pytest.raises(ConfigError, match=r"confidence must be in \(0, 1\); got 95"):
        bootstrap_interval(values, confidence=95)
    with pytest.raises(ShapeError, match=r"\[requests\]; got \[2, 200\]"):
        bootstrap_interval(values.reshape(2, 200))
    with pytest.raises(ShapeError, match="'b': 3"):
        bootstrap_intervals({"a": values, "b": values[:3]})
    assert bootstrap_intervals({}) == {}


def test_two_way_bootstrap_agrees_with_a_loop_over_resamples():
    rng = np.random.default_rng(4)
    a, b = rng.random((4, 150)), rng.random((3, 150)) + rng.normal(0, 0.2, (3, 1))
    means, gains = two_way_bootstrap({"a": a, "b": b}, against="a", resamples=4000)
    drawn = []
    for _ in range(4000):
        requests = rng.integers(150, size=150)
        of_a = a[rng.integers(4, size=4)][:, requests].mean()
        drawn.append((of_a, b[rng.integers(3, size=3)][:, requests].mean() - of_a))
    for got, loop in ((means["a"], [d[0] for d in drawn]), (gains["b"], [d[1] for d in drawn])):
        low, high = np.quantile(loop, [0.025, 0.975])
        assert (got.low, got.high) == pytest.approx((low, high), abs=0.06 * (high - low))
    assert means["b"].mean == pytest.approx(b.mean())
    assert gains["b"].mean == pytest.approx(b.mean() - a.mean())
    assert list(gains) == ["b"]


def test_differing_seeds_widen_the_two_way_interval():
    rng = np.random.default_rng(5)
    level = rng.random(300)
    same, other = np.stack([level] * 5), level + np.linspace(-0.3, 0.3, 5)[:, None]
    means, _ = two_way_bootstrap({"same": same, "other": other})
    over_requests = bootstrap_interval(level)
    width = {name: found.high - found.low for name, found in means.items()}
    assert width["same"] == pytest.approx(over_requests.high - over_requests.low, rel=0.08)
    assert width["other"] > 3 * width["same"]


def test_two_way_bootstrap_excludes_requests_undefined_for_any_method():
    a, b = np.array([[0.0, 1.0, np.nan, 1.0]]), np.array([[np.nan, 1.0, 0.0, 0.5]])
    means, gains = two_way_bootstrap({"a": a, "b": b}, against="b", resamples=20)
    assert (means["a"].mean, means["b"].mean, gains["a"].mean) == (1.0, 0.75, 0.25)
    assert (means["a"].requests, means["a"].undefined) == (2, 2)
    nothing, _ = two_way_bootstrap({"a": np.full((2, 3), np.nan)})
    assert math.isnan(nothing["a"].mean)
    assert math.isnan(nothing["a"].high)


def test_two_way_bootstrap_is_seeded_and_independent_of_the_block_size(monkeypatch):
    methods = {"a": np.random.default_rng(0).random((3, 100))}
    once = two_way_bootstrap(methods, seed=2)
    assert once == two_way_bootstrap(methods, seed=2)
    assert once != two_way_bootstrap(methods, seed=3)
    asked = []
    draw = bootstrap._times_drawn
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 500)
    monkeypatch.setattr(
        bootstrap, "_times_drawn", lambda g, r, n: asked.append(r * n) or draw(g, r, n)
    )
    batched = two_way_bootstrap(methods, seed=2)[0]["a"]
    assert max(asked) == 500
    assert batched.low == pytest.approx(once[0]["a"].low, abs=0.01)


@pytest.mark.parametrize(
    ("methods", "options", "message"),
    [
        ({"a": np.zeros(3)}, {}, r"\[seeds, requests\].*'a': \[3\]"),
        ({"a": np.zeros((2, 3)), "b": np.zeros((2, 4))}, {}, "the same requests"),
        ({"a": np.zeros((0, 3))}, {}, r"\[seeds, requests\]"),
        ({"a": np.zeros((2, 3))}, {"against": "b"}, r"against must be one of \['a'\]; got 'b'"),
        ({"a": np.zeros((2, 3))}, {"confidence": 1}, r"confidence must be in \(0, 1\)"),
    ],
)
def test_two_way_bootstrap_rejects_invalid_arguments(methods, options, message):
    with pytest.raises((ConfigError, ShapeError), match=message):
        two_way_bootstrap(methods, **options)
