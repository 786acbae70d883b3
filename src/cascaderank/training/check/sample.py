"""A sample of the requests of a log: as frames, and encoded as training encodes them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import numpy as np
import polars as pl

from cascaderank.data.log.request_log import RequestLog, RequestLogWriter
from cascaderank.data.split import Rows, Split
from cascaderank.runs.data import RunData, encoded_data
from cascaderank.runs.folder import scratch
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings

_SEED = 0
_SIZES = {"train": 4_000, "validation": 500, "test": 2_000}
"""Largest numbers of requests that are read of each part."""
_FEWEST = 100
"""Number of requests of a part that are read however long their lists are."""
_VALUES = 20_000_000
"""Values of item features that a sample has at most, unless its parts have the fewest requests."""


@final
@dataclass(frozen=True, kw_only=True)
class Sample:
    """Some requests of a log."""

    data: RunData
    """The requests as a run on them alone has them; the schema is that of all training requests."""
    frame: pl.DataFrame
    """The requests in the order of the rows of :attr:`data`, all columns."""
    whole: bool
    """Whether these are all requests of the log."""

    def part(self, rows: Rows) -> pl.DataFrame:
        """Return some requests, such as ``sample.data.split.train``."""
        return self.frame[rows]


def sample_rows(log: RequestLog, split: Split) -> Split:
    """Return the rows of a split that are read, drawn with a fixed seed.

    Args:
        log: request log; only its manifest is read.
        split: the split of a run.
    """
    manifest = log.manifest
    values = manifest.candidates / manifest.requests * max(1, len(log.schema.names))
    share = min(1.0, _VALUES / values / sum(_SIZES.values()))
    generator = np.random.default_rng(_SEED)
    rows = {}
    for name, size in _SIZES.items():
        own = getattr(split, name)
        count = min(len(own), max(_FEWEST, int(share * size)))
        rows[name] = np.sort(generator.choice(own, count, replace=False))
    return Split(**rows)


@contextmanager
def read_sample(
    settings: RunSettings, log: RequestLog, split: Split, schema: FittedSchema
) -> Iterator[Sample]:
    """Read and encode a sample of a log; what is written for it is removed at exit.

    Args:
        settings: settings of the run.
        log: request log of the run.
        split: the split of the run, of all requests.
        schema: schema fitted to all training requests.

    Yields:
        The sample.

    Raises:
        DataError: if the log is damaged.
    """
    rows = sample_rows(log, split)
    every = np.sort(np.concatenate([rows.train, rows.validation, rows.test]))
    with scratch(None) as folder:
        manifest = log.manifest
        with RequestLogWriter(
            folder / "sample",
            name=manifest.name,
            schema=log.schema,
            level_names=manifest.level_names,
            extra=manifest.extra,
        ) as writer:
            for frame in log.frames(rows=every):
                writer.write(frame)
        small = RequestLog.open(folder / "sample")
        frame = pl.concat(list(small.frames()))
        ids = pl.concat(list(log.frames(["request_id"], rows=every)))["request_id"]
        # Parts of the sample are in the order of days, which need not be that of the log.
        place = dict(zip(frame["request_id"], range(frame.height), strict=True))
        placed = np.array([place[i] for i in ids], dtype=np.int64)
        of_part = {
            name: np.sort(placed[np.searchsorted(every, getattr(rows, name))]) for name in _SIZES
        }
        with encoded_data(settings, small, schema, split=Split(**of_part)) as data:
            yield Sample(data=data, frame=frame, whole=len(every) == manifest.requests)
