"""What a comparison found: the values of every method's runs, judged beside one another."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.config import RunSettings
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.evaluation import holm, paired_test, two_way_bootstrap
from cascaderank.experiments.published import PublishedTable, PublishedValue, published_table
from cascaderank.experiments.search import SEARCHED, SearchMetric, deviation, search_metrics
from cascaderank.schema import matching

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""Of all intervals."""


@final
@dataclass
class MethodRuns:
    """What was seen of one method: per-request values, costs, and how it was tuned."""

    values: defaultdict[int, defaultdict[str, list[Floats]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """By seed, then by metric: one array over test requests per fold, folds in order."""
    seconds: list[float] = field(default_factory=list)
    """Of training, one per judged run; empty for a baseline."""
    peak_memory: list[int] = field(default_factory=list)
    """Bytes, one per judged run; empty for a baseline."""
    tuning: list[dict[str, Any]] = field(default_factory=list)
    """One per fold: ``{"chosen": {...}, "tried": [{"values": {...}, "validation": ..,
    "seconds": ..}], "at_edge": [...]}``; ``at_edge`` names the settings whose chosen value is the
    lowest or the highest that was tried."""


@final
@dataclass(frozen=True, kw_only=True)
class StageMetric:
    """One metric of one stage alone, over all folds and seeds; what is undefined is NaN."""

    stage: str
    metric: str
    """Such as ``"ndcg@15"``."""
    mean: float
    low: float
    high: float
    gain: float | None
    """Less that of the reference; ``None`` of the reference, and of baselines."""
    gain_low: float | None
    gain_high: float | None


@final
@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """How one method did, over all folds and seeds; what is undefined is NaN."""

    name: str
    trained: bool
    """Whether it is a method that was trained, or a baseline."""
    joint_recall: float
    """Mean over test requests of the mean over seeds."""
    low: float
    """Lower end of the 95 % interval over requests and seeds."""
    high: float
    """Upper end of the 95 % interval over requests and seeds."""
    by_seed: list[float]
    """Mean over test requests, per seed."""
    seed_deviation: float | None
    """Standard deviation of :attr:`by_seed`; ``None`` of one seed."""
    by_fold: list[float]
    """Mean over the test requests of each fold of the mean over seeds."""
    stage_recall: dict[str, float]
    """By stage: recall of the ground truth in the top of the whole list, as many as its quota."""
    stage_ndcg: dict[str, float]
    """By stage: NDCG with linear gain over the whole list, at the size of the ground truth."""
    stage_survival: dict[str, float]
    """By stage: share of the ground truth that is alive after it."""
    stage_metrics: list[StageMetric]
    """Those of ``evaluation.metrics``, stage by stage, with intervals as joint recall has them."""
    search: list[SearchMetric]
    """Of the first stage's search of all items; empty if it did not search."""
    share_of_ceiling: float | None
    """Joint recall over the ceiling; ``None`` if the ceiling is 0."""
    gain: float | None
    """Joint recall less that of the reference; ``None`` of baselines and of the reference."""
    gain_low: float | None
    gain_high: float | None
    p: float | None
    """Of the paired randomisation test of the gain over requests, two-sided."""
    p_holm: float | None
    """The same, adjusted for all trained methods that are compared to the reference."""
    seconds: float | None
    """Of training, a mean over judged runs; ``None`` of a baseline."""
    peak_memory: float | None
    """Bytes while training, the largest of the judged runs; ``None`` where it was not measured."""
    tuning: list[dict[str, Any]]
    """By fold: what was tried and chosen; see :class:`MethodRuns`."""
    published: PublishedValue | None
    """Joint recall in the paper's table that was asked for, if the method is in it."""


@final
@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Methods beside one another."""

    dataset: str
    requests: int
    """Test requests with ground truth, over all folds."""
    undefined: int
    """Test requests without ground truth, which no method can be judged by."""
    folds: int
    fold_names: list[str]
    seeds: int
    reference: str
    """The method that gains are over."""
    confidence: float
    """Of the intervals."""
    ceiling: float
    """The best joint recall that can be had."""
    ceiling_kind: str
    """``"planted"``: of a cascade that knows the planted preferences as far as its stages can;
    ``"quotas"``: of a perfect cascade, which misses only what the last quota cuts."""
    published: dict[str, str] | None
    """Of the paper's table: ``table``, ``title``, ``dataset``, ``source``, and in ``note`` how far
    it may be compared."""
    methods: list[MethodResult]

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold; ``None`` for what is undefined."""
        plain: dict[str, Any] = _without_nan(asdict(self))
        return plain


def check_judging(settings: RunSettings, methods: Sequence[str]) -> None:
    """Check what judging needs, before any work is done for it.

    Args:
        settings: of the comparison.
        methods: names of those that will be trained.

    Raises:
        ConfigError: if the reference is not one of them, or there is no such published table.
    """
    reference = settings.compare.reference
    if reference is not None and reference not in methods:
        raise ConfigError(
            f"compare.reference: '{reference}' is not compared{did_you_mean(reference, methods)}; "
            f"there are {', '.join(methods)}"
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
    """Judge methods by what was seen of their runs.

    Args:
        settings: of the comparison.
        runs: by name of the method, baselines first; all over the same requests. A method whose
            runs took no seconds is a baseline.
        dataset: what the data set is called.
        fold_names: one per fold, such as ``"fold 0"`` or ``"day 2024-01-09"``.
        planted: what the manifest of a synthetic log has under that name: its quotas, the size of
            its ground truth and its best reachable joint recall. ``None`` of any other log.

    Returns:
        The methods in the order of ``runs``.

    Raises:
        ConfigError: if the reference is not a trained method, or there is no such published table.
        DataError: if no test request has ground truth.
    """
    trained = [name for name, seen in runs.items() if seen.seconds]
    check_judging(settings, trained)
    reference = settings.compare.reference or trained[0]
    reachable = _over_seeds(runs[reference], "reachable")[0]
    judged = int((~np.isnan(reachable)).sum())
    if not judged:
        raise DataError(
            f"{settings.data.path}: no test request has ground truth to be judged by; look at "
            "relevance and data.target in the config"
        )
    ceiling, kind = float(np.nanmean(reachable)), "quotas"
    if isinstance(planted, Mapping) and _planted_for(settings, planted):
        ceiling, kind = float(planted["joint_recall"]), "planted"
    joint = {name: _over_seeds(seen, "joint_recall") for name, seen in runs.items()}
    drawn = {"resamples": settings.evaluation.bootstrap, "seed": settings.evaluation.seed}
    means, gains = two_way_bootstrap(joint, against=reference, confidence=CONFIDENCE, **drawn)
    tests = {
        name: paired_test(
            joint[name].mean(0) - joint[reference].mean(0), seed=settings.evaluation.seed
        ).p
        for name in trained
        if name != reference
    }
    adjusted = holm(tests)
    more = _stage_metrics(settings, runs, reference, trained)
    search = search_metrics(
        settings,
        {
            name: {m: _over_seeds(seen, m) for m in seen.values[0] if m.startswith(SEARCHED)}
            for name, seen in runs.items()
        },
        reference=reference,
        confidence=CONFIDENCE,
    )
    published = settings.compare.published and published_table(settings.compare.published)
    methods = []
    for name, seen in runs.items():
        stages = {
            metric: {
                stage: _mean(_over_seeds(seen, f"{metric}/{stage}")) for stage in settings.stages
            }
            for metric in ("recall", "ndcg_linear", "survival")
        }
        by_seed = [_mean(values) for values in joint[name]]
        gain = gains[name] if name in tests else None
        methods.append(
            MethodResult(
                name=name,
                trained=name in trained,
                joint_recall=means[name].mean,
                low=means[name].low,
                high=means[name].high,
                by_seed=by_seed,
                seed_deviation=deviation(by_seed),
                by_fold=_by_fold(seen),
                stage_recall=stages["recall"],
                stage_ndcg=stages["ndcg_linear"],
                stage_survival=stages["survival"],
                stage_metrics=more[name],
                search=search[name],
                share_of_ceiling=means[name].mean / ceiling if ceiling else None,
                gain=gain.mean if gain else None,
                gain_low=gain.low if gain else None,
                gain_high=gain.high if gain else None,
                p=tests.get(name),
                p_holm=adjusted.get(name),
                seconds=float(np.mean(seen.seconds)) if seen.seconds else None,
                peak_memory=float(max(seen.peak_memory)) if seen.peak_memory else None,
                tuning=seen.tuning,
                published=published.methods.get(name, {}).get("joint_recall")
                if published
                else None,
            )
        )
    return Comparison(
        dataset=dataset,
        requests=judged,
        undefined=len(reachable) - judged,
        folds=len(fold_names),
        fold_names=list(fold_names),
        seeds=max(len(runs[name].values) for name in trained),
        reference=reference,
        confidence=CONFIDENCE,
        ceiling=ceiling,
        ceiling_kind=kind,
        published=_told(published, dataset) if published else None,
        methods=methods,
    )


def _stage_metrics(
    settings: RunSettings, runs: Mapping[str, MethodRuns], reference: str, trained: Sequence[str]
) -> dict[str, list[StageMetric]]:
    """By method, the metrics that were asked for."""
    found: dict[str, list[StageMetric]] = {name: [] for name in runs}
    drawn = {"resamples": settings.evaluation.bootstrap, "seed": settings.evaluation.seed}
    for stage in settings.stages:
        for metric in settings.evaluation.metrics:
            values = {n: _over_seeds(seen, f"{metric}/{stage}") for n, seen in runs.items()}
            means, gains = two_way_bootstrap(
                values, against=reference, confidence=CONFIDENCE, **drawn
            )
            for name, mean in means.items():
                gain = gains[name] if name in trained and name != reference else None
                found[name].append(
                    StageMetric(
                        stage=stage,
                        metric=metric,
                        mean=mean.mean,
                        low=mean.low,
                        high=mean.high,
                        gain=gain.mean if gain else None,
                        gain_low=gain.low if gain else None,
                        gain_high=gain.high if gain else None,
                    )
                )
    return found


def _over_seeds(seen: MethodRuns, metric: str) -> Floats:
    """``[seeds, requests]``, folds in order."""
    return np.stack([np.concatenate(seen.values[seed][metric]) for seed in sorted(seen.values)])


def _by_fold(seen: MethodRuns) -> list[float]:
    by_seed = [seen.values[seed]["joint_recall"] for seed in sorted(seen.values)]
    return [_mean(np.stack(fold)) for fold in zip(*by_seed, strict=True)]


def _mean(values: Floats) -> float:
    """Over what is defined; NaN if nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def _told(published: PublishedTable, dataset: str) -> dict[str, str]:
    same = dataset.casefold().startswith(published.dataset.casefold())
    note = (
        f"measured on {published.dataset}, as are ours; the split may differ"
        if same
        else f"measured on {published.dataset} and not on these data: orders may be compared, "
        "numbers may not"
    )
    return {
        "table": published.name,
        "title": published.title,
        "dataset": published.dataset,
        "source": published.source,
        "note": note,
    }


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _sees_no_more(settings: RunSettings, planted: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no stage may use a feature that the planted one may not."""
    names = list(dict.fromkeys(name for stage in planted for name in stage["features"]))
    return len(planted) == len(settings.stages) and all(
        set(matching(names, stage.features)) <= set(own["features"])
        for stage, own in zip(settings.stages.values(), planted, strict=True)
    )


def _planted_for(settings: RunSettings, planted: Mapping[str, Any]) -> bool:
    """Whether the planted ceiling is that of these quotas, this ground truth and these features."""
    return (
        _sees_no_more(settings, planted["stages"])
        and list(planted["quotas"]) == list(settings.quotas)
        and planted["ground_truth"] == settings.relevance.top
        and settings.data.target == "funnel"
    )
