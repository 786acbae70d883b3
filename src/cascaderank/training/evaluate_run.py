"""Evaluate a trained cascade: on requests of its run, or a complete run on any data set."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from cascaderank.cascade import Cascade
from cascaderank.data.encoding.encoder import check_same_features
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import Rows, Split, split_requests
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.evaluation import (
    CatalogueReport,
    Importance,
    Report,
    evaluate,
    permutation_importance,
)
from cascaderank.evaluation.item_retrieval import EXACT
from cascaderank.progress import Progress, Silent
from cascaderank.runs.data import RunData, encoded_data
from cascaderank.runs.folder import read_json
from cascaderank.runs.load import TrainedRun, load_run
from cascaderank.runs.seeding import pick_device
from cascaderank.settings.run import RunSettings
from cascaderank.training.retrieval import ItemRetrieval

Part = Literal["auto", "all", "train", "validation", "test"]


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
        k=settings.relevance.top,
        threshold=settings.relevance.threshold,
        device=device,
        metrics=settings.evaluation.metrics,
        bootstrap=settings.evaluation.bootstrap if bootstrap is None else bootstrap,
        seed=settings.evaluation.seed,
        progress=progress.advance,
    )
    progress.stop()
    return report


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
    settings, device = run.settings.changed(changes), pick_device(run.settings.train.device)
    with _opened(run, settings, Path(dataset), part, progress) as (data, part, rows):
        cascade = run.cascade.to(device)
        report = evaluate_rows(settings, cascade, data, rows, device=device, progress=progress)
    return part, report


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
    device = pick_device(run.settings.train.device)
    with _opened(run, run.settings, Path(dataset), part, progress) as (data, part, rows):
        retrieval = ItemRetrieval(run.settings, data, device)
        report = retrieval.evaluate(run.cascade.to(device), rows, stage=stage, index=index)
    return part, report


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
    settings, device = run.settings, pick_device(run.settings.train.device)
    stages = settings.stages
    if stage is not None and stage not in stages:
        raise ConfigError(
            f"no stage '{stage}'{did_you_mean(stage, stages)}; the run has {', '.join(stages)}"
        )
    if seed < 0:
        raise ConfigError(f"seed must be at least 0; got {seed}")
    with _opened(run, settings, Path(dataset), part, progress) as (data, part, rows):
        loader = data.loader(rows)
        progress.start("permuting", loader.batches_per_epoch)
        importance = permutation_importance(
            run.cascade.to(device),
            loader,
            {
                name: run.schema.select(own.features)
                for name, own in stages.items()
                if stage in (None, name)
            },
            k=settings.relevance.top,
            threshold=settings.relevance.threshold,
            repeats=repeats,
            seed=seed,
            device=device,
            progress=progress.advance,
        )
        progress.stop()
    return part, importance


@contextmanager
def _opened(
    run: TrainedRun,
    settings: RunSettings,
    dataset: Path,
    part: Part,
    progress: Progress | None,
) -> Iterator[tuple[RunData, Part, Rows]]:
    """Open and encode a data set for a run; yield it with the part and its row numbers.

    The training rows of the data are the requests that the run was trained on, so that a data set
    other than that of the run has none.
    """
    log = RequestLog.open(dataset)
    check_same_features(run.schema, log.schema, where=str(log.path))
    report: Mapping[str, dict[str, object]] = read_json(run.folder.report)
    is_own = report["dataset"]["fingerprint"] == log.fingerprint
    if part == "auto":
        part = "test" if is_own else "all"
    all_rows = np.arange(log.manifest.requests, dtype=np.int64)
    no_rows = all_rows[:0]
    split = Split(train=no_rows, validation=no_rows, test=all_rows)
    if is_own or part != "all":
        split = split_requests(log, settings.data.split)
    rows = all_rows if part == "all" else getattr(split, part)
    if not is_own:
        split = Split(train=no_rows, validation=split.validation, test=split.test)
    with encoded_data(settings, log, run.schema, split=split, progress=progress) as data:
        yield data, part, rows
