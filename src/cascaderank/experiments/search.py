"""What the methods of a comparison find among all items, judged as repeated runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from cascaderank.config import RunSettings
from cascaderank.evaluation import holm, two_way_bootstrap, unpaired_test

Floats = NDArray[np.float64]

SEARCHED = "catalogue/"
"""What names of metrics start with that are of the search of all items."""


@final
@dataclass(frozen=True, kw_only=True)
class SearchMetric:
    """One metric of the search of all items, over all folds and seeds; undefined is NaN."""

    metric: str
    """Such as ``"recall@50"``."""
    mean: float
    low: float
    high: float
    deviation: float | None
    """Standard deviation of the mean over seeds; ``None`` of one seed."""
    gain: float | None
    """Less that of the reference; ``None`` of the reference."""
    gain_low: float | None
    gain_high: float | None
    p: float | None
    """Of Welch's t test over repeated runs; NaN of one seed."""
    p_holm: float | None
    """The same, adjusted for all methods that are compared to the reference by this metric."""


def search_metrics(
    settings: RunSettings,
    values: Mapping[str, Mapping[str, Floats]],
    *,
    reference: str,
    confidence: float,
) -> dict[str, list[SearchMetric]]:
    """Judge the search of all items by every method.

    Intervals are over requests and seeds. The test is the one FS-LTR reports: unpaired, over
    the means of repeated runs, so that it speaks of other seeds and not of other requests.

    Args:
        settings: of the comparison.
        values: by method, then by metric, ``[seeds, requests]``; a method that did not search has
            none.
        reference: the method that gains are over.
        confidence: of the intervals.

    Returns:
        By method; nothing for one that did not search, nor for any if the reference did not.
    """
    found: dict[str, list[SearchMetric]] = {name: [] for name in values}
    drawn = {"resamples": settings.evaluation.bootstrap, "seed": settings.evaluation.seed}
    for metric in values[reference]:
        own = {name: of[metric] for name, of in values.items() if metric in of}
        means, gains = two_way_bootstrap(own, against=reference, confidence=confidence, **drawn)
        repeats = {name: np.nanmean(of, axis=1) for name, of in own.items()}
        tests = {
            name: unpaired_test(of, repeats[reference]).p
            for name, of in repeats.items()
            if name != reference
        }
        adjusted = holm(tests)
        for name, mean in means.items():
            gain = gains[name] if name in tests else None
            found[name].append(
                SearchMetric(
                    metric=metric.removeprefix(SEARCHED),
                    mean=mean.mean,
                    low=mean.low,
                    high=mean.high,
                    deviation=deviation(repeats[name]),
                    gain=gain.mean if gain else None,
                    gain_low=gain.low if gain else None,
                    gain_high=gain.high if gain else None,
                    p=tests.get(name),
                    p_holm=adjusted.get(name),
                )
            )
    return found


def deviation(by_seed: Sequence[float] | Floats) -> float | None:
    """Return the standard deviation over seeds; ``None`` of one.

    Examples:
        >>> deviation([0.5, 0.7]), deviation([0.5])
        (0.14142135623730948, None)
    """
    return float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None
