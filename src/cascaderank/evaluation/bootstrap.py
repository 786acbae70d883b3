"""Bootstrap: how far a mean over requests would move if other requests or seeds had come."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, ShapeError

Floats = NDArray[np.float64]

_DRAWS_AT_ONCE = 1 << 20
"""Draws held in memory at a time; more only if there are more requests than this."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A mean over the requests where a value is defined, and its bootstrap interval."""

    mean: float
    """NaN if it is defined for no request."""
    low: float
    high: float
    requests: int
    """How many requests the mean is over."""
    undefined: int
    """How many requests have no such value, and are left out."""

    def to_json(self) -> dict[str, float | int | None]:
        """Return plain numbers; ``None`` for what is undefined, since JSON has no NaN."""
        ends = {"mean": self.mean, "low": self.low, "high": self.high}
        numbers = {name: None if math.isnan(x) else x for name, x in ends.items()}
        return {**numbers, "requests": self.requests, "undefined": self.undefined}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Summary":
        """Return what :meth:`to_json` was called on."""
        ends = {n: math.nan if data[n] is None else data[n] for n in ("mean", "low", "high")}
        return cls(**ends, requests=data["requests"], undefined=data["undefined"])


def bootstrap_interval(
    values: Floats, *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> Summary:
    """Mean over requests with its percentile bootstrap interval.

    Args:
        values: ``[requests]``; NaN is undefined, and left out and counted.
        resamples: how many times the requests are drawn anew; 0 for no interval.
        seed: equal seeds give equal intervals.
        confidence: between 0 and 1.

    Raises:
        ShapeError: if ``values`` is not a vector.
        ConfigError: if ``resamples`` or ``confidence`` is out of range.

    Examples:
        >>> found = bootstrap_interval(np.array([0.0, 1.0, 1.0, np.nan]))
        >>> f"{found.mean:.3f} in {found.low:.3f} to {found.high:.3f}, {found.undefined} undefined"
        '0.667 in 0.000 to 1.000, 1 undefined'

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
    """Mean over requests of each column, with its percentile bootstrap interval.

    Whole requests are drawn with replacement, the same ones for all columns. An undefined value is
    left out of every mean it is drawn into. Drawing from all requests, not only from those where
    the column is defined, keeps a column's interval free of the other columns and lets the number
    of defined values vary as it would.

    Args:
        columns: by name, ``[requests]`` each; NaN is undefined.
        resamples: how many times the requests are drawn anew; 0 leaves the ends NaN.
        seed: equal seeds give equal intervals.
        confidence: between 0 and 1.

    Raises:
        ShapeError: if the columns are not of one length.
        ConfigError: if ``resamples`` or ``confidence`` is out of range.

    Examples:
        >>> columns = {"recall": np.array([1.0, 0.5, 0.5]), "depth": np.array([np.nan, 2.0, 2.0])}
        >>> for name, found in bootstrap_intervals(columns).items():
        ...     print(f"{name} {found.mean:.2f} in {found.low:.2f} to {found.high:.2f}")
        recall 0.67 in 0.50 to 1.00
        depth 2.00 in 2.00 to 2.00

    Source: Efron 1979, percentile method.
    """
    if len({len(column) for column in columns.values()}) > 1:
        lengths = {name: len(column) for name, column in columns.items()}
        raise ShapeError(f"columns must have one value per request each; got {lengths}")
    _check_resampling(resamples, confidence)
    if not columns:
        return {}
    values = np.column_stack(list(columns.values())).astype(np.float64)
    low, high = _ends(values, resamples, np.random.default_rng(seed), (1 - confidence) / 2)
    summaries = {}
    for name, column, lower, upper in zip(columns, values.T, low, high, strict=True):
        # A copy in one piece: numpy adds strided numbers in another order.
        defined = column[~np.isnan(column)]
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
    """Means of methods over requests and seeds, and their differences to one, with intervals.

    The interval says where the mean would lie if other requests had come *and* training had been
    seeded otherwise. Each replicate draws requests with replacement, the same ones for all
    methods, and for each method draws from its own seeds. Two things to know. Both variances are
    in it, with what is neither the request's nor the seed's counted three times, so it is rather
    too wide. But S seeds drawn anew show only (S - 1) / S of the variance between seeds: in that
    part it is too narrow for two or three seeds, and of one seed it is one over requests.

    Args:
        methods: by name, ``[seeds, requests]`` each, over the same requests; seeds may differ in
            number. A request where any value of any method is NaN is left out and counted.
        against: the method that the others are compared to; none if not given.
        resamples: how many times requests and seeds are drawn anew; 0 leaves the ends NaN.
        seed: equal seeds give equal intervals.
        confidence: between 0 and 1.

    Returns:
        By name the means, and by name the differences to ``against``, which has none itself.

    Raises:
        ShapeError: if the methods are not over equally many requests, or one has no seed.
        ConfigError: if ``resamples`` or ``confidence`` is out of range, or ``against`` is none of
            the methods.

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
        raise ShapeError(f"methods must be [seeds, requests], the same requests each; got {shapes}")
    if against is not None and against not in methods:
        raise ConfigError(f"against must be one of {list(methods)}; got {against!r}")
    _check_resampling(resamples, confidence)
    if not methods:
        return {}, {}
    seeds = [len(values) for values in methods.values()]
    values = np.concatenate(list(methods.values())).T.astype(np.float64)
    defined = ~np.isnan(values).any(axis=1)
    kept, undefined = values[defined], int((~defined).sum())

    # Column of a method: its mean over seeds is a product with the weights of its own rows.
    rng = np.random.default_rng(seed)
    means = np.full((resamples, len(seeds)), np.nan)
    step = max(1, _DRAWS_AT_ONCE // max(1, len(kept)))
    for start in range(0, resamples if len(kept) else 0, step):
        draws = min(step, resamples - start)
        by_seed = _times_drawn(rng, draws, len(kept)) @ kept / len(kept)
        for method, columns in enumerate(np.split(np.arange(sum(seeds)), np.cumsum(seeds)[:-1])):
            times = _times_drawn(rng, draws, len(columns)) / len(columns)
            means[start : start + draws, method] = (times * by_seed[:, columns]).sum(1)

    found = {name: columns[:, defined].mean(0) for name, columns in methods.items()}
    replicates = dict(zip(methods, means.T, strict=True))
    tail = (1 - confidence) / 2

    def summary(of_requests: Floats, drawn: Floats) -> Summary:
        some = len(of_requests) > 0
        low, high = np.quantile(drawn, [tail, 1 - tail]) if some and resamples else (np.nan,) * 2
        return Summary(
            mean=float(of_requests.mean()) if some else math.nan,
            low=float(low),
            high=float(high),
            requests=len(of_requests),
            undefined=undefined,
        )

    whole = {name: summary(found[name], replicates[name]) for name in methods}
    if against is None:
        return whole, {}
    return whole, {
        name: summary(found[name] - found[against], replicates[name] - replicates[against])
        for name in methods
        if name != against
    }


def _check_resampling(resamples: int, confidence: float) -> None:
    if resamples < 0:
        raise ConfigError(f"resamples must be at least 0; got {resamples}")
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence must lie between 0 and 1; got {confidence}")


def _ends(
    values: Floats, resamples: int, rng: np.random.Generator, tail: float
) -> tuple[Floats, Floats]:
    """Lower and upper ends of the columns of ``[requests, columns]``; NaN if undefined."""
    requests, columns = values.shape
    low, high = np.full(columns, np.nan), np.full(columns, np.nan)
    defined = ~np.isnan(values)
    some = defined.any(axis=0)
    if not some.any() or not resamples:
        return low, high

    # Sums and counts of a draw are one product with how often each request was drawn. Around the
    # first defined value: a constant column then has exactly that constant for its ends.
    centre = values[defined.argmax(axis=0), np.arange(columns)]
    summands = np.hstack([np.where(defined, values - centre, 0.0), defined.astype(np.float64)])
    means = np.empty((resamples, columns))
    step = max(1, _DRAWS_AT_ONCE // requests)
    for start in range(0, resamples, step):
        drawn = _times_drawn(rng, min(step, resamples - start), requests) @ summands
        with np.errstate(invalid="ignore"):  # 0 / 0: nothing defined was drawn
            means[start : start + step] = drawn[:, :columns] / drawn[:, columns:]
    some &= ~np.isnan(means).all(axis=0)
    ends = np.nanquantile(means[:, some], [tail, 1 - tail], axis=0) + centre[some]
    low[some], high[some] = ends
    return low, high


def _times_drawn(rng: np.random.Generator, resamples: int, requests: int) -> Floats:
    """How often each request is drawn in each replicate, ``[resamples, requests]``."""
    drawn = rng.integers(requests, size=(resamples, requests))
    drawn += np.arange(resamples)[:, None] * requests
    times = np.bincount(drawn.ravel(), minlength=resamples * requests)
    return times.reshape(resamples, requests).astype(np.float64)
