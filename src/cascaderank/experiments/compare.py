"""Compare methods on one data set: the same requests, stages, budget and seeds for each."""

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np

from cascaderank.config import RunSettings
from cascaderank.data.loader import RequestLoader
from cascaderank.data.request_log import RequestLog
from cascaderank.errors import CascadeRankError, ConfigError
from cascaderank.evaluation import Report, evaluate
from cascaderank.experiments.baselines import build_baseline
from cascaderank.experiments.folds import Fold, folds_of
from cascaderank.experiments.jobs import Job, Start, carry_out, runner
from cascaderank.experiments.methods import Method, label_of, methods_of
from cascaderank.experiments.outputs import write_comparison
from cascaderank.experiments.summary import Comparison, MethodRuns, check_judging, summarise
from cascaderank.experiments.tuning import Outcome, Trial, Tuned, drawn, planned, tune
from cascaderank.extras import require
from cascaderank.training.progress import Progress, Silent
from cascaderank.training.run import run_objective
from cascaderank.training.run_data import RunData, check_log, run_data
from cascaderank.training.run_folder import locked


def compare(
    settings: RunSettings,
    folder: Path,
    *,
    objectives: Sequence[str] | None = None,
    seeds: int | None = None,
    streaming: int | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Tune and train every method on every fold, and judge them beside the baselines.

    Runs that are complete are not run again, so a comparison that was killed goes on.

    Args:
        settings: of the runs; ``compare`` in it says what is compared and how it is tuned. A split
            by folds makes all folds run, each once as the test.
        folder: of all runs; ``comparison.json`` is written into it.
        objectives: names of methods, in place of those of the settings.
        seeds: how many, in place of that of the settings.
        streaming: how many of the last days are tests, in place of that of the settings.
        jobs: how many processes train at the same time, in place of that of the settings. They
            share the threads of torch, of which the rounding of sums depends; nothing else does.
            With more than one, a script must guard its work by ``if __name__ == "__main__":``.
        progress: hears how far it is.

    Returns:
        The methods, baselines first.

    Raises:
        ConfigError: if a method, a baseline or a setting is unknown.
        DataError: if the request log is not what it must be.
        DivergedError: if training of a method breaks down whatever is tried.
        RunError: if the folder is in use, or holds runs of other settings.
    """
    progress = progress or Silent()
    said = {"objectives": objectives, "seeds": seeds, "streaming": streaming, "jobs": jobs}
    settings = settings.changed({f"compare.{k}": v for k, v in said.items() if v is not None})
    methods = methods_of(settings, settings.compare.objectives)
    check_judging(settings, settings.compare.objectives)
    log = RequestLog.open(settings.data.path)
    for method in methods:
        _check(method, settings, log)
    folds = folds_of(settings, log)
    seen: dict[str, MethodRuns] = {}
    progress.start("comparing", len(folds) * sum(planned(m, settings) for m in methods))
    with locked(folder), runner(settings.compare.jobs, progress) as start:
        for fold in folds:
            with run_data(fold.settings, folder=folder, progress=progress) as data:
                for text in settings.compare.baselines:
                    _judge_baseline(text, fold, data, [m.name for m in methods], seen)
                for name, tuned in _train(methods, fold, data, folder, start, progress).items():
                    _keep_tuned(seen, name, tuned)
    progress.stop()
    comparison = summarise(
        settings,
        seen,
        dataset=log.manifest.name,
        fold_names=[fold.name for fold in folds],
        planted=log.manifest.extra.get("planted") if _see_alike(methods, settings) else None,
    )
    write_comparison(comparison, folder)
    return comparison


def _check(method: Method, run: RunSettings, log: RequestLog) -> None:
    """Tell before any work what no run of a method can be built of."""
    if method.scorer is not None:
        require("lightgbm", extra="baselines")
    for point in drawn(method.axes, run.compare.tuning):
        settings = method.settings(run, point)
        try:
            check_log(settings, log)
            run_objective(settings, log)
        except CascadeRankError as error:
            raise type(error)(f"compare, method '{method.name}': {error}") from None


def _see_alike(methods: Sequence[Method], run: RunSettings) -> bool:
    """Whether the stages of all methods see the same, as a ceiling of what they see supposes."""

    def of(settings: RunSettings) -> list[tuple[str, ...]]:
        return [stage.features for stage in settings.stages.values()]

    return all(of(method.settings(run)) == of(run) for method in methods)


def _train(
    methods: Sequence[Method],
    fold: Fold,
    data: RunData,
    folder: Path,
    start: Start,
    progress: Progress,
) -> dict[str, Tuned]:
    """Tune all methods on one fold, their trials side by side."""
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

    def heard(name: str, trial: Trial, outcome: Outcome) -> None:
        found = str(outcome.failed)
        if outcome.result is not None:
            found = f"{outcome.result.test.metrics['joint_recall'].mean:.4f}"
        told = f"{name}, {label_of(trial.point)}, {fold.name}, seed {trial.seed}: {found}"
        progress.advance(1, told)

    plans = {method.name: tune(method, fold.settings) for method in methods}
    return carry_out(plans, begin, heard)


def _judge_baseline(
    text: str, fold: Fold, data: RunData, methods: Sequence[str], seen: dict[str, MethodRuns]
) -> None:
    settings = fold.settings
    for seed in range(settings.compare.seeds if text == "random" else 1):
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
            metrics=settings.evaluation.metrics,
            bootstrap=1,
        )
        # The best feature may be another one in another fold: its row goes by what it is.
        name = "best single feature" if text.startswith("best_feature") else shown
        if name in methods:
            raise ConfigError(f"compare.variants: '{name}' is what a baseline is called; rename it")
        _keep(seen, name, seed, report)
        if text.startswith("best_feature"):
            tuned = {"chosen": {"feature": shown}, "tried": [], "at_edge": []}
            seen[name].tuning.append(tuned)


def _keep_tuned(seen: dict[str, MethodRuns], name: str, tuned: Tuned) -> None:
    for seed, run in enumerate(tuned.runs):
        _keep(seen, name, seed, run.test)
        seen[name].seconds.append(run.seconds)
        if run.peak_memory is not None:
            seen[name].peak_memory.append(run.peak_memory)
    seen[name].tuning.append(tuned.record)


def _keep(seen: dict[str, MethodRuns], name: str, seed: int, report: Report) -> None:
    kept = seen.setdefault(name, MethodRuns())
    for metric, values in report.per_request.items():
        kept.values[seed][metric].append(values.astype(np.float64))
