"""Significance tests of the difference between two methods, and Holm's correction."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, DataError, ShapeError, did_you_mean

Floats = NDArray[np.float64]
Test = Literal["randomisation", "t"]

_ROUNDING = 1e-12
"""Largest difference between equal results of runs."""

_SIGNS_AT_ONCE = 1 << 22
"""Maximum number of signs in memory at once; one resample of more requests exceeds it."""


@final
@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Result of a paired test of the mean difference of two methods."""

    p: float
    """Two-sided p value, in (0, 1]; NaN if no difference is defined. Also NaN for the t test if all
    defined differences are equal and not 0, or there is only one."""
    mean: float
    """Mean of the defined differences; NaN if there are none."""
    requests: int
    """Number of defined differences."""
    undefined: int
    """Number of undefined differences; they are excluded."""


def paired_test(
    differences: Floats, *, test: Test = "randomisation", resamples: int = 10_000, seed: int = 0
) -> PairedTest:
    r"""Two-sided test of whether the mean difference of two methods over the same requests is 0.

    Under the null hypothesis of ``"randomisation"``, the two values of a request are exchangeable
    between the methods, so each difference has either sign with equal probability. The test draws
    all signs at random and counts the resamples whose mean is at least as far from 0 as the
    observed mean:

    .. math::
        p = \frac{1 + \#\{b : |\sum_i \pm_{bi}\, d_i| \ge |\sum_i d_i|\}}{1 + B}

    If the number of sign assignments is at most ``resamples``, all are enumerated and p is exact.
    ``"t"`` is Student's one-sample t test. Both tests generalise to other requests, not to other
    training seeds: pass the mean over seeds, and also report an interval over requests and seeds
    (:func:`~cascaderank.evaluation.statistics.bootstrap.two_way_bootstrap`).

    Args:
        differences: ``[requests]``, values of one method minus those of the other; NaN is
            undefined, excluded from the test and counted.
        test: ``"randomisation"`` or ``"t"``.
        resamples: number of random sign assignments; a p value that is not exact is at least
            ``1 / (1 + resamples)``.
        seed: random seed of the signs; equal seeds give equal p values.

    Raises:
        ShapeError: if ``differences`` is not a vector.
        ConfigError: if ``test`` is unknown, or ``resamples`` is below 1.

    Examples:
        >>> result = paired_test(np.array([0.1, 0.2, 0.1, 0.3, 0.2, np.nan]))
        >>> f"p = {result.p:.4f} over {result.requests} requests"
        'p = 0.0625 over 5 requests'

    Source: Fisher 1935; for retrieval Smucker, Allan and Carterette (CIKM 2007).
    """
    if differences.ndim != 1:
        raise ShapeError(f"differences must be [requests]; got {list(differences.shape)}")
    known = ("randomisation", "t")
    if test not in known:
        raise ConfigError(
            f"test must be one of {', '.join(known)}; got '{test}'{did_you_mean(test, known)}"
        )
    if resamples < 1:
        raise ConfigError(f"resamples must be at least 1; got {resamples}")
    defined = differences[~np.isnan(differences)].astype(np.float64)
    if not len(defined):
        p = math.nan
    elif not defined.any():
        p = 1.0  # all differences are 0, and the t statistic would be 0 / 0
    elif test == "t":
        # The t statistic is undefined for one request and for equal differences: no variance.
        spread = len(defined) > 1 and bool(np.ptp(defined))
        p = float(_stats().ttest_1samp(defined, 0.0).pvalue) if spread else math.nan
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
    """Result of an unpaired test of the difference between the means of two methods."""

    p: float
    """Two-sided p value, in [0, 1]; NaN if either method has fewer than two runs, or if neither
    varies."""
    difference: float
    """Mean of the first minus mean of the second; NaN if either has no runs."""
    runs: tuple[int, int]
    """Number of runs of each method."""


def unpaired_test(one: Floats, other: Floats) -> UnpairedTest:
    r"""Two-sided Welch's t test of whether the runs of two methods have the same mean.

    .. math::
        t = \frac{\bar x - \bar y}{\sqrt{s_x^2 / n_x + s_y^2 / n_y}}

    The sampling unit is the run: its seed and, if they differ, its requests. Pass one value per
    repeated run, as FS-LTR does with five runs. For two methods over the same requests,
    :func:`paired_test` detects smaller differences. The variances need not be equal.

    Args:
        one: ``[runs]``, one value per run of the first method.
        other: ``[runs]``, one value per run of the second method; the numbers of runs may differ.

    Raises:
        ShapeError: if either is not a vector.
        DataError: if a value is NaN: a run with an undefined result is not a repetition.

    Examples:
        >>> result = unpaired_test(np.array([0.5, 0.52, 0.51]), np.array([0.4, 0.42, 0.43]))
        >>> f"{result.difference:+.3f}, p = {result.p:.4f}"
        '+0.093, p = 0.0017'

    Source: Welch 1947; FS-LTR reports an unpaired t test of five repeats.
    """
    for values in (one, other):
        if values.ndim != 1:
            raise ShapeError(f"values must be [runs]; got {list(values.shape)}")
        if np.isnan(values).any():
            raise DataError(
                f"values of runs must be numbers; got NaN for {int(np.isnan(values).sum())} of "
                f"{len(values)} runs"
            )
    both = len(one) > 0 and len(other) > 0
    spread = max((float(np.ptp(values)) for values in (one, other) if len(values)), default=0.0)
    p = math.nan
    if min(len(one), len(other)) > 1 and spread > _ROUNDING:
        with warnings.catch_warnings():  # of one method whose runs differ by rounding only
            warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)
            p = float(_stats().ttest_ind(one, other, equal_var=False).pvalue)
    return UnpairedTest(
        p=p,
        difference=float(one.mean() - other.mean()) if both else math.nan,
        runs=(len(one), len(other)),
    )


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    r"""Return p values adjusted for multiple tests by Holm's step-down procedure.

    .. math::
        p'_{(i)} = \max_{j \le i} \min\left(1, (n + 1 - j)\, p_{(j)}\right)

    with n p values in ascending order. If every p' below .05 is called significant, the probability
    of at least one false positive is at most .05, whatever the dependence between the tests.

    Args:
        p_values: p values by name; NaN is not a test, and stays NaN.

    Returns:
        Adjusted p values by name, in the order of ``p_values``.

    Examples:
        >>> holm({"lcron": 0.01, "arf": 0.04, "icc": 0.03})
        {'lcron': 0.03, 'arf': 0.06, 'icc': 0.06}

    Source: Holm 1979.
    """
    tested = sorted((n for n, p in p_values.items() if not math.isnan(p)), key=p_values.__getitem__)
    adjusted, largest = dict(p_values), 0.0
    for smaller, name in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - smaller) * p_values[name]))
        adjusted[name] = largest
    return adjusted


def _sign_flips(differences: Floats, resamples: int, rng: np.random.Generator) -> float:
    """P value of the randomisation test; exact if all sign assignments can be enumerated."""
    requests = len(differences)
    # The tolerance counts sums that are equal except for rounding.
    observed = abs(differences.sum()) - 1e-12 * np.abs(differences).sum()
    if requests < 63 and 2**requests <= resamples:
        kept = np.arange(2**requests)[:, None] >> np.arange(requests) & 1
        return float((_absolute_sums(kept, differences) >= observed).mean())
    count, step = 0, max(1, _SIGNS_AT_ONCE // requests)
    for start in range(0, resamples, step):
        # One random bit per sign. For 10,000 resamples of 100,000 requests this takes one second;
        # scipy's permutation_test, which sorts random numbers, takes four minutes.
        size = (min(step, resamples - start), -(-requests // 8))
        bits = rng.integers(256, size=size, dtype=np.uint8)
        signs = np.unpackbits(bits, axis=1, count=requests)
        count += int((_absolute_sums(signs, differences) >= observed).sum())
    return (1 + count) / (1 + resamples)


def _absolute_sums(kept: NDArray[np.integer], differences: Floats) -> Floats:
    """Absolute sums of the differences, with the sign flipped where ``kept`` is 0."""
    sums: Floats = np.abs(2 * (kept.astype(np.float64) @ differences) - differences.sum())
    return sums


def _stats() -> Any:
    """Return SciPy's statistics, which take a second to import and most runs do not need."""
    from scipy import stats

    return stats
