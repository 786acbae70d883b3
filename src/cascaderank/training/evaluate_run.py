"""Evaluate a trained cascade: on requests of its run, or a complete run on any data set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import torch

from cascaderank.cascade import Cascade
from cascaderank.data.split import Rows
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.evaluation import (
    CatalogueReport,
    Evaluator,
    Importance,
    Report,
    evaluate,
    permutation_importance,
)
from cascaderank.evaluation.item_retrieval import EXACT
from cascaderank.progress import Progress, Silent
from cascaderank.runs.data import RunData
from cascaderank.runs.load import TrainedRun, load_run
from cascaderank.runs.parts import Part, part_of
from cascaderank.runs.seeding import pick_device
from cascaderank.settings.run import RunSettings
from cascaderank.training.retrieval import ItemRetrieval


def evaluate_rows(
    settings: RunSettings,
    cascade: Cascade,
    data: RunData,
    rows: Rows,
    *,
    device: torch.device | None = None,
    bootstrap: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Evaluate a cascade on requests of a run, with the ground truth and metrics of its settings.

    Args:
        settings: settings of the run.
        cascade: cascade on ``device``.
        data: data of the run.
        rows: row numbers of the requests.
        device: device of the computation; by default that of the cascade.
        bootstrap: number of bootstrap replicates; by default that of the settings.
        progress: receives the number of batches done.
    """
    progress = progress or Silent()
    loader = data.loader(rows)
    progress.start("evaluating", loader.batches_per_epoch)
    report = evaluate(
        cascade,
        loader,
        k=settings.ground_truth.top,
        threshold=settings.ground_truth.threshold,
        device=device,
        metrics=settings.evaluation.metrics,
        bootstrap=settings.evaluation.bootstrap if bootstrap is None else bootstrap,
        seed=settings.evaluation.seed,
        progress=progress.advance,
    )
    progress.stop()
    return report


def try_metrics(settings: RunSettings, data: RunData) -> None:
    """Compute the metrics of ``evaluation.metrics`` for two requests, so that errors occur early.

    Args:
        settings: settings of the run.
        data: data of the run; labels are those of its first test requests, scores are made up.

    Raises:
        ConfigError: if a metric fails.
    """
    if not settings.evaluation.metrics:
        return
    batch = next(iter(data.loader(data.split.test[:2]).epoch(0)))
    if batch.labels is None:
        return
    evaluator = Evaluator(
        quotas=settings.quotas,
        stage_names=tuple(settings.stages),
        k=settings.ground_truth.top,
        threshold=settings.ground_truth.threshold,
        metrics=settings.evaluation.metrics,
    )
    scores = torch.arange(batch.mask.shape[-1], dtype=torch.float32)
    evaluator.update(
        scores.expand(len(settings.stages), *batch.mask.shape), batch.labels, mask=batch.mask
    )


def evaluate_run(
    folder: str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    *,
    part: Part = "auto",
    target: str | None = None,
    threshold: float | None = None,
    progress: Progress | None = None,
) -> tuple[str, Report]:
    """Evaluate a complete run on a data set.

    Args:
        folder: folder of the run.
        dataset: folder of a request log with the features that the run was trained with.
        part: requests to evaluate. ``"auto"`` means the test requests of the data set that the
            run was trained on, so that no training request is evaluated, and all requests of any
            other data set.
        target: target of the labels, such as ``"label"``; by default that of the run.
        threshold: labels of at least this are ground truth; by default the rule of the run.
        progress: receives the progress of the work.

    Returns:
        The part that was evaluated, and the report.

    Raises:
        RunError: if the folder does not hold a complete run.
        SchemaError: if the data set has other features.
        ConfigError: if the target does not exist.
        DataError: if the data set does not have a column that the target needs.
    """
    changes: dict[str, object] = {} if target is None else {"data.target": target}
    if threshold is not None:
        changes["relevance"] = {"threshold": threshold}
    run = load_run(folder)
    settings = run.settings.changed(changes)
    with _opened(run, dataset, part, settings=settings, progress=progress) as opened:
        report = evaluate_rows(
            settings,
            opened.cascade,
            opened.data,
            opened.rows,
            device=opened.device,
            progress=progress,
        )
    return opened.part, report


def evaluate_run_catalogue(
    folder: str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    *,
    part: Part = "auto",
    stage: str | None = None,
    index: str = EXACT,
    progress: Progress | None = None,
) -> tuple[str, CatalogueReport]:
    """Evaluate a stage of a complete run by its search of all items in a data set.

    Args:
        folder: folder of the run.
        dataset: folder of a request log with the features that the run was trained with.
        part: requests to evaluate, as in :func:`evaluate_run`.
        stage: name of the stage; the first by default.
        index: ``"exact"``, or an index of faiss, such as ``"HNSW32"``.
        progress: receives the progress of the work.

    Returns:
        The part that was evaluated, and the report.

    Raises:
        RunError: if the folder does not hold a complete run.
        SchemaError: if the data set has other features.
        ConfigError: if the settings of the run name no feature that identifies items, or the
            stage cannot search.
        MissingExtraError: if ``index`` needs faiss and it is not installed.
    """
    run = load_run(folder)
    with _opened(run, dataset, part, progress=progress) as opened:
        retrieval = ItemRetrieval(run.settings, opened.data, opened.device)
        report = retrieval.evaluate(opened.cascade, opened.rows, stage=stage, index=index)
    return opened.part, report


def run_importance(
    folder: str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    *,
    part: Part = "auto",
    stage: str | None = None,
    repeats: int = 5,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[str, Importance]:
    """Measure the importance of the features of a complete run by permutation.

    Args:
        folder: folder of the run.
        dataset: folder of a request log with the features that the run was trained with.
        part: requests to evaluate, as in :func:`evaluate_run`.
        stage: name of the stage; all stages by default.
        repeats: number of permutations of each feature, at least 1.
        seed: random seed of the permutations, at least 0.
        progress: receives the progress of the work.

    Returns:
        The part that was evaluated, and the importance; see
        :func:`~cascaderank.evaluation.permutation_importance`.

    Raises:
        RunError: if the folder does not hold a complete run.
        SchemaError: if the data set has other features.
        ConfigError: if the stage is unknown, or ``repeats`` or ``seed`` is out of range.
        DataError: if no evaluated request has ground truth.
    """
    run, progress = load_run(folder), progress or Silent()
    settings, stages = run.settings, run.settings.stages
    if stage is not None and stage not in stages:
        raise ConfigError(
            f"no stage '{stage}'{did_you_mean(stage, stages)}; the run has {', '.join(stages)}"
        )
    if seed < 0:
        raise ConfigError(f"seed must be at least 0; got {seed}")
    with _opened(run, dataset, part, progress=progress) as opened:
        loader = opened.data.loader(opened.rows)
        progress.start("permuting", loader.batches_per_epoch)
        importance = permutation_importance(
            opened.cascade,
            loader,
            {
                name: run.schema.select(own.features)
                for name, own in stages.items()
                if stage in (None, name)
            },
            k=settings.ground_truth.top,
            threshold=settings.ground_truth.threshold,
            repeats=repeats,
            seed=seed,
            device=opened.device,
            progress=progress.advance,
        )
        progress.stop()
    return opened.part, importance


@final
@dataclass(frozen=True, kw_only=True)
class _Opened:
    """Part of a data set, encoded for a run, and the cascade of the run on the device of both."""

    cascade: Cascade
    data: RunData
    part: Part
    rows: Rows
    device: torch.device


@contextmanager
def _opened(
    run: TrainedRun,
    dataset: str | os.PathLike[str],
    part: Part,
    *,
    settings: RunSettings | None = None,
    progress: Progress | None = None,
) -> Iterator[_Opened]:
    """Open a part of a data set for a run, and move the cascade to the device of the run."""
    device = pick_device(run.settings.train.device)
    with part_of(run, dataset, part, settings=settings, progress=progress) as (data, found, rows):
        cascade = run.cascade.to(device)
        yield _Opened(cascade=cascade, data=data, part=found, rows=rows, device=device)
