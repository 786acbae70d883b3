"""Full-catalogue retrieval metrics of a comparison, tested over repeated runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from cascaderank.evaluation import unpaired_test
from cascaderank.experiments.against_reference import against_reference
from cascaderank.settings.run import RunSettings

Floats = NDArray[np.float64]

SEARCHED = "catalogue/"
"""Prefix of the names of full-catalogue retrieval metrics."""


@final
@dataclass(frozen=True, kw_only=True)
class SearchMetric:
    """One full-catalogue retrieval metric over all folds and seeds; undefined values are NaN."""

    metric: str
    """Name, such as ``"recall@50"``."""
    mean: float
    low: float
    high: float
    deviation: float | None
    """Standard deviation over seeds of the mean over requests; ``None`` with one seed."""
    gain: float | None
    """Difference to the reference; ``None`` for the reference."""
    gain_low: float | None
    gain_high: float | None
    p: float | None
    """P value of Welch's t test over repeated runs; NaN with one seed."""
    p_holm: float | None
    """``p`` with Holm's adjustment for all methods compared to the reference by this metric."""


def search_metrics(
    settings: RunSettings,
    values: Mapping[str, Mapping[str, Floats]],
    *,
    reference: str,
    confidence: float,
) -> dict[str, list[SearchMetric]]:
    """Return the full-catalogue retrieval metrics of every method, with gains over the reference.

    Intervals are over requests and seeds. The test is that of FS-LTR: unpaired, over the means of
    repeated runs. It generalises to other seeds, not to other requests.

    Args:
        settings: settings of the comparison.
        values: values by method and metric, ``[seeds, requests]`` each; empty for a method without
            full-catalogue search.
        reference: reference method of the gains.
        confidence: confidence level of the intervals, in (0, 1).

    Returns:
        Metrics by method; empty for a method without full-catalogue search, and for all methods if
        the reference has none.
    """
    metrics: dict[str, list[SearchMetric]] = {name: [] for name in values}
    for metric in values[reference]:
        by_method = {name: own[metric] for name, own in values.items() if metric in own}
        results = against_reference(
            settings,
            metric.removeprefix(SEARCHED),
            by_method,
            reference=reference,
            compared=by_method,
            confidence=confidence,
            p_value=lambda own, base: unpaired_test(_by_seed(own), _by_seed(base)).p,
        )
        for name, own in results.items():
            metrics[name].append(
                SearchMetric(
                    deviation=deviation(_by_seed(by_method[name])),
                    **own.without("requests"),
                )
            )
    return metrics


def _by_seed(values: Floats) -> Floats:
    """Mean over the requests where a value is defined, ``[seeds]``."""
    means: Floats = np.nanmean(values, axis=1)
    return means


def deviation(by_seed: Sequence[float] | Floats) -> float | None:
    """Return the sample standard deviation over seeds; ``None`` with one seed.

    Examples:
        >>> deviation([0.5, 0.7]), deviation([0.5])
        (0.14142135623730948, None)
    """
    return float(np.std(by_seed, ddof=1)) if len(by_seed) > 1 else None
