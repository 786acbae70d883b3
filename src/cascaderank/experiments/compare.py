"""Compare methods on one data set: the same requests, stages, budget and seeds for each."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cascaderank.config import RunSettings
from cascaderank.data.loader import RequestLoader
from cascaderank.data.split import FoldSplit
from cascaderank.errors import ConfigError
from cascaderank.evaluation import Report, evaluate
from cascaderank.experiments.baselines import build_baseline
from cascaderank.experiments.outputs import write_comparison
from cascaderank.experiments.summary import Comparison, MethodRuns, check_judging, summarise
from cascaderank.objectives import OBJECTIVES
from cascaderank.training.progress import Progress, Silent
from cascaderank.training.run import RunData, run_data, train_run
from cascaderank.training.run_folder import locked


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
    check_judging(settings, objectives)
    plans = {name: list(_grid(settings, name)) for name in objectives}
    scores: dict[str, MethodRuns] = {}
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
    comparison = summarise(
        settings,
        scores,
        dataset=log.manifest.name,
        fold_names=[f"fold {fold}" for fold, _ in folds],
        planted=planted,
    )
    write_comparison(comparison, folder)
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
    text: str, settings: RunSettings, data: RunData, seeds: int, scores: dict[str, MethodRuns]
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
            tuned = {"chosen": {"feature": shown}, "tried": [], "at_edge": []}
            scores[name].tuning.append(tuned)


def _judge_objective(
    name: str,
    plan: Sequence[Mapping[str, Any]],
    settings: RunSettings,
    folder: Path,
    fold: int,
    seeds: int,
    data: RunData,
    scores: dict[str, MethodRuns],
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
    tried = [
        {"values": dict(p), "validation": float(found), "seconds": sum(r.seconds for r in of_point)}
        for found, of_point, p in results
    ]
    scores[name].tuning.append({"chosen": dict(point), "tried": tried, "at_edge": []})


def _keep(scores: dict[str, MethodRuns], name: str, seed: int, report: Report) -> None:
    kept = scores.setdefault(name, MethodRuns())
    for metric, values in report.per_request.items():
        kept.values[seed][metric].append(values.astype(np.float64))
