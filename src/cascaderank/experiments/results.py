"""Results of a comparison: means, intervals, tests and costs of every method."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.experiments.against_reference import ComparedMetric, against_reference
from cascaderank.experiments.metric_results import (
    StageMetric,
    final_metrics,
    paired_p,
    stage_metrics,
)
from cascaderank.experiments.published import PublishedTable, PublishedValue, published_table
from cascaderank.experiments.retrieval_metrics import (
    SEARCHED,
    SearchMetric,
    deviation,
    search_metrics,
)
from cascaderank.html_tables import html_table
from cascaderank.schema import matching
from cascaderank.settings.run import RunSettings

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""Confidence level of all intervals."""


@final
@dataclass
class MethodRuns:
    """Results of the runs of one method: values per request, costs and tuning."""

    values: defaultdict[int, defaultdict[str, list[Floats]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """Values by seed and metric: one array over test requests for each fold, in order."""
    seconds: list[float] = field(default_factory=list)
    """Training time in seconds, one per evaluated run; empty for a baseline."""
    peak_memory: list[int] = field(default_factory=list)
    """Peak memory in bytes, one per evaluated run; empty for a baseline."""
    sees_more: bool = False
    """Whether a stage uses a feature that this stage of the cascade may not use."""
    tuning: list[dict[str, Any]] = field(default_factory=list)
    """Tuning record of each fold: ``{"chosen": {...}, "tried": [{"values": {...}, "validation": ..,
    "seconds": ..}], "at_edge": [...]}``; ``at_edge`` lists the settings whose chosen value is the
    lowest or the highest value tried."""


@final
@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """Results of one method over all folds and seeds; undefined values are NaN."""

    name: str
    trained: bool
    """``True`` for a trained method, ``False`` for a baseline."""
    sees_more: bool
    """Whether a stage uses a feature that this stage of the cascade may not use, so that the method
    is no fair competitor."""
    joint_recall: float
    """Mean over test requests of the mean over seeds."""
    low: float
    """Lower end of the 95 % interval over requests and seeds."""
    high: float
    """Upper end of the 95 % interval over requests and seeds."""
    by_seed: list[float]
    """Mean over test requests, per seed."""
    seed_deviation: float | None
    """Sample standard deviation of :attr:`by_seed`; ``None`` with one seed."""
    by_fold: list[float]
    """Mean over the test requests and seeds of each fold."""
    stage_recall: dict[str, float]
    """Recall@m@k by stage over all candidates, with m the quota of the stage."""
    stage_ndcg: dict[str, float]
    """NDCG with linear gain by stage over all candidates, at the size of the ground truth."""
    stage_survival: dict[str, float]
    """Share of the ground truth that remains after each stage."""
    final_metrics: list[ComparedMetric]
    """Metrics of the list that the cascade returns, with intervals over requests and seeds."""
    stage_metrics: list[StageMetric]
    """Metrics of ``evaluation.metrics`` by stage over all candidates, with intervals over requests
    and seeds."""
    search: list[SearchMetric]
    """Full-catalogue retrieval metrics of the first stage; empty without such a search."""
    share_of_ceiling: float | None
    """Joint recall divided by the ceiling; ``None`` if the ceiling is 0."""
    gain: float | None
    """Joint recall minus that of the reference; ``None`` for baselines and the reference."""
    gain_low: float | None
    gain_high: float | None
    p: float | None
    """Two-sided p value of the paired randomisation test of the gain over requests."""
    p_holm: float | None
    """``p`` with Holm's adjustment for all trained methods compared to the reference."""
    seconds: float | None
    """Mean training time of the evaluated runs, in seconds; ``None`` for a baseline."""
    peak_memory: float | None
    """Maximum peak memory of the evaluated runs in bytes; ``None`` if not measured."""
    tuning: list[dict[str, Any]]
    """Tuning record of each fold; see :class:`MethodRuns`."""
    published: PublishedValue | None
    """Joint recall in the selected table of a paper; ``None`` if it does not contain the method."""


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Results of all methods of a comparison."""

    dataset: str
    requests: int
    """Number of test requests with ground truth, over all folds."""
    undefined: int
    """Number of test requests without ground truth; they are excluded."""
    absent: list[str]
    """Metrics of the final list that are left out: not in runs of version 0.2, or with gain 2^y - 1
    and labels too large for it."""
    folds: int
    fold_names: list[str]
    seeds: int
    reference: str
    """Reference method of the gains."""
    confidence: float
    """Confidence level of the intervals."""
    ceiling: float
    """Upper bound of the joint recall; see :attr:`ceiling_kind`."""
    ceiling_kind: str
    """``"planted"``: joint recall of a cascade whose stages score by the planted preferences, as
    far as their features allow. ``"quotas"``: joint recall of a perfect cascade, which loses only
    the ground truth that exceeds the last quota."""
    published: dict[str, str] | None
    """Table of a paper: ``table``, ``title``, ``dataset``, ``source``, ``note``, the limits of
    the comparison, and ``ndcg``, why NDCG cannot be compared, if so."""
    methods: list[MethodResult]
    warnings: list[str] = field(default_factory=list)
    """Warnings of the runs, with the methods and the number of runs that have each."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict; undefined values are ``None``."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        return html_table(
            f"{self.dataset}: joint recall over {self.requests:,} test requests",
            ("method", "joint recall", "low", "high", f"gain over {self.reference}", "p (Holm)"),
            ((m.name, m.joint_recall, m.low, m.high, m.gain, m.p_holm) for m in self.methods),
        )


def check_reference(settings: RunSettings, methods: Sequence[str]) -> None:
    """Check the reference and the published table before any work.

    Args:
        settings: settings of the comparison.
        methods: names of the trained methods.

    Raises:
        ConfigError: if the reference is not one of the methods, or the published table is unknown.
    """
    reference = settings.compare.reference
    if reference is not None and reference not in methods:
        raise ConfigError(
            f"compare.reference must be one of the compared methods {', '.join(methods)}; got "
            f"'{reference}'{did_you_mean(reference, methods)}"
        )
    if settings.compare.published is not None:
        published_table(settings.compare.published)


def summarise(
    settings: RunSettings,
    runs: Mapping[str, MethodRuns],
    *,
    dataset: str,
    fold_names: Sequence[str],
    planted: object = None,
) -> Comparison:
    """Compute means, intervals, tests and costs of methods from the results of their runs.

    Args:
        settings: settings of the comparison.
        runs: results by name of the method, baselines first, all over the same requests. A method
            without training times is a baseline.
        dataset: name of the data set.
        fold_names: names of the folds, such as ``"fold 0"`` or ``"day 2024-01-09"``.
        planted: value of ``planted`` in the manifest of a synthetic log: its stages, quotas, size
            of the ground truth and best reachable joint recall. ``None`` for any other log.

    Returns:
        The comparison, with the methods in the order of ``runs``.

    Raises:
        ConfigError: if the reference is not a trained method, or the published table is unknown.
        DataError: if no test request has ground truth.
    """
    trained = [name for name, results in runs.items() if results.seconds]
    check_reference(settings, trained)
    reference = settings.compare.reference or trained[0]
    reachable = _over_seeds(runs[reference], "reachable")[0]
    defined = int((~np.isnan(reachable)).sum())
    if not defined:
        raise DataError(
            f"{settings.data.path}: no test request has ground truth; check relevance and "
            "data.target in the config"
        )
    ceiling, kind = float(np.nanmean(reachable)), "quotas"
    if isinstance(planted, Mapping) and planted_for(settings, planted):
        ceiling, kind = float(planted["joint_recall"]), "planted"
    joint = {name: _over_seeds(results, "joint_recall") for name, results in runs.items()}
    recalls = against_reference(
        settings,
        "joint_recall",
        joint,
        reference=reference,
        compared=trained,
        confidence=CONFIDENCE,
        p_value=paired_p(settings),
    )

    def values(name: str, metric: str) -> Floats | None:
        return _over_seeds(runs[name], metric) if _has(runs[name], metric) else None

    of_list, absent = final_metrics(
        settings,
        values,
        list(runs),
        reference=reference,
        trained=trained,
        confidence=CONFIDENCE,
    )
    of_stages = stage_metrics(
        settings,
        values,
        list(runs),
        reference=reference,
        trained=trained,
        confidence=CONFIDENCE,
    )
    search = search_metrics(
        settings,
        {
            name: {m: _over_seeds(results, m) for m in results.values[0] if m.startswith(SEARCHED)}
            for name, results in runs.items()
        },
        reference=reference,
        confidence=CONFIDENCE,
    )
    published = settings.compare.published and published_table(settings.compare.published)
    methods = []
    for name, results in runs.items():
        stages = {
            metric: {
                stage: _mean(_over_seeds(results, f"{metric}/{stage}")) for stage in settings.stages
            }
            for metric in ("recall", "ndcg_linear", "survival")
        }
        by_seed = [_mean(values) for values in joint[name]]
        recall = recalls[name]
        methods.append(
            MethodResult(
                name=name,
                trained=name in trained,
                sees_more=results.sees_more,
                joint_recall=recall.mean,
                **recall.without("metric", "mean", "requests"),
                by_seed=by_seed,
                seed_deviation=deviation(by_seed),
                by_fold=_by_fold(results),
                stage_recall=stages["recall"],
                stage_ndcg=stages["ndcg_linear"],
                stage_survival=stages["survival"],
                final_metrics=of_list[name],
                stage_metrics=of_stages[name],
                search=search[name],
                share_of_ceiling=recall.mean / ceiling if ceiling else None,
                seconds=float(np.mean(results.seconds)) if results.seconds else None,
                peak_memory=float(max(results.peak_memory)) if results.peak_memory else None,
                tuning=results.tuning,
                published=published.methods.get(name, {}).get("joint_recall")
                if published
                else None,
            )
        )
    return Comparison(
        dataset=dataset,
        requests=defined,
        undefined=len(reachable) - defined,
        absent=absent,
        folds=len(fold_names),
        fold_names=list(fold_names),
        seeds=max(len(runs[name].values) for name in trained),
        reference=reference,
        confidence=CONFIDENCE,
        ceiling=ceiling,
        ceiling_kind=kind,
        published=_published_source(published, dataset, settings) if published else None,
        methods=methods,
    )


def _has(results: MethodRuns, metric: str) -> bool:
    """Whether the runs of all seeds and folds have the metric."""
    return all(len(of.get(metric, ())) == len(of["joint_recall"]) for of in results.values.values())


def _over_seeds(results: MethodRuns, metric: str) -> Floats:
    """Values ``[seeds, requests]`` of a metric, with the folds concatenated in order."""
    values = results.values
    return np.stack([np.concatenate(values[seed][metric]) for seed in sorted(values)])


def _by_fold(results: MethodRuns) -> list[float]:
    by_seed = [results.values[seed]["joint_recall"] for seed in sorted(results.values)]
    return [_mean(np.stack(fold)) for fold in zip(*by_seed, strict=True)]


def _mean(values: Floats) -> float:
    """Mean over the defined values; NaN if there are none."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _published_source(
    published: PublishedTable, dataset: str, settings: RunSettings
) -> dict[str, str]:
    same = dataset.casefold().startswith(published.dataset.casefold())
    note = (
        f"measured on {published.dataset}, the same data set; the split may differ"
        if same
        else f"measured on {published.dataset}, not on this data set: only the order of methods is "
        "comparable"
    )
    source = {
        "table": published.name,
        "title": published.title,
        "dataset": published.dataset,
        "source": published.source,
        "note": note,
    }
    if published.ndcg_gains and published.ndcg_gains != settings.data.target:
        source["ndcg"] = (
            f"NDCG of the stages is left out, as that of the table has other gains: "
            f"{_GAINS[published.ndcg_gains]}"
        )
    return source


_GAINS = {
    "released": 'the labels of data.target = "released"',
    "exponential": '2^y - 1, those of the metric "ndcg"',
}
"""Description of the gains of a published NDCG."""


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _features_within_planted(settings: RunSettings, planted: Sequence[Mapping[str, Any]]) -> bool:
    """Whether each stage uses a subset of the features of the corresponding planted stage."""
    names = list(dict.fromkeys(name for stage in planted for name in stage["features"]))
    return len(planted) == len(settings.stages) and all(
        set(matching(names, stage.features)) <= set(own["features"])
        for stage, own in zip(settings.stages.values(), planted, strict=True)
    )


def planted_for(settings: RunSettings, planted: Mapping[str, Any]) -> bool:
    """Whether the planted ceiling applies to these features, quotas and ground truth."""
    return (
        _features_within_planted(settings, planted["stages"])
        and list(planted["quotas"]) == list(settings.quotas)
        and planted["ground_truth"] == settings.relevance.top
        and settings.data.target in (None, "funnel")  # the default of a log with levels
    )
