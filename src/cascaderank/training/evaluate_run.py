"""Judging a run that is complete: on any data set, by logged candidates or by all items."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from cascaderank.cascade import Cascade
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import check_same_features
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import split_requests
from cascaderank.evaluation import CatalogueReport, Report
from cascaderank.evaluation.item_retrieval import EXACT
from cascaderank.progress import Progress, Silent
from cascaderank.runs.data import encode
from cascaderank.runs.folder import RunFolder, read_json, scratch
from cascaderank.runs.seeding import pick_device
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings
from cascaderank.training.retrieval import search_items
from cascaderank.training.train_run import Part, judge, load_run


def evaluate_run(
    folder: Path,
    dataset: Path,
    *,
    part: Part = "auto",
    target: str | None = None,
    threshold: float | None = None,
    progress: Progress | None = None,
) -> tuple[str, Report]:
    """Judge a run on a data set.

    Args:
        folder: of the run.
        dataset: a request log; its schema must be the one the run was trained with.
        part: which requests. ``"auto"`` takes the test requests of the data set that the run was
            trained on, so that nothing is judged that was learnt from, and all requests of any
            other.
        target: what it is judged by, such as ``"label"``; what it was trained on if not given.
        threshold: the ground truth is every label of at least this; that of the run if not given.
        progress: hears how far it is.

    Returns:
        Which requests were judged, and the report.

    Raises:
        RunError: if the folder is not that of a complete run.
        SchemaError: if the data set has another schema.
        ConfigError: if there is no such target.
        DataError: if the data set has not what the target is made of.
    """
    changes: dict[str, object] = {} if target is None else {"data.target": target}
    if threshold is not None:
        changes["relevance"] = {"threshold": threshold}
    with _judged(folder, dataset, part, progress or Silent(), changes) as judged:
        cascade, opened, part, rows = judged
        device = pick_device(opened.settings.train.device)
        report = judge(
            opened.settings,
            cascade.to(device),
            opened.encoded,
            rows,
            device,
            progress or Silent(),
        )
    return part, report


def evaluate_run_catalogue(
    folder: Path,
    dataset: Path,
    *,
    part: Part = "auto",
    stage: str | None = None,
    index: str = EXACT,
    progress: Progress | None = None,
) -> tuple[str, CatalogueReport]:
    """Judge a stage of a run by its search of all items of a data set.

    Args:
        folder: of the run.
        dataset: a request log; its schema must be the one the run was trained with.
        part: which requests; as for :func:`evaluate_run`.
        stage: which; the first if not given.
        index: ``"exact"``, or an index of faiss, such as ``"HNSW32"``.
        progress: hears how far it is.

    Returns:
        Which requests were judged, and the report.

    Raises:
        RunError: if the folder is not that of a complete run.
        SchemaError: if the data set has another schema.
        ConfigError: if the run's settings do not say what tells items apart, or the stage cannot
            search.
        MissingExtraError: if an index is wanted and faiss is not installed.
    """
    with _judged(folder, dataset, part, progress or Silent()) as (cascade, opened, part, rows):
        device = pick_device(opened.settings.train.device)
        return part, search_items(
            opened.settings,
            cascade.to(device),
            opened.schema,
            opened.log,
            opened.encoded,
            rows=rows,
            train=opened.train,
            stage=stage,
            index=index,
            device=device,
        )


@final
@dataclass(frozen=True, kw_only=True)
class _Opened:
    settings: RunSettings
    schema: FittedSchema
    log: RequestLog
    encoded: EncodedLog
    train: np.ndarray
    """Requests that the run learnt from; none of another data set."""


@contextmanager
def _judged(
    folder: Path,
    dataset: Path,
    part: Part,
    progress: Progress,
    changes: Mapping[str, object] | None = None,
) -> Iterator[tuple[Cascade, _Opened, Part, np.ndarray]]:
    """Open a run and a data set, and say which requests are judged."""
    cascade, schema, settings = load_run(folder)
    settings = settings.changed(changes or {})
    log = RequestLog.open(dataset)
    check_same_features(schema, log.schema, where=str(log.path))
    own = read_json(RunFolder(folder).report)["dataset"]["fingerprint"] == log.fingerprint
    if part == "auto":
        part = "test" if own else "all"
    split = split_requests(log, settings.data.split) if own or part != "all" else None
    rows = None if part == "all" else getattr(split, part)
    with scratch(None) as columns:
        encoded = encode(log, schema, settings, columns, progress)
        rows = np.arange(encoded.requests) if rows is None else rows
        none = np.zeros(0, dtype=np.int64)
        train = split.train if own and split is not None else none
        opened = _Opened(settings=settings, schema=schema, log=log, encoded=encoded, train=train)
        yield cascade, opened, part, rows
