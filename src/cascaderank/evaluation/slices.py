"""Slices of requests or items where a cascade performs worse than elsewhere, with tests."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation.statistics.significance import holm

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Grouping:
    """Values of units that are grouped by one feature.

    A unit is a request; for a feature of items, it is a request and a value of the feature, and
    its values are those of the candidates of the request that have this value of the feature.
    """

    feature: str
    """Name of the feature."""
    names: Sequence[str]
    """Names of the slices."""
    codes: NDArray[np.integer[Any]]
    """``[units]`` index of the slice of each unit; -1 for a unit of no slice."""
    values: Floats
    """``[units]`` metric of each unit, higher is better; NaN is undefined."""
    details: Mapping[str, Floats] = field(default_factory=dict)
    """Further values by name, ``[units]`` each, whose means are reported."""


@final
@dataclass(frozen=True, kw_only=True)
class Slice:
    """Mean of a metric in a slice and in the rest, with a test of whether the slice is worse."""

    feature: str
    name: str
    """Name of the slice, such as a value of the feature."""
    units: int
    """Number of units with a defined value in the slice."""
    mean: float
    low: float
    """Lower end of the interval of the mean, by Student's t distribution."""
    high: float
    rest: float
    """Mean over the other units of the feature."""
    p: float
    """One-sided p value of whether the mean in the slice is lower than in the rest."""
    p_holm: float
    """``p`` with Holm's adjustment for all slices that were tested."""
    details: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Mean of each further value in the slice and in the rest."""

    @property
    def difference(self) -> float:
        """Mean in the slice minus mean in the rest."""
        return self.mean - self.rest


def weak_slices(
    groupings: Sequence[Grouping], *, min_units: int = 20, confidence: float = 0.95
) -> tuple[Slice, ...]:
    r"""Test for every slice whether its mean is lower than the mean of the rest; worst first.

    Under the null hypothesis, the units of a slice are drawn at random, without replacement, from
    all units of the feature. The mean of a slice of n of N units then has the mean of all units and

    .. math::
        \text{variance } \frac{\sigma^2}{n} \frac{N - n}{N - 1}, \qquad
        \text{skewness } \frac{\mu_3}{\sigma^3} \frac{N - 2n}{N - 2} \sqrt{\frac{N - 1}{n (N - n)}}

    with the central moments of all units. The p value is that of a Pearson type III distribution
    with these three moments. The skewness matters: recall is often 1 for most requests, and a
    normal distribution would then flag small slices far too often. P values are adjusted by Holm's
    procedure over all slices of all features, so the probability that any slice is flagged by
    chance is at most the level.

    Args:
        groupings: units by feature. For a feature of items, a request has at most one unit in each
            slice, so that the units of a slice are independent.
        min_units: smallest number of units of a slice, and of the rest, that is tested; at least 2.
        confidence: confidence level of the intervals, in (0, 1).

    Returns:
        All tested slices: by adjusted p value, and of equal ones the lowest p value first.

    Raises:
        ShapeError: if the arrays of a grouping differ in length.
        ConfigError: if ``min_units`` or ``confidence`` is out of range, or a code is not the index
            of a name.

    Examples:
        >>> recall = np.array([1.0] * 40 + [0.0, 0.5] * 10)
        >>> country = np.repeat([0, 1, 2], 20)
        >>> countries = Grouping(
        ...     feature="country", names=["DE", "FR", "IT"], codes=country, values=recall
        ... )
        >>> found = weak_slices([countries])
        >>> f"{found[0].name}: {found[0].mean:.2f}, elsewhere {found[0].rest:.2f}"
        'IT: 0.25, elsewhere 1.00'

    Source: the moments of sampling without replacement are those of Fisher 1928; Pearson type III
    approximations of permutation tests, Mielke and Berry 2007; the combination is of this project.
    """
    if min_units < 2:
        raise ConfigError(f"min_units must be at least 2; got {min_units}")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must be in (0, 1); got {confidence}")
    tested = [part for g in groupings for part in _tested(g, min_units, confidence)]
    adjusted = holm({str(i): part.p for i, part in enumerate(tested)})
    found = [Slice(**{**vars(part), "p_holm": adjusted[str(i)]}) for i, part in enumerate(tested)]
    return tuple(sorted(found, key=lambda s: (s.p_holm, s.p, s.difference)))


def _tested(grouping: Grouping, min_units: int, confidence: float) -> list[Slice]:
    """Return the slices of one feature that have enough units, without the adjustment."""
    _check(grouping)
    defined = ~np.isnan(grouping.values)
    codes, values = np.asarray(grouping.codes)[defined], grouping.values[defined]
    details = {name: of_units[defined] for name, of_units in grouping.details.items()}
    total, inside = len(values), codes >= 0
    counts = np.bincount(codes[inside], minlength=len(grouping.names))
    large = (counts >= min_units) & (total - counts >= min_units)
    if not large.any():
        return []

    def means(of_units: Floats) -> tuple[Floats, Floats]:
        sums = np.bincount(codes[inside], of_units[inside], minlength=len(counts))
        with np.errstate(invalid="ignore", divide="ignore"):  # of slices that are not tested
            return sums / counts, (of_units.sum() - sums) / (total - counts)

    mean, rest = means(values)
    of_details = {name: means(of_units) for name, of_units in details.items()}
    p = _p_values(values, mean, counts)
    half = _half_widths(values[inside], codes[inside], mean, counts, confidence)
    lowest, highest = values.min(), values.max()
    return [
        Slice(
            feature=grouping.feature,
            name=grouping.names[i],
            units=int(counts[i]),
            mean=float(mean[i]),
            low=float(max(lowest, mean[i] - half[i])),
            high=float(min(highest, mean[i] + half[i])),
            rest=float(rest[i]),
            p=float(p[i]),
            p_holm=math.nan,
            details={n: (float(a[i]), float(b[i])) for n, (a, b) in of_details.items()},
        )
        for i in map(int, np.flatnonzero(large))
    ]


def _check(grouping: Grouping) -> None:
    lengths = {
        "codes": len(grouping.codes),
        "values": len(grouping.values),
        **{name: len(values) for name, values in grouping.details.items()},
    }
    if len(set(lengths.values())) > 1:
        raise ShapeError(
            f"'{grouping.feature}': expected one value per unit; got lengths {lengths}"
        )
    highest = int(np.max(grouping.codes, initial=-1))
    if highest >= len(grouping.names):
        raise ConfigError(
            f"'{grouping.feature}': codes must be below {len(grouping.names)}, the number of "
            f"names; got {highest}"
        )


def _p_values(values: Floats, mean: Floats, counts: NDArray[np.integer[Any]]) -> Floats:
    """Return the probability that a random slice of each size has at most its mean."""
    from scipy import stats  # takes a second to import

    total, centred = len(values), values - values.mean()
    variance, third = (centred**2).mean(), (centred**3).mean()
    p = np.ones(len(counts))
    tested = (counts > 0) & (counts < total) & (total > 2)
    if variance <= 1e-24 or not tested.any():
        return p
    n = counts[tested].astype(np.float64)
    deviation = np.sqrt(variance / n * (total - n) / (total - 1))
    skewness = (
        third / variance**1.5 * (total - 2 * n) / (total - 2)
        * np.sqrt((total - 1) / (n * (total - n)))
    )  # fmt: skip
    below = (mean[tested] - values.mean()) / deviation
    p[tested] = stats.pearson3.cdf(below, skewness)
    return np.clip(p, 0.0, 1.0)


def _half_widths(
    values: Floats,
    codes: NDArray[np.integer[Any]],
    mean: Floats,
    counts: NDArray[np.integer[Any]],
    confidence: float,
) -> Floats:
    """Return half the width of the t interval of each slice; NaN for fewer than two units."""
    from scipy import stats

    squares = np.bincount(codes, (values - mean[codes]) ** 2, minlength=len(counts))
    with np.errstate(invalid="ignore", divide="ignore"):
        error = np.sqrt(squares / (counts - 1) / counts)
        half: Floats = stats.t.ppf((1 + confidence) / 2, counts - 1) * error
    return half
