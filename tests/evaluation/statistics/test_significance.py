"""p values: exact for few requests, calibrated under the null hypothesis, equal to scipy."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.evaluation import holm, paired_test, unpaired_test


def test_p_of_few_requests_is_exact():
    differences = np.array([0.3, -0.1, 0.2, 0.0, 0.4, 0.1])
    sums = [
        abs(np.dot(signs, differences))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    expected = np.mean([s >= abs(differences.sum()) - 1e-12 for s in sums])
    assert paired_test(differences).p == expected


def test_agrees_with_scipy():
    differences = np.random.default_rng(0).normal(0.0, 1, 120)
    expected = stats.permutation_test(
        (differences,),
        lambda x, axis: x.mean(axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).pvalue
    assert 0.02 < expected < 0.98
    assert paired_test(differences, resamples=20_000).p == pytest.approx(expected, abs=0.015)
    assert paired_test(differences, test="t").p == pytest.approx(expected, abs=0.015)
    assert paired_test(differences, test="t").p == stats.ttest_1samp(differences, 0).pvalue


@pytest.mark.parametrize("test", ["randomisation", "t"])
def test_the_false_positive_rate_is_the_significance_level(test):
    rng, trials = np.random.default_rng(5), 1000
    called = 0
    for seed in range(trials):
        a, b = rng.binomial(10, 0.8, (2, 60)) / 10
        called += paired_test(a - b, test=test, resamples=400, seed=seed).p < 0.05
    assert 0.03 < called / trials < 0.07  # within three standard errors of 0.05


def test_a_difference_is_found():
    rng = np.random.default_rng(6)
    assert paired_test(rng.normal(0.1, 0.2, 400)).p == pytest.approx(1 / 10_001)
    assert paired_test(rng.normal(-0.1, 0.2, 400)).p == pytest.approx(1 / 10_001)


def test_memory_does_not_grow_with_the_resamples(monkeypatch):
    differences = np.random.default_rng(0).normal(0.05, 1, 1000)
    whole = paired_test(differences, resamples=500)
    shapes = []
    monkeypatch.setattr("cascaderank.evaluation.statistics.significance._SIGNS_AT_ONCE", 4000)
    from cascaderank.evaluation.statistics import significance

    sums = significance._absolute_sums
    monkeypatch.setattr(
        significance, "_absolute_sums", lambda k, d: shapes.append(k.shape) or sums(k, d)
    )
    batched = paired_test(differences, resamples=500)
    assert set(shapes) == {(4, 1000)}
    assert batched.p == pytest.approx(whole.p, abs=0.08)


def test_undefined_requests_are_excluded_and_counted():
    differences = np.array([0.1, np.nan, 0.2, 0.3, np.nan, 0.1, 0.4])
    found = paired_test(differences)
    assert (found.requests, found.undefined) == (5, 2)
    assert found.p == paired_test(differences[~np.isnan(differences)]).p == 2 / 32
    assert found.mean == pytest.approx(0.22)


def test_equal_seeds_give_equal_p():
    differences = np.random.default_rng(3).normal(0.1, 1, 50)
    assert paired_test(differences, seed=1) == paired_test(differences, seed=1)
    assert paired_test(differences, seed=1) != paired_test(differences, seed=2)


@pytest.mark.parametrize("test", ["randomisation", "t"])
def test_p_without_differences(test):
    assert math.isnan(paired_test(np.array([np.nan, np.nan]), test=test).p)
    assert math.isnan(paired_test(np.empty(0), test=test).mean)
    assert paired_test(np.zeros(9), test=test).p == 1


def test_t_without_variance_is_undefined():
    assert math.isnan(paired_test(np.array([0.5]), test="t").p)
    assert math.isnan(paired_test(np.full(4, 0.5), test="t").p)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"test": "randomization"}, ConfigError, r"did you mean 'randomisation'\?"),
        ({"resamples": 0}, ConfigError, "resamples must be at least 1; got 0"),
        ({"differences": np.zeros((2, 2))}, ShapeError, r"\[requests\]; got \[2, 2\]"),
    ],
)
def test_invalid_arguments_are_rejected(options, error, message):
    options = {"differences": np.zeros(2), **options}
    with pytest.raises(error, match=message):
        paired_test(options.pop("differences"), **options)


def test_holm_agrees_with_its_step_down_rule():
    rng = np.random.default_rng(2)
    for _ in range(50):
        p = {f"m{i}": float(v) for i, v in enumerate(rng.beta(0.4, 3, 7))}
        adjusted = holm(p)
        for level in (0.01, 0.05, 0.2):
            rejected, left = set(), sorted(p, key=p.get)
            while left and p[left[0]] <= level / len(left):
                rejected.add(left.pop(0))
            assert rejected == {name for name, value in adjusted.items() if value <= level}


def test_holm_keeps_the_order_and_ignores_nan():
    adjusted = holm({"c": 0.5, "a": 0.01, "none": math.nan, "b": 0.9})
    assert list(adjusted) == ["c", "a", "none", "b"]
    assert adjusted["a"] == pytest.approx(0.03)
    assert adjusted["c"] == 1
    assert math.isnan(adjusted["none"])
    assert holm({}) == {}


def test_welch_s_test_is_its_formula():
    x, y = np.array([0.41, 0.45, 0.38, 0.44, 0.40]), np.array([0.36, 0.39, 0.35, 0.39])
    found = unpaired_test(x, y)
    a, b = x.var(ddof=1) / 5, y.var(ddof=1) / 4
    t = (x.mean() - y.mean()) / np.sqrt(a + b)
    freedom = (a + b) ** 2 / (a**2 / 4 + b**2 / 3)
    assert found.p == pytest.approx(2 * stats.t.sf(t, freedom), rel=1e-12)
    assert found.difference == pytest.approx(x.mean() - y.mean())
    assert found.runs == (5, 4)
    assert unpaired_test(y, x).p == pytest.approx(found.p)


def test_p_is_undefined_for_too_few_runs():
    x = np.array([0.4, 0.5])
    assert np.isnan(unpaired_test(x, x[:1]).p)
    assert np.isnan(unpaired_test(np.ones(3), np.zeros(3)).p), "nothing varies"
    assert np.isnan(unpaired_test(x, x[:0]).difference)
    with pytest.raises(ShapeError):
        unpaired_test(x, x[None])
    with pytest.raises(DataError, match="got NaN for 1 of 2 runs"):
        unpaired_test(x, np.array([np.nan, 1]))


def test_runs_that_differ_by_rounding_have_no_spread():
    one, other = np.array([0.2, 0.2 + 2**-54]), np.array([0.1, 0.3])
    assert one[0] != one[1]
    assert 0 < unpaired_test(one, other).p <= 1
    assert np.isnan(unpaired_test(one, one[::-1]).p)
