"""Metrics of a comparison besides joint recall: of the final list, and of single stages."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from cascaderank.evaluation import paired_test
from cascaderank.evaluation.report import over_all_candidates
from cascaderank.experiments.against_reference import ComparedMetric, PValue, against_reference
from cascaderank.metrics import named_metric
from cascaderank.settings.run import RunSettings

Floats = NDArray[np.float64]

DECIDED = "joint_recall_decided"
"""Joint recall over the requests with more candidates than the last quota."""


@final
@dataclass(frozen=True, kw_only=True)
class StageMetric:
    """One metric of a single stage over all candidates, over all folds and seeds.

    The stage ranks all candidates of a request, also those that an earlier stage cuts. Undefined
    values are NaN.
    """

    stage: str
    metric: str
    """Name, such as ``"ndcg@15"``."""
    mean: float
    low: float
    high: float
    gain: float | None
    """Difference to the reference; ``None`` for the reference and for baselines."""
    gain_low: float | None
    gain_high: float | None


def final_metrics(
    settings: RunSettings,
    values: Callable[[str, str], Floats | None],
    methods: Collection[str],
    *,
    reference: str,
    trained: Collection[str],
    confidence: float,
) -> tuple[dict[str, list[ComparedMetric]], list[str]]:
    """Return the metrics of the final list of every method, with gains and tests.

    These are the joint recall over lists longer than the last quota, unless no list is shorter, the
    NDCG with linear gain, and the metrics of ``evaluation.metrics`` that apply to a ranked list.
    Candidates that a stage cuts are not retrieved; denominators are over all candidates of a
    request in the log.

    Args:
        settings: settings of the comparison.
        values: function of a method and a metric that returns the values ``[seeds, requests]``, or
            ``None`` if a run does not have the metric: one of version 0.2, or one whose labels are
            too large for it.
        methods: names of all methods.
        reference: reference method of the gains.
        trained: names of the methods whose gains are tested.
        confidence: confidence level of the intervals, in (0, 1).

    Returns:
        The metrics by method, and the names of the metrics that some run does not have.
    """
    additional = [m for m in settings.evaluation.metrics if named_metric(m).ranks_a_list]
    found: dict[str, list[ComparedMetric]] = {name: [] for name in methods}
    absent = []
    for metric in (DECIDED, "ndcg_linear", *additional):
        known = _of_all_methods(values, methods, metric)
        if known is None:
            absent.append(metric)
            continue
        if metric == DECIDED and _is_of_all(known[reference], values(reference, "joint_recall")):
            continue
        results = against_reference(
            settings,
            metric,
            known,
            reference=reference,
            compared=trained,
            confidence=confidence,
            p_value=paired_p(settings),
        )
        for name, own in results.items():
            found[name].append(own)
    return found, absent


def stage_metrics(
    settings: RunSettings,
    values: Callable[[str, str], Floats | None],
    methods: Collection[str],
    *,
    reference: str,
    trained: Collection[str],
    confidence: float,
) -> dict[str, list[StageMetric]]:
    """Return the metrics of ``evaluation.metrics`` of every method for every stage.

    A metric that some run does not have is left out.

    Args:
        settings: settings of the comparison.
        values: function of a method and a metric, as in :func:`final_metrics`.
        methods: names of all methods.
        reference: reference method of the gains.
        trained: names of the methods with gains.
        confidence: confidence level of the intervals, in (0, 1).
    """
    metrics: dict[str, list[StageMetric]] = {name: [] for name in methods}
    for stage in settings.stages:
        for metric in settings.evaluation.metrics:
            known = _of_all_methods(values, methods, over_all_candidates(metric, stage))
            if known is None:
                continue
            results = against_reference(
                settings,
                metric,
                known,
                reference=reference,
                compared=trained,
                confidence=confidence,
                p_value=None,
            )
            for name, own in results.items():
                shown = own.without("requests", "p", "p_holm")
                metrics[name].append(StageMetric(stage=stage, **shown))
    return metrics


def paired_p(settings: RunSettings) -> PValue:
    """Return the paired randomisation test over requests, of the means over seeds.

    Args:
        settings: settings of the comparison, for the seed of the test.
    """
    return lambda own, base: (
        paired_test(own.mean(0) - base.mean(0), seed=settings.evaluation.seed).p
    )


def _of_all_methods(
    values: Callable[[str, str], Floats | None], methods: Collection[str], metric: str
) -> dict[str, Floats] | None:
    """Return the values of a metric by method; ``None`` if some method does not have it."""
    by_method = {name: values(name, metric) for name in methods}
    known = {name: x for name, x in by_method.items() if x is not None}
    return known if len(known) == len(by_method) else None


def _is_of_all(decided: Floats, joint: Floats | None) -> bool:
    """Whether something is decided in every request with ground truth."""
    return joint is not None and bool((np.isnan(decided) == np.isnan(joint)).all())
