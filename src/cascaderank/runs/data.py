"""The request log of a run: opened, split, fitted on its training requests, and encoded."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.fitting import extend_schema, fit_schema
from cascaderank.data.item_catalogue import ItemCatalogue
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT
from cascaderank.data.split import Rows, Split, split_requests
from cascaderank.errors import ConfigError, DataError, RunError, SchemaError
from cascaderank.progress import Progress, Silent
from cascaderank.regular_files import check_path
from cascaderank.runs.folder import RunFolder, scratch
from cascaderank.runs.log_defaults import target_of
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings

_LABELS_AT_ONCE = 1 << 24
_REQUESTS_AT_ONCE = 100_000  # whose weights are in memory


@final
@dataclass(frozen=True, kw_only=True)
class RunData:
    """A request log that is split and encoded; runs on the same data can share one instance."""

    log: RequestLog
    """The request log."""
    split: Split
    """Row numbers of the training, validation and test requests."""
    encoded: EncodedLog
    """All requests, encoded by :attr:`schema`."""
    schema: FittedSchema
    """Schema fitted to the training requests of the run."""
    folder: Path
    """Folder of the encoded columns."""
    item: str | None
    """Feature that identifies items, ``catalogue.item`` of the settings."""
    batch_size: int
    """Requests per batch outside of training, ``evaluation.batch_size`` of the settings."""

    @cached_property
    def items(self) -> ItemCatalogue:
        """All items of the log, built on first access.

        These are the items of its item table; if it has none, its candidates.

        Raises:
            ConfigError: if the settings name no feature that identifies items, or the feature is
                no category.
            DataError: if the log has no items.
        """
        if self.item is None:
            raise ConfigError(
                "the search of all items needs the feature that identifies an item, and the "
                "settings name none; set catalogue.item"
            )
        return ItemCatalogue.build(
            self.encoded,
            self.schema,
            item=self.item,
            train=self.split.train,
            frame=self.log.catalogue(),
        )

    def loader(self, rows: Rows) -> RequestLoader:
        """Return a loader of complete requests in the order of ``rows``, for evaluation."""
        return RequestLoader(self.encoded, rows, batch_size=self.batch_size)


@contextmanager
def run_data(
    settings: RunSettings,
    *,
    log: RequestLog | None = None,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Iterator[RunData]:
    """Open, split, fit and encode the request log of a run; remove the encoded columns at exit.

    Args:
        settings: settings of the run.
        log: request log at ``settings.data.path``, if it is already open.
        folder: locked folder for the encoded columns, about four bytes per value; by default the
            system's temporary folder.
        progress: receives the progress of the encoding.

    Raises:
        DataError: if the log is missing or damaged, cannot be split as the settings require, or has
            weight 0 in all training requests or candidates.
        SchemaError: if a stage uses a feature that the log does not have.
        ConfigError: if ``train.start`` names a run on a log with other features.
        RunError: if ``train.start`` is no folder of a run.
    """
    log = log or RequestLog.open(settings.data.path)
    check_log(settings, log)
    split = split_requests(log, settings.data.split)
    try:
        schema = fit_schema(log.schema, log.frames(rows=split.train))
    except DataError as error:
        message = str(error)
        if str(log.path) not in message:
            message = f"{log.path}: {message}"
        raise type(error)(message) from None
    if settings.train.start is not None:
        schema = _extended(settings.train.start, schema)
    with encoded_data(settings, log, schema, split=split, folder=folder, progress=progress) as data:
        check_lists(settings, data)
        check_weights(data)
        yield data


@contextmanager
def encoded_data(
    settings: RunSettings,
    log: RequestLog,
    schema: FittedSchema,
    *,
    split: Split,
    labels: bool = True,
    folder: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Iterator[RunData]:
    """Encode a request log by a fitted schema; remove the encoded columns at exit.

    Args:
        settings: settings of the run.
        log: the request log.
        schema: schema fitted to the training requests of the run.
        split: row numbers of the training, validation and test requests.
        labels: whether batches have labels, which need the columns of the target.
        folder: locked folder for the encoded columns, as in :func:`run_data`.
        progress: receives the progress of the encoding.

    Raises:
        DataError: if the log is damaged, or its features are not those of the schema.
    """
    progress = progress or Silent()
    with scratch(folder) as columns:
        progress.start("encoding", log.manifest.requests)
        encoded = EncodedLog.build(
            log,
            schema,
            target=target_of(settings, log) if labels else None,
            folder=columns,
            history_length=settings.data.history_length,
            progress=progress.advance,
        )
        progress.stop()
        yield RunData(
            log=log,
            split=split,
            encoded=encoded,
            schema=schema,
            folder=columns,
            item=settings.catalogue.item if settings.catalogue else None,
            batch_size=settings.evaluation.batch_size,
        )


def check_log(settings: RunSettings, log: RequestLog) -> None:
    """Check that a log has the features of all stages, and timestamps if ``train.order`` is days.

    Args:
        settings: settings of the run.
        log: request log; only its manifest is read.

    Raises:
        SchemaError: if a feature does not exist; the message names the stage.
        DataError: if ``train.order`` is ``"days"`` and the log has no timestamps.
    """
    for name, stage in settings.stages.items():
        try:
            log.schema.select(stage.features)
        except SchemaError as error:
            raise SchemaError(f"stages.{name}.features: {error}") from None
    if settings.train.order == "days" and log.manifest.time_range is None:
        raise DataError(
            f'{log.path}: train.order = "days" needs timestamps, and the log has none; '
            'set train.order = "shuffled"'
        )


def _extended(start: Path, schema: FittedSchema) -> FittedSchema:
    """Return the schema of the run that training starts from, with the new categories of the log.

    Raises:
        RunError: if the folder has no schema.
        ConfigError: if the features differ.
    """
    if not check_path(start, RunError).is_dir():
        raise RunError(f"train.start: {start}: no such folder; name that of a complete run")
    path = RunFolder(start).schema
    if not path.exists():
        raise RunError(f"train.start: {start}: no {path.name}; name the folder of a complete run")
    try:
        return extend_schema(FittedSchema.load(path), schema)
    except SchemaError as error:
        raise ConfigError(
            f"train.start: {start} was trained on a log with other features: {error}; prepare both "
            "logs with the same schema"
        ) from None


def trained_requests(encoded: EncodedLog) -> NDArray[np.bool_]:
    """Return which requests are trained on: their weight and that of a candidate are above 0.

    Args:
        encoded: the encoded requests.

    Returns:
        ``[requests]`` bool; all ``True`` for a log without weights.

    Examples:
        >>> import polars as pl
        >>> log = EncodedLog(
        ...     request_ids=pl.Series(["a", "b"]),
        ...     offsets=np.array([0, 2, 3]),
        ...     items={},
        ...     candidate_weights=np.array([0.0, 1.0, 0.0], dtype=np.float32),
        ... )
        >>> trained_requests(log).tolist()
        [True, False]
    """
    trained = np.ones(encoded.requests, dtype=bool)
    if encoded.weights is not None:
        trained &= np.asarray(encoded.weights) > 0
    if encoded.candidate_weights is not None:
        for first in range(0, encoded.requests, _REQUESTS_AT_ONCE):
            part = encoded.offsets[first : first + _REQUESTS_AT_ONCE + 1]
            above = encoded.candidate_weights[part[0] : part[-1]] > 0
            trained[first : first + len(part) - 1] &= np.logical_or.reduceat(
                above, part[:-1] - part[0]
            )
    return trained


def check_weights(data: RunData) -> None:
    """Check that a training request is trained on.

    Raises:
        DataError: if all have weight 0, or all their candidates.
    """
    rows, encoded = data.split.train, data.encoded
    if trained_requests(encoded)[rows].any():
        return
    of_requests = encoded.weights is not None and not encoded.weights[rows].any()
    name, what = (REQUEST_WEIGHT, "requests") if of_requests else (CANDIDATE_WEIGHT, "candidates")
    raise DataError(
        f"{data.log.path}: expected training {what} with a weight above 0, found weight 0 in all; "
        f"set positive weights in the column {name}, or prepare the log without it"
    )


def check_lists(settings: RunSettings, data: RunData) -> None:
    """Check that lists exceed the last quota and the ground truth, and that one has ground truth.

    Raises:
        DataError: if no list does, so that every cascade would have the same recall; or if no label
            reaches the threshold.
    """
    labels, threshold = data.encoded.labels, settings.ground_truth.threshold
    if threshold is not None and labels is not None and len(labels):
        highest = max(
            float(labels[first : first + _LABELS_AT_ONCE].max())
            for first in range(0, len(labels), _LABELS_AT_ONCE)
        )
        if highest < threshold:
            given = settings.relevance.threshold
            rule = "labels above 0" if given is None else f"relevance.threshold = {given:g}"
            raise DataError(
                f"{data.log.path}: no candidate is ground truth: {rule}, and the highest label is "
                f"{highest:g}; set a lower relevance.threshold, or another data.target"
            )
    longest, k = int(np.diff(data.encoded.offsets).max(initial=0)), settings.ground_truth.top
    reasons = []
    if k is not None and k >= longest:
        reasons.append(f"relevance.top is {k}, so all candidates are ground truth")
    if settings.quotas[-1] >= longest:
        reasons.append(f"the last quota is {settings.quotas[-1]}, so no stage drops a candidate")
    if reasons:
        raise DataError(
            f"{data.log.path}: the longest list has {longest} candidates and "
            f"{', and '.join(reasons)}, and every cascade has the same recall; set smaller values"
        )
