"""Compare methods on one data set: the same requests, stages, budget and seeds for each."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.config import RunSettings
from cascaderank.data.loader import RequestLoader
from cascaderank.data.request_log import RequestLog
from cascaderank.data.split import FoldSplit
from cascaderank.errors import ConfigError, DataError
from cascaderank.evaluation import Report, bootstrap_interval, evaluate
from cascaderank.experiments.baselines import build_baseline
from cascaderank.objectives import OBJECTIVES
from cascaderank.training.progress import Progress, Silent
from cascaderank.training.run import RunData, run_data, train_run
from cascaderank.training.run_folder import locked, write_json

Floats = NDArray[np.float64]


@final
@dataclass(frozen=True, kw_only=True)
class MethodResult:
    """How one method did, over all folds and seeds."""

    name: str
    joint_recall: float
    """Mean over test requests of the mean over seeds."""
    low: float
    """Lower end of the 95 % interval over requests."""
    high: float
    """Upper end of the 95 % interval over requests."""
    seed_deviation: float | None
    """Standard deviation over seeds of the mean over requests; ``None`` of one seed."""
    stage_recall: dict[str, float]
    """By stage: recall of the ground truth in the top of the whole list, as many as its quota."""
    share_of_ceiling: float | None
    """Joint recall over the ceiling; ``None`` if the ceiling is 0."""
    gain: float | None
    """Joint recall over that of the first trained method, as a difference."""
    gain_low: float | None
    gain_high: float | None
    seconds: float | None
    """Of training, a mean over runs; ``None`` of a baseline."""
    chosen: list[dict[str, Any]]
    """By fold: the values of the grid that did best on validation requests."""


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
    seeds: int
    ceiling: float
    """The best joint recall that can be had."""
    ceiling_kind: str
    """``"planted"``: of a cascade that knows the planted preferences as far as its stages can;
    ``"quotas"``: of a perfect cascade, which misses only what the last quota cuts."""
    methods: list[MethodResult]

    def to_json(self) -> dict[str, Any]:
        """Return values that JSON can hold."""
        return asdict(self)


@dataclass
class _Scores:
    """Per-request values of one method: seed, then metric, then folds in order."""

    values: defaultdict[int, defaultdict[str, list[Floats]]]
    seconds: list[float]
    chosen: list[dict[str, Any]]


def compare(
    settings: RunSettings,
    folder: Path,
    *,
    objectives: Sequence[str] | None = None,
    seeds: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Train every objective with every seed on every fold, and judge them beside the baselines.

    Runs that are complete are not run again, so a comparison that was killed goes on.

    Args:
        settings: of the runs; ``compare`` in it says what is compared, and a split by folds makes
            all folds run, each once as the test.
        folder: of all runs; ``comparison.json`` is written into it.
        objectives: names, in place of those of the settings.
        seeds: how many, in place of that of the settings.
        progress: hears how far it is.

    Returns:
        The methods, baselines first.

    Raises:
        ConfigError: if an objective, a baseline or a setting is unknown.
        DataError: if the request log is not what it must be.
    """
    progress = progress or Silent()
    objectives = tuple(objectives or settings.compare.objectives)
    seeds = seeds or settings.compare.seeds
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1; got {seeds}")
    for name in objectives:
        OBJECTIVES[name]  # an unknown name is told before any work
    plans = {name: list(_grid(settings, name)) for name in objectives}
    scores: dict[str, _Scores] = {}
    folds = list(_folds(settings))
    progress.start("comparing", len(folds) * seeds * sum(len(plan) for plan in plans.values()))
    with locked(folder):
        for fold, of_fold in folds:
            with run_data(of_fold, folder=folder, progress=progress) as data:
                for text in settings.compare.baselines:
                    _judge_baseline(text, of_fold, data, seeds, scores)
                for name in objectives:
                    _judge_objective(
                        name,
                        plans[name],
                        of_fold,
                        folder / name,
                        fold,
                        seeds,
                        data,
                        scores,
                        progress,
                    )
                planted = data.log.manifest.extra.get("planted")
                log = data.log
    progress.stop()
    comparison = _summary(settings, log, planted, scores, objectives, seeds)
    write_json(folder / "comparison.json", comparison.to_json())
    return comparison


def _folds(settings: RunSettings) -> Iterator[tuple[int, RunSettings]]:
    if not isinstance(settings.data.split, FoldSplit):
        yield 0, settings
        return
    for fold in range(settings.data.split.folds):
        yield fold, settings.changed({"data.split.fold": fold})


def _grid(settings: RunSettings, name: str) -> Iterator[dict[str, Any]]:
    """All combinations of the values to try, over the settings that differ for this objective."""
    own = settings.compare.options.get(name, {})
    tried = settings.compare.grid.get(name, {})
    for values in itertools.product(*tried.values()):
        changes = {**own, **dict(zip(tried, values, strict=True))}
        _settings_of(settings, name, changes)  # a wrong one is told before any work
        yield changes


def _settings_of(settings: RunSettings, name: str, changes: Mapping[str, Any]) -> RunSettings:
    try:
        if name != settings.objective.name:
            settings = settings.changed({"objective": {"name": name}})
        return settings.changed(changes)
    except ConfigError as error:
        raise ConfigError(f"compare, objective '{name}': {error}") from None


def _judge_baseline(
    text: str, settings: RunSettings, data: RunData, seeds: int, scores: dict[str, _Scores]
) -> None:
    for seed in range(seeds if text == "random" else 1):
        seeded = settings.changed({"train.seed": seed})
        shown, cascade = build_baseline(text, seeded, data)
        loader = RequestLoader(
            data.encoded, data.split.test, batch_size=settings.evaluation.batch_size
        )
        report = evaluate(
            cascade,
            loader,
            ground_truth=settings.relevance.top,
            threshold=settings.relevance.threshold,
            bootstrap=1,
        )
        # The best feature may be another one in another fold: its row goes by what it is.
        name = "best single feature" if text.startswith("best_feature") else shown
        _keep(scores, name, seed, report)
        if text.startswith("best_feature"):
            scores[name].chosen.append({"feature": shown})


def _judge_objective(
    name: str,
    plan: Sequence[Mapping[str, Any]],
    settings: RunSettings,
    folder: Path,
    fold: int,
    seeds: int,
    data: RunData,
    scores: dict[str, _Scores],
    progress: Progress,
) -> None:
    """Train every point of the grid with every seed; judge the one that validates best."""
    results = []
    for point in plan:
        label = "_".join(f"{k.rpartition('.')[2]}={v}" for k, v in point.items()) or "run"
        runs = []
        for seed in range(seeds):
            where = folder / label.replace("/", "-") / f"fold-{fold}" / f"seed-{seed}"
            seeded = _settings_of(settings, name, {**point, "train.seed": seed})
            runs.append(train_run(seeded, where, data=data, progress=progress))
            recall = runs[-1].test.metrics["joint_recall"].mean
            progress.advance(1, f"{name}, {label}, fold {fold}, seed {seed}: {recall:.4f}")
        validation = [r.validation for r in runs if r.validation is not None]
        results.append((np.mean(validation) if validation else -1.0, runs, point))
    _, runs, point = max(results, key=lambda result: result[0])
    for seed, run in enumerate(runs):
        _keep(scores, name, seed, run.test)
        scores[name].seconds.append(run.seconds)
    scores[name].chosen.append(dict(point))


def _keep(scores: dict[str, _Scores], name: str, seed: int, report: Report) -> None:
    kept = scores.setdefault(name, _Scores(defaultdict(lambda: defaultdict(list)), [], []))
    for metric, values in report.per_request.items():
        kept.values[seed][metric].append(values.astype(np.float64))


def _summary(
    settings: RunSettings,
    log: RequestLog,
    planted: Any,
    scores: Mapping[str, _Scores],
    objectives: Sequence[str],
    seeds: int,
) -> Comparison:
    def over_seeds(name: str, metric: str) -> Floats:
        """``[seeds, requests]``."""
        values = scores[name].values
        return np.stack([np.concatenate(values[seed][metric]) for seed in sorted(values)])

    first = next(iter(objectives))
    reachable = over_seeds(first, "reachable")[0]
    defined = ~np.isnan(reachable)
    if not defined.any():
        raise DataError(
            f"{log.path}: no test request has ground truth to be judged by; look at relevance and "
            "data.target in the config"
        )
    ceiling, kind = float(np.nanmean(reachable)), "quotas"
    if planted and _planted_for(settings, planted):
        ceiling, kind = float(planted["joint_recall"]), "planted"
    reference = over_seeds(first, "joint_recall").mean(0)
    draws, seed = settings.evaluation.bootstrap, settings.evaluation.seed
    methods = []
    for name, kept in scores.items():
        joint = over_seeds(name, "joint_recall")
        interval = bootstrap_interval(joint.mean(0), resamples=draws, seed=seed)
        gain = None
        if name in objectives and name != first:
            gain = bootstrap_interval(joint.mean(0) - reference, resamples=draws, seed=seed)
        methods.append(
            MethodResult(
                name=name,
                joint_recall=interval.mean,
                low=interval.low,
                high=interval.high,
                seed_deviation=float(np.nanmean(joint, 1).std(ddof=1)) if len(joint) > 1 else None,
                stage_recall={
                    stage: float(np.nanmean(over_seeds(name, f"recall/{stage}")))
                    for stage in settings.stages
                },
                share_of_ceiling=interval.mean / ceiling if ceiling else None,
                gain=gain.mean if gain else None,
                gain_low=gain.low if gain else None,
                gain_high=gain.high if gain else None,
                seconds=float(np.mean(kept.seconds)) if kept.seconds else None,
                chosen=kept.chosen,
            )
        )
    split = settings.data.split
    return Comparison(
        dataset=log.manifest.name,
        requests=int(defined.sum()),
        undefined=int((~defined).sum()),
        folds=split.folds if isinstance(split, FoldSplit) else 1,
        seeds=seeds,
        ceiling=ceiling,
        ceiling_kind=kind,
        methods=methods,
    )


def _planted_for(settings: RunSettings, planted: Mapping[str, Any]) -> bool:
    """Whether the planted ceiling is that of these quotas and this ground truth."""
    return (
        list(planted["quotas"]) == list(settings.quotas)
        and planted["ground_truth"] == settings.relevance.top
        and settings.data.target == "funnel"
    )
