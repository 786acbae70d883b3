"""Bootstrap confidence intervals of means over requests, and over requests and seeds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, ShapeError, counted
from cascaderank.limits import check_fits

Floats = NDArray[np.float64]

_DRAWS_AT_ONCE = 1 << 20
"""Number of draws of requests before those of seeds in a two-way bootstrap; determines them."""

_CACHED_DRAWS = 1 << 17
"""Number of draws that fit into the cache; one replicate of more requests exceeds it."""

_REPLICATES_AT_ONCE = 64
"""Number of replicates of one pass over the values."""

_REQUESTS_AT_ONCE = 1 << 13
"""Number of requests whose draws are in memory as float64, and whose values fit into the cache."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Mean over the requests where a value is defined, with its bootstrap interval."""

    mean: float
    """NaN if the value is undefined for every request."""
    low: float
    """Lower end of the interval; NaN if there is none."""
    high: float
    """Upper end of the interval; NaN if there is none."""
    requests: int
    """Number of requests in the mean."""
    undefined: int
    """Number of requests whose value is undefined; they are excluded from the mean."""

    def to_json(self) -> dict[str, float | int | None]:
        """Return a JSON-compatible dict; undefined values are ``None``, since JSON has no NaN."""
        ends = {"mean": self.mean, "low": self.low, "high": self.high}
        numbers = {name: None if math.isnan(x) else x for name, x in ends.items()}
        return {**numbers, "requests": self.requests, "undefined": self.undefined}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Summary":
        """Return the summary from the output of :meth:`to_json`."""
        ends = {n: math.nan if data[n] is None else data[n] for n in ("mean", "low", "high")}
        return cls(**ends, requests=data["requests"], undefined=data["undefined"])


def bootstrap_interval(
    values: Floats, *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Summary:
    """Return the mean over requests with its percentile bootstrap interval.

    Args:
        values: ``[requests]``; NaN is undefined, excluded from the mean and counted.
        resamples: number of bootstrap replicates; 0 disables the interval.
        seed: random seed of the bootstrap; equal seeds give equal intervals.
        confidence: confidence level, in (0, 1).

    Raises:
        ShapeError: if ``values`` is not a vector.
        ConfigError: if ``resamples`` or ``confidence`` is out of range.

    Examples:
        >>> result = bootstrap_interval(np.array([0.0, 1.0, 1.0, np.nan]))
        >>> print(f"{result.mean:.3f} in [{result.low:.3f}, {result.high:.3f}]", result.undefined)
        0.667 in [0.000, 1.000] 1

    Source: Efron 1979, percentile method.
    """
    if values.ndim != 1:
        raise ShapeError(f"values must be [requests]; got {list(values.shape)}")
    summaries = bootstrap_intervals(
        {"values": values}, resamples=resamples, seed=seed, confidence=confidence
    )
    return summaries["values"]


def bootstrap_intervals(
    columns: Mapping[str, Floats],
    *,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Summary]:
    """Return the mean over requests of each column with its percentile bootstrap interval.

    Requests are drawn with replacement; a replicate uses the same requests for all columns. The
    mean of a replicate is over the defined values drawn. Replicates are drawn from all requests,
    also where a column is undefined. The interval of a column is therefore independent of the
    other columns, and the number of defined values varies between replicates as it would between
    samples.

    Args:
        columns: values by name, ``[requests]`` each; NaN is undefined.
        resamples: number of bootstrap replicates; with 0, the ends are NaN.
        seed: random seed of the bootstrap; equal seeds give equal intervals.
        confidence: confidence level, in (0, 1).

    Raises:
        ShapeError: if the columns differ in length.
        ConfigError: if ``resamples`` or ``confidence`` is out of range.

    Examples:
        >>> columns = {"recall": np.array([1.0, 0.5, 0.5]), "depth": np.array([np.nan, 2.0, 2.0])}
        >>> for name, summary in bootstrap_intervals(columns).items():
        ...     print(f"{name} {summary.mean:.2f} in [{summary.low:.2f}, {summary.high:.2f}]")
        recall 0.67 in [0.50, 1.00]
        depth 2.00 in [2.00, 2.00]

    Source: Efron 1979, percentile method.
    """
    if len({len(column) for column in columns.values()}) > 1:
        lengths = {name: len(column) for name, column in columns.items()}
        raise ShapeError(f"columns must all have one value per request; got lengths {lengths}")
    _check_resampling(resamples, confidence, columns=len(columns))
    if not columns:
        return {}
    low, high = _ends(columns, resamples, np.random.default_rng(seed), (1 - confidence) / 2)
    summaries = {}
    for (name, column), lower, upper in zip(columns.items(), low, high, strict=True):
        # A contiguous copy: numpy sums strided values in a different order.
        defined = column[~np.isnan(column)].astype(np.float64)
        summaries[name] = Summary(
            mean=float(defined.mean()) if len(defined) else math.nan,
            low=float(lower),
            high=float(upper),
            requests=len(defined),
            undefined=len(column) - len(defined),
        )
    return summaries


def two_way_bootstrap(
    methods: Mapping[str, Floats],
    *,
    against: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[dict[str, Summary], dict[str, Summary]]:
    """Return means of methods over requests and seeds, and differences to one, with intervals.

    The interval covers the variation of the mean over other requests *and* other training seeds.
    Each replicate draws requests with replacement, the same requests for all methods, and draws
    seeds with replacement separately for each method. The interval has two known biases:

    - It includes the variance between requests and the variance between seeds, but counts the
      residual variance, which belongs to neither, three times. It is therefore slightly too wide.
    - Resampling S seeds reproduces only (S - 1) / S of the variance between seeds. That part is too
      narrow for two or three seeds; with one seed, the interval is over requests only.

    Args:
        methods: values by name, ``[seeds, requests]`` each, over the same requests; the number of
            seeds may differ. A request where any value of any method is NaN is excluded and
            counted.
        against: reference method of the differences; by default there are no differences.
        resamples: number of bootstrap replicates; with 0, the ends are NaN.
        seed: random seed of the bootstrap; equal seeds give equal intervals.
        confidence: confidence level, in (0, 1).

    Returns:
        The means by name, and the differences to ``against`` by name, without ``against`` itself.

    Raises:
        ShapeError: if the methods differ in the number of requests, or one has no seed.
        ConfigError: if ``resamples`` or ``confidence`` is out of range, or ``against`` is not one
            of the methods.

    Examples:
        >>> methods = {"bce": np.array([[0.0, 1.0, 0.5]]), "lcron": np.array([[0.5, 1.0, 0.5]])}
        >>> means, gains = two_way_bootstrap(methods, against="bce")
        >>> f"{means['lcron'].mean:.2f}, {gains['lcron'].mean:+.2f}"
        '0.67, +0.17'

    Source: Owen, The pigeonhole bootstrap (Annals of Applied Statistics 2007).
    """
    shapes = {name: list(values.shape) for name, values in methods.items()}
    if (
        any(len(s) != 2 or not s[0] for s in shapes.values())
        or len({s[1] for s in shapes.values()}) > 1
    ):
        raise ShapeError(f"methods must be [seeds, requests] over the same requests; got {shapes}")
    if against is not None and against not in methods:
        raise ConfigError(f"against must be one of {list(methods)}; got {against!r}")
    _check_resampling(resamples, confidence, columns=len(methods))
    if not methods:
        return {}, {}
    seeds = [len(values) for values in methods.values()]
    values = np.concatenate(list(methods.values())).T.astype(np.float64)
    defined = ~np.isnan(values).any(axis=1)
    kept, undefined = values[defined], int((~defined).sum())

    # The mean of a method in a replicate is the weighted sum of its seeds' means over requests.
    rng = np.random.default_rng(seed)
    means = np.full((resamples, len(seeds)), np.nan)
    step = max(1, _DRAWS_AT_ONCE // max(1, len(kept)))
    for start in range(0, resamples if len(kept) else 0, step):
        draws = min(step, resamples - start)
        seed_means = _times_drawn(rng, draws, len(kept)).astype(np.float64) @ kept / len(kept)
        for method, columns in enumerate(np.split(np.arange(sum(seeds)), np.cumsum(seeds)[:-1])):
            times = _times_drawn(rng, draws, len(columns)) / len(columns)
            means[start : start + draws, method] = (times * seed_means[:, columns]).sum(1)

    mean_values = {name: columns[:, defined].mean(0) for name, columns in methods.items()}
    replicates = dict(zip(methods, means.T, strict=True))
    tail = (1 - confidence) / 2

    def summary(values: Floats, drawn: Floats) -> Summary:
        some = len(values) > 0
        low, high = np.quantile(drawn, [tail, 1 - tail]) if some and resamples else (np.nan,) * 2
        return Summary(
            mean=float(values.mean()) if some else math.nan,
            low=float(low),
            high=float(high),
            requests=len(values),
            undefined=undefined,
        )

    summaries = {name: summary(mean_values[name], replicates[name]) for name in methods}
    if against is None:
        return summaries, {}
    return summaries, {
        name: summary(
            mean_values[name] - mean_values[against], replicates[name] - replicates[against]
        )
        for name in methods
        if name != against
    }


def _check_resampling(resamples: int, confidence: float, *, columns: int) -> None:
    if resamples < 0:
        raise ConfigError(f"resamples must be at least 0; got {resamples}")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must be in (0, 1); got {confidence}")
    check_fits(
        8.0 * resamples * columns,
        f"{resamples:,} bootstrap replicates of {counted(columns, 'mean')}",
        "reduce the number of replicates, evaluation.bootstrap",
    )


def _ends(
    columns: Mapping[str, Floats], resamples: int, rng: np.random.Generator, tail: float
) -> tuple[Floats, Floats]:
    """Lower and upper ends of the interval of each column of ``[requests]`` values, or NaN."""
    values = np.column_stack(list(columns.values())).astype(np.float64, copy=False)
    requests, width = values.shape
    low, high = np.full(width, np.nan), np.full(width, np.nan)
    defined = ~np.isnan(values)
    some = defined.any(axis=0)
    if not some.any() or not resamples:
        return low, high

    # The sums and counts of a replicate are one matrix product with the number of times that each
    # request was drawn. Values are centred on the first defined one, so that the ends of a constant
    # column are exactly that constant.
    centre = values[defined.argmax(axis=0), np.arange(width)]
    values -= centre
    values[~defined] = 0.0
    means = np.empty((resamples, width))
    for start in range(0, resamples, _REPLICATES_AT_ONCE):
        times = _times_drawn(rng, min(_REPLICATES_AT_ONCE, resamples - start), requests)
        drawn = np.zeros((len(times), 2 * width))
        for first in range(0, requests, _REQUESTS_AT_ONCE):
            part = slice(first, first + _REQUESTS_AT_ONCE)
            drawn += times[:, part].astype(np.float64) @ np.hstack([values[part], defined[part]])
        with np.errstate(invalid="ignore"):  # 0 / 0: no defined value was drawn
            means[start : start + len(times)] = drawn[:, :width] / drawn[:, width:]
    some &= ~np.isnan(means).all(axis=0)
    ends = np.nanquantile(means[:, some], [tail, 1 - tail], axis=0) + centre[some]
    low[some], high[some] = ends
    return low, high


def _times_drawn(rng: np.random.Generator, resamples: int, requests: int) -> NDArray[np.uint16]:
    """Number of times that each request is drawn in each replicate, ``[resamples, requests]``."""
    # The sum over requests is their number, so 16 bits suffice up to 65,535 requests; of more, no
    # request is drawn 65,536 times: the probability is below 1 / 65,536!.
    times = np.empty((resamples, requests), dtype=np.uint16)
    step = max(1, _CACHED_DRAWS // max(1, requests))
    for start in range(0, resamples, step):
        part = times[start : start + step]
        drawn = rng.integers(requests, size=part.shape)
        drawn += np.arange(len(part))[:, None] * requests
        part[...] = np.bincount(drawn.ravel(), minlength=part.size).reshape(part.shape)
    return times
