"""Findings about time: splits that train on the future, and features that follow it."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import spearmanr

from cascaderank.data.encoding.fitting import feature_values, finite_numbers
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.ragged import lengths_of, offsets_of
from cascaderank.data.split import DaySplit
from cascaderank.schema import Feature, Kind, Role
from cascaderank.settings.run import RunSettings
from cascaderank.training.check.findings import (
    MOST,
    Finding,
    error,
    note,
    percent,
    warning,
    with_shares,
)
from cascaderank.training.check.sample import Sample

_FEWEST_DAYS = 5
"""Days from which `cascaderank init` splits by day."""
_CLOCK = 0.95
"""Rank correlation with the time from which a feature is reported."""
_FEWEST = 50
"""Requests that a correlation is computed from, at least."""


def split_findings(settings: RunSettings, log: RequestLog) -> Iterator[Finding]:
    """Yield a finding if requests with timestamps are split at random.

    Args:
        settings: settings of the run.
        log: request log; only its manifest is read.
    """
    split = settings.data.split
    days = {part.day for part in log.manifest.parts if part.day is not None}
    if log.manifest.time_range is None or split.by not in ("request", "fold") or len(days) < 2:
        return
    enough = len(days) >= _FEWEST_DAYS
    yield (warning if enough else note)(
        "time",
        f'data.split.by = "{split.by}" tests on requests of {len(days)} days that are also '
        "trained on, so the model was trained on items, users and trends of the same days. "
        + (
            'Set data.split = { by = "day" }.'
            if enough
            else 'With more days, set data.split = { by = "day" }.'
        ),
    )


def time_findings(settings: RunSettings, sample: Sample) -> Iterator[Finding]:
    """Yield findings about the times of training and test requests, and about features that grow.

    Args:
        settings: settings of the run.
        sample: requests of the log.
    """
    frame, split = sample.frame, sample.data.split
    if "timestamp" not in frame.columns:
        return
    seconds = frame["timestamp"].dt.epoch("ms").to_numpy() / 1000
    by = settings.data.split.by
    if not isinstance(settings.data.split, DaySplit) and by == "given":
        train, test = seconds[split.train], seconds[split.test]
        later = float((train > test.min()).mean())
        if np.median(test) < np.median(train):
            yield error(
                "time",
                "most test requests are earlier than most training requests "
                f"({_day(test)} and {_day(train)} in the median), so the cascade is tested on the "
                'past. Set data.split = { by = "day" }.',
            )
        elif later > 0:
            yield warning(
                "time",
                f"{percent(later)} of the training requests are later than the first test "
                'request. Set data.split = { by = "day" }.',
            )
    yield from _clocks(settings, sample, seconds)


def _day(seconds: NDArray[np.float64]) -> str:
    middle = pl.Series([int(np.median(seconds)) * 1000]).cast(pl.Datetime("ms"))
    return str(middle.dt.date()[0])


def _clocks(
    settings: RunSettings, sample: Sample, seconds: NDArray[np.float64]
) -> Iterator[Finding]:
    split, schema = sample.data.split, sample.data.schema
    rows = split.train
    if len(rows) < _FEWEST or len(np.unique(seconds[rows])) < _FEWEST:
        return
    train, test = sample.part(rows), sample.part(split.test)
    used = {f.name for stage in settings.stages.values() for f in schema.select(stage.features)}
    growing, beyond = [], []
    for feature in schema.features:
        numeric = feature.kind is Kind.NUMERIC and not feature.several
        if feature.name not in used or not numeric or feature.role is Role.HISTORY:
            continue
        values = finite_numbers(feature, feature_values(train, feature))
        later = finite_numbers(feature, feature_values(test, feature))
        means = _by_request(feature, train, values)
        known = ~np.isnan(means)
        if known.sum() >= _FEWEST and len(np.unique(means[known])) > 2:
            correlation = abs(float(spearmanr(means[known], seconds[rows][known]).statistic))
            if correlation >= _CLOCK:
                growing.append((feature.name, correlation))
        values, later = values[~np.isnan(values)], later[~np.isnan(later)]
        if len(values) and len(later):
            outside = float(((later < values.min()) | (later > values.max())).mean())
            if outside >= MOST:
                beyond.append((feature.name, outside))
    if growing:
        names = ", ".join(f"{name} ({value:.2f})" for name, value in growing)
        yield warning(
            "time",
            f"features that follow the time (rank correlation): {names}. A model learns when "
            "something happened, which does not hold later. Replace a time by an age, a running "
            "total by the count of a fixed period, or leave it out.",
        )
    if beyond:
        yield warning(
            "time",
            "features whose test values are outside the range of all training values: "
            f"{with_shares(beyond)}. Models extrapolate there. Replace totals and times by "
            "differences, or leave the features out.",
        )


def _by_request(
    feature: Feature, frame: pl.DataFrame, values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the value of each request, or the mean of its candidates, NaN without any."""
    if feature.role is Role.REQUEST:
        return values
    offsets = offsets_of(lengths_of(frame[feature.name]))
    known = ~np.isnan(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    means = [
        (sums[end] - sums[start]) / (counts[end] - counts[start])
        if counts[end] > counts[start]
        else np.nan
        for start, end in pairwise(offsets.tolist())
    ]
    return np.array(means)
