"""Significance: whether two methods differ by more than the luck of which requests came."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from cascaderank.errors import ConfigError, DataError, ShapeError, did_you_mean

Floats = NDArray[np.float64]
Test = Literal["randomisation", "t"]

_SIGNS_AT_ONCE = 1 << 22
"""Signs held in memory at a time; more only if there are more requests than this."""


@final
@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """How likely so large a mean difference is if neither method is better."""

    p: float
    """Two-sided, in (0, 1]; NaN if no difference is defined."""
    mean: float
    """Of the differences that are defined; NaN if there is none."""
    requests: int
    """How many differences are defined."""
    undefined: int
    """How many are not, and are left out."""


def paired_test(
    differences: Floats, *, test: Test = "randomisation", resamples: int = 10_000, seed: int = 0
) -> PairedTest:
    r"""Test whether the mean difference of two methods over the same requests is 0, two-sided.

    ``"randomisation"`` supposes that it was chance which of the two values of a request belongs to
    which method, so that the sign of each difference may as well be the other. It draws all signs
    anew and counts how often the mean gets as far from 0 as it was:

    .. math::
        p = \frac{1 + \#\{b : |\sum_i \pm_{bi}\, d_i| \ge |\sum_i d_i|\}}{1 + B}

    Where there are no more than ``resamples`` ways to set the signs, each is taken once and p is
    exact. ``"t"`` is Student's t test of one sample. Both speak of other requests and not of other
    seeds: give them the mean over seeds, and look at an interval over requests and seeds
    (:func:`~cascaderank.evaluation.bootstrap.two_way_bootstrap`) too.

    Args:
        differences: ``[requests]``, one method less the other; NaN is undefined, and left out and
            counted.
        test: which.
        resamples: how many times the signs are drawn; p is never below one over this plus one.
        seed: equal seeds give equal p.

    Raises:
        ShapeError: if ``differences`` is not a vector.
        ConfigError: if there is no such test, or ``resamples`` is below 1.

    Examples:
        >>> found = paired_test(np.array([0.1, 0.2, 0.1, 0.3, 0.2, np.nan]))
        >>> f"p = {found.p:.4f} over {found.requests} requests"
        'p = 0.0625 over 5 requests'

    Source: Fisher 1935; for retrieval Smucker, Allan and Carterette (CIKM 2007).
    """
    if differences.ndim != 1:
        raise ShapeError(f"differences must be [requests]; got {list(differences.shape)}")
    known = ("randomisation", "t")
    if test not in known:
        raise ConfigError(f"no test '{test}'{did_you_mean(test, known)}; there are {known}")
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1; got {resamples}")
    defined = differences[~np.isnan(differences)].astype(np.float64)
    if not len(defined):
        p = math.nan
    elif not defined.any():
        p = 1.0  # no difference anywhere, of which t makes 0 / 0
    elif test == "t":
        # One request has no spread to compare with; equal differences have none at all.
        spread = len(defined) > 1 and bool(np.ptp(defined))
        p = float(stats.ttest_1samp(defined, 0.0).pvalue) if spread else math.nan
    else:
        p = _sign_flips(defined[defined != 0], resamples, np.random.default_rng(seed))
    return PairedTest(
        p=p,
        mean=float(defined.mean()) if len(defined) else math.nan,
        requests=len(defined),
        undefined=len(differences) - len(defined),
    )


@final
@dataclass(frozen=True, kw_only=True)
class UnpairedTest:
    """How likely so large a difference of two means is if neither method is better."""

    p: float
    """Two-sided, in [0, 1]; NaN if either has fewer than two runs, or none varies."""
    difference: float
    """Of the means: the first less the second; NaN if either has no runs."""
    runs: tuple[int, int]
    """How many there are of each."""


def unpaired_test(one: Floats, other: Floats) -> UnpairedTest:
    r"""Test whether the runs of two methods have one mean, two-sided, by Welch's t test.

    .. math::
        t = \frac{\bar x - \bar y}{\sqrt{s_x^2 / n_x + s_y^2 / n_y}}

    What varies here is the run: its seed and, if they differ, its requests. Give it one value
    per repeated run, as FS-LTR does with five; for two methods over the same requests
    :func:`paired_test` sees smaller differences. Neither need have the other's variance.

    Args:
        one: ``[runs]``, a value for each repetition of a method.
        other: ``[runs]``, those of another; as many or not.

    Raises:
        ShapeError: if either is not a vector.
        DataError: if a value is NaN: a run whose result is undefined is no repetition.

    Examples:
        >>> found = unpaired_test(np.array([0.5, 0.52, 0.51]), np.array([0.4, 0.42, 0.43]))
        >>> f"{found.difference:+.3f}, p = {found.p:.4f}"
        '+0.093, p = 0.0017'

    Source: Welch 1947; FS-LTR reports an unpaired t test of five repeats.
    """
    for values in (one, other):
        if values.ndim != 1:
            raise ShapeError(f"values must be [runs]; got {list(values.shape)}")
        if np.isnan(values).any():
            raise DataError(f"{int(np.isnan(values).sum())} of {len(values)} runs are NaN")
    both = len(one) > 0 and len(other) > 0
    enough = min(len(one), len(other)) > 1 and bool(np.ptp(one) or np.ptp(other))
    return UnpairedTest(
        p=float(stats.ttest_ind(one, other, equal_var=False).pvalue) if enough else math.nan,
        difference=float(one.mean() - other.mean()) if both else math.nan,
        runs=(len(one), len(other)),
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    r"""Adjust p values of several tests, so that calling any of them wrongly stays as rare.

    .. math::
        p'_{(i)} = \max_{j \le i} \min\left(1, (n + 1 - j)\, p_{(j)}\right)

    with the smallest first. If every p' below .05 is called a difference, the chance to call even
    one of those that are none is at most .05, however the tests depend on one another.

    Args:
        p_values: by name; NaN is no test, and stays NaN.

    Returns:
        By name, in the order given.

    Examples:
        >>> holm({"lcron": 0.01, "arf": 0.04, "icc": 0.03})
        {'lcron': 0.03, 'arf': 0.06, 'icc': 0.06}

    Source: Holm 1979.
    """
    tested = sorted((n for n, p in p_values.items() if not math.isnan(p)), key=p_values.__getitem__)
    adjusted, largest = dict(p_values), 0.0
    for place, name in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - place) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def _sign_flips(differences: Floats, resamples: int, rng: np.random.Generator) -> float:
    requests = len(differences)
    # Sums that are equal on paper may round apart.
    far = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if requests < 63 and 2**requests <= resamples:
        ways = np.arange(2**requests)[:, None] >> np.arange(requests) & 1
        return float((_sums(ways, differences) >= far).mean())
    count, step = 0, max(1, _SIGNS_AT_ONCE // requests)
    for start in range(0, resamples, step):
        # One random bit a sign. scipy's permutation_test sorts random numbers instead, and takes
        # four minutes for what this does in a second: 10,000 draws of 100,000 requests.
        size = (min(step, resamples - start), -(-requests // 8))
        bits = rng.integers(256, size=size, dtype=np.uint8)
        kept = np.unpackbits(bits, axis=1, count=requests)
        count += int((_sums(kept, differences) >= far).sum())
    return (1 + count) / (1 + resamples)


def _sums(kept: NDArray[np.integer], differences: Floats) -> Floats:
    """How far the sums get from 0 if only the kept differences keep their sign."""
    sums: Floats = np.abs(2 * (kept.astype(np.float64) @ differences) - differences.sum())
    return sums
