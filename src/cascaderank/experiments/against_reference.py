"""Means of a metric by method, and gains over the reference method, with intervals and tests."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.evaluation import holm, two_way_bootstrap
from cascaderank.settings.run import RunSettings

Floats = NDArray[np.float64]

PValue = Callable[[Floats, Floats], float]
"""P value of the difference of two methods, from their values ``[seeds, requests]``."""


@final
@dataclass(frozen=True, kw_only=True)
class ComparedMetric:
    """One metric of one method, and its gain over the reference; undefined values are NaN.

    Intervals are over requests and seeds.
    """

    metric: str
    """Name, such as ``"ndcg@10"``; ``"ndcg_linear"`` is NDCG with linear gain, at the size of the
    ground truth."""
    mean: float
    low: float
    high: float
    requests: int
    """Number of test requests where the metric is defined for all methods."""
    gain: float | None
    """Difference to the reference; ``None`` for the reference and for baselines."""
    gain_low: float | None
    gain_high: float | None
    p: float | None
    """P value of the gain; ``None`` without a gain or without a test."""
    p_holm: float | None
    """``p`` with Holm's adjustment for all methods compared to the reference by this metric."""

    def without(self, *names: str) -> dict[str, Any]:
        """Return the values by name, except some.

        Args:
            names: names to leave out.

        Examples:
            >>> found = ComparedMetric(
            ...     metric="mrr", mean=0.5, low=0.4, high=0.6, requests=9,
            ...     gain=None, gain_low=None, gain_high=None, p=None, p_holm=None,
            ... )
            >>> found.without("gain", "gain_low", "gain_high", "p", "p_holm")
            {'metric': 'mrr', 'mean': 0.5, 'low': 0.4, 'high': 0.6, 'requests': 9}
        """
        return {name: value for name, value in asdict(self).items() if name not in names}


def against_reference(
    settings: RunSettings,
    metric: str,
    values: Mapping[str, Floats],
    *,
    reference: str,
    compared: Collection[str],
    confidence: float,
    p_value: PValue | None,
) -> dict[str, ComparedMetric]:
    """Return the mean of a metric of every method, and the gains over the reference.

    Args:
        settings: settings of the comparison, for the bootstrap and its seed.
        metric: name of the metric.
        values: values of the metric by method, ``[seeds, requests]`` each, over the same requests.
        reference: reference method of the gains.
        compared: names of the methods that have a gain; the reference itself has none.
        confidence: confidence level of the intervals, in (0, 1).
        p_value: test of a gain; ``None`` for no test.

    Returns:
        The results by method, in the order of ``values``.

    Raises:
        ShapeError: if the methods differ in the number of requests, or one has no seed.
        ConfigError: if the reference is not one of the methods.

    Examples:
        >>> from cascaderank.settings.run import check_settings
        >>> settings = check_settings(
        ...     {
        ...         "data": {"path": "log"},
        ...         "relevance": {"top": 10},
        ...         "stages": {"ranking": {"model": "mlp", "quota": 20}},
        ...         "objective": {"name": "bce"},
        ...     }
        ... )
        >>> found = against_reference(
        ...     settings,
        ...     "recall@10",
        ...     {"bce": np.array([[0.0, 1.0]]), "lcron": np.array([[0.5, 1.0]])},
        ...     reference="bce",
        ...     compared=["bce", "lcron"],
        ...     confidence=0.95,
        ...     p_value=None,
        ... )
        >>> found["bce"].gain, found["lcron"].gain
        (None, 0.25)

    Source: this project.
    """
    means, gains = two_way_bootstrap(
        values,
        against=reference,
        resamples=settings.evaluation.bootstrap,
        seed=settings.evaluation.seed,
        confidence=confidence,
    )
    gains = {name: gain for name, gain in gains.items() if name in compared}
    tests = {name: p_value(values[name], values[reference]) for name in gains} if p_value else {}
    adjusted = holm(tests)
    found = {}
    for name, mean in means.items():
        gain = gains.get(name)
        found[name] = ComparedMetric(
            metric=metric,
            mean=mean.mean,
            low=mean.low,
            high=mean.high,
            requests=mean.requests,
            gain=gain.mean if gain else None,
            gain_low=gain.low if gain else None,
            gain_high=gain.high if gain else None,
            p=tests.get(name),
            p_holm=adjusted.get(name),
        )
    return found
