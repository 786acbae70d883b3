"""Part of a data set for a run: its test requests, or all requests of another data set."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np

from cascaderank.data.encoding.encoder import check_same_features
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import Rows, Split, split_requests
from cascaderank.errors import DataError
from cascaderank.progress import Progress
from cascaderank.runs.claim import recorded_fingerprint
from cascaderank.runs.data import RunData, encoded_data
from cascaderank.runs.load import TrainedRun
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings

Part = Literal["auto", "all", "train", "validation", "test"]


@contextmanager
def part_of(
    run: TrainedRun,
    dataset: str | os.PathLike[str],
    part: Part,
    *,
    settings: RunSettings | None = None,
    schema: FittedSchema | None = None,
    labels: bool = True,
    progress: Progress | None = None,
) -> Iterator[tuple[RunData, Part, Rows]]:
    """Open and encode a data set for a run; yield it with the part and its row numbers.

    The training rows of the data are the requests that the run was trained on, so that a data set
    other than that of the run has none.

    Args:
        run: a complete run.
        dataset: folder of a request log.
        part: requests to select. ``"auto"`` means the test requests of the data set that the run
            was trained on, and all requests of any other data set.
        settings: settings of the data; default: those of the run.
        schema: features to encode; default: all features of the run.
        labels: whether batches have labels, which need the columns of the target.
        progress: receives the progress of the encoding.

    Raises:
        RunError: if the run has no report.
        SchemaError: if the data set has other features.
        DataError: if the data set is damaged, or has no column that the target or the split needs.
    """
    settings, schema = settings or run.settings, schema or run.schema
    log = RequestLog.open(dataset)
    check_same_features(schema, log.schema, where=str(log.path))
    is_own = recorded_fingerprint(run.folder.report) == log.fingerprint
    if part == "auto":
        part = "test" if is_own else "all"
    all_rows = np.arange(log.manifest.requests, dtype=np.int64)
    no_rows = all_rows[:0]
    split = Split(train=no_rows, validation=no_rows, test=all_rows)
    if is_own or part != "all":
        split = split_requests(log, settings.data.split)
    rows = all_rows if part == "all" else getattr(split, part)
    if part == "validation" and not len(rows):
        raise DataError(
            f"{run.folder.path}: the run has no validation requests; its "
            "data.split.validation_days is 0; choose another part, such as test"
        )
    if not is_own:
        split = Split(train=no_rows, validation=split.validation, test=split.test)
    data = encoded_data(settings, log, schema, split=split, labels=labels, progress=progress)
    with data as encoded:
        yield encoded, part, rows
