"""Comparison of methods on one data set, with equal requests, stages, budget and seeds."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import numpy as np

from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import CascadeRankError, ConfigError
from cascaderank.evaluation import Report
from cascaderank.experiments.baselines import build_baseline, default_baselines
from cascaderank.experiments.execution.job import Job, Start
from cascaderank.experiments.execution.local import runner
from cascaderank.experiments.execution.plans import carry_out
from cascaderank.experiments.folds import Fold, check_runs, folds_of
from cascaderank.experiments.methods import Method, label_of, methods_of
from cascaderank.experiments.results import Comparison, MethodRuns, check_reference, summarise
from cascaderank.experiments.tuning import Outcome, Trial, Tuned, planned, sampled_points, tune
from cascaderank.extras import require
from cascaderank.progress import Progress, Silent
from cascaderank.runs.build import build_run_objective
from cascaderank.runs.data import RunData, check_log, run_data
from cascaderank.runs.folder import locked, write_json
from cascaderank.runs.log_defaults import resolved
from cascaderank.settings.run import RunSettings
from cascaderank.training.evaluate_run import evaluate_rows
from cascaderank.training.run_result import RunResult

FILES = tuple(f"comparison.{kind}" for kind in ("json", "md", "tex", "png", "svg"))
"""Files of a comparison in its folder; :mod:`cascaderank.reports` writes those for people."""

_NUMBER = re.compile(r"\d[\d.,]*")


def compare(
    settings: RunSettings,
    folder: str | os.PathLike[str],
    *,
    objectives: Sequence[str] | None = None,
    seeds: int | None = None,
    streaming: int | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Tune, train and evaluate every method on every fold, and evaluate the baselines.

    Complete runs are reused, so an interrupted comparison resumes.

    Args:
        settings: settings of the runs; ``compare`` defines the methods and the tuning. With a split
            by folds, each fold is the test set once.
        folder: folder of all runs; ``comparison.json`` is written into it.
            :func:`cascaderank.reports.write_comparison` adds tables for people.
        objectives: names of methods, in place of ``compare.objectives``.
        seeds: number of seeds, in place of ``compare.seeds``.
        streaming: number of last days used as test days, in place of ``compare.streaming``.
        jobs: number of processes that train at the same time, in place of ``compare.jobs``. The
            processes share the threads of torch. The number of threads affects the rounding of
            sums, and nothing else. With more than one job, a script must guard its entry point with
            ``if __name__ == "__main__":``.
        progress: progress reporter.

    Returns:
        The comparison, baselines first.

    Raises:
        ConfigError: if a method, a baseline or a setting is unknown.
        DataError: if the request log is invalid.
        DivergedError: if training of a method diverges at every evaluated point.
        RunError: if the folder is in use, or holds runs of other settings or files of others.
    """
    progress, folder = progress or Silent(), Path(folder)
    options = {"objectives": objectives, "seeds": seeds, "streaming": streaming, "jobs": jobs}
    settings = settings.changed({f"compare.{k}": v for k, v in options.items() if v is not None})
    methods = methods_of(settings, settings.compare.objectives)
    check_reference(settings, settings.compare.objectives)
    log = RequestLog.open(settings.data.path)
    settings = resolved(settings, log)
    folds = folds_of(settings, log)
    runs = len(folds) * sum(planned(m, settings) for m in methods)
    check_runs(runs, "set compare.tuning.trials, or reduce the values of compare.grid or the seeds")
    for method in methods:
        _check(method, settings, log)
    method_runs: dict[str, MethodRuns] = {}
    results: list[tuple[str, RunResult]] = []
    progress.start("comparing", runs)
    with locked(folder, writes=FILES), runner(settings.compare.jobs, progress) as start:
        for fold in folds:
            with run_data(fold.settings, folder=folder, progress=progress) as data:
                asked = settings.compare.baselines
                for text in default_baselines(data) if asked is None else asked:
                    _evaluate_baseline(text, fold, data, [m.name for m in methods], method_runs)
                for name, tuned in _train(methods, fold, data, folder, start, progress).items():
                    _add_tuned(method_runs, name, tuned)
                    results += [(name, run) for run in tuned.runs]
    progress.stop()
    for method in methods:
        method_runs[method.name].sees_more = _sees_more(method, settings, log)
    comparison = summarise(
        settings,
        method_runs,
        dataset=log.manifest.name,
        fold_names=[fold.name for fold in folds],
        planted=log.manifest.extra.get("planted") if _same_features(methods, settings) else None,
    )
    comparison = replace(comparison, warnings=_warnings(results))
    write_json(folder / "comparison.json", comparison.to_json())
    return comparison


def _warnings(results: Sequence[tuple[str, RunResult]]) -> list[str]:
    """Return one line per kind of warning, with the numbers of the first run that has it."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for method, run in results:
        for text in run.warnings:
            kinds.setdefault(_NUMBER.sub("#", text), []).append((method, text))
    return [
        f"{', '.join(dict.fromkeys(name for name, _ in found))} ({len(found)} of {len(results)} "
        f"runs): {found[0][1]}"
        for found in kinds.values()
    ]


def _check(method: Method, run: RunSettings, log: RequestLog) -> None:
    """Raise before any training if a run of a method cannot be built."""
    if method.scorer is not None:
        require("lightgbm", extra="baselines")
    for point in sampled_points(method.axes, run.compare.tuning):
        settings = method.settings(run, point)
        try:
            check_log(settings, log)
            build_run_objective(settings, log)
        except CascadeRankError as error:
            raise type(error)(f"compare, method '{method.name}': {error}") from None


def _same_features(methods: Sequence[Method], run: RunSettings) -> bool:
    """Whether all methods use the stage features of the run, as a planted ceiling requires."""

    def features(settings: RunSettings) -> list[tuple[str, ...]]:
        return [stage.features for stage in settings.stages.values()]

    return all(features(method.settings(run)) == features(run) for method in methods)


def _sees_more(method: Method, run: RunSettings, log: RequestLog) -> bool:
    """Whether a stage of a method uses a feature that this stage of the run may not use."""

    def features(settings: RunSettings) -> list[set[str]]:
        return [{f.name for f in log.schema.select(s.features)} for s in settings.stages.values()]

    allowed = features(run)
    if method.scorer is not None:  # ranks by the features of the last stage in every stage
        return any(not allowed[-1] <= stage for stage in allowed)
    points = sampled_points(method.axes, run.compare.tuning)
    used = [features(method.settings(run, point)) for point in points]
    return any(not a <= b for of_point in used for a, b in zip(of_point, allowed, strict=True))


def _train(
    methods: Sequence[Method],
    fold: Fold,
    data: RunData,
    folder: Path,
    start: Start,
    progress: Progress,
) -> dict[str, Tuned]:
    """Tune all methods on one fold; the trials of different methods run concurrently."""
    by_name = {method.name: method for method in methods}

    def begin(name: str, trial: Trial) -> "Future[Outcome]":
        if trial.extension:
            progress.grow(1)
        method, scorer = by_name[name], by_name[name].scorer
        changes = {**trial.point, "train.seed": trial.seed}
        return start(
            Job(
                settings=method.settings(fold.settings, changes),
                folder=folder / name / label_of(trial.point) / fold.folder / f"seed-{trial.seed}",
                may_fail=trial.extension,
                scorer=None if scorer is None else (scorer, method.options(trial.point)),
            ),
            data,
        )

    def report(name: str, trial: Trial, outcome: Outcome) -> None:
        result = str(outcome.failed)
        if outcome.result is not None:
            result = f"{outcome.result.test.metrics['joint_recall'].mean:.4f}"
        run = f"{name}, {label_of(trial.point)}, {fold.name}, seed {trial.seed}"
        progress.advance(1, f"{run}: {result}")

    plans = {method.name: tune(method, fold.settings) for method in methods}
    return carry_out(plans, begin, report)


def _evaluate_baseline(
    text: str, fold: Fold, data: RunData, methods: Sequence[str], method_runs: dict[str, MethodRuns]
) -> None:
    settings = fold.settings
    for seed in range(settings.compare.seeds if text == "random" else 1):
        seeded = settings.changed({"train.seed": seed})
        baseline = build_baseline(text, seeded, data)
        report = evaluate_rows(settings, baseline.cascade, data, data.split.test, bootstrap=1)
        if baseline.name in methods:
            raise ConfigError(
                f"compare.variants: '{baseline.name}' is the name of a baseline; rename the variant"
            )
        _add_report(method_runs, baseline.name, seed, report)
        method_runs[baseline.name].sees_more |= baseline.sees_more
        if baseline.chosen:
            tuned = {"chosen": dict(baseline.chosen), "tried": [], "at_edge": []}
            method_runs[baseline.name].tuning.append(tuned)


def _add_tuned(method_runs: dict[str, MethodRuns], name: str, tuned: Tuned) -> None:
    for seed, run in enumerate(tuned.runs):
        _add_report(method_runs, name, seed, run.test)
        method_runs[name].seconds.append(run.seconds)
        if run.peak_memory is not None:
            method_runs[name].peak_memory.append(run.peak_memory)
    method_runs[name].tuning.append(tuned.record)


def _add_report(method_runs: dict[str, MethodRuns], name: str, seed: int, report: Report) -> None:
    values_of_seed = method_runs.setdefault(name, MethodRuns()).values[seed]
    for metric, values in report.per_request.items():
        values_of_seed[metric].append(values.astype(np.float64))
