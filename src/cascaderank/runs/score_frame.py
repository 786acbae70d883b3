"""Score a frame of raw columns by the stages of a run."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cascaderank.cascade import Cascade
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.ragged import lengths_of, offsets_of
from cascaderank.errors import SchemaError, counted
from cascaderank.runs.candidate_scores import joined, result_columns, scores_of
from cascaderank.runs.frames import free_name, request_rows
from cascaderank.schema import Role, Schema, abridged
from cascaderank.settings.run import RunSettings


@final
@dataclass(frozen=True, kw_only=True)
class ScoredFrame:
    """A frame with the columns of :meth:`CandidateScores.columns`."""

    frame: pl.DataFrame
    """The rows of the frame that was scored, in their order."""
    owners: NDArray[np.int64] | None
    """``[rows]`` number of the request of each row; ``None`` with one row per request."""
    lists: tuple[str, ...]
    """Columns with a list of one value per candidate; empty with one row per candidate."""

    def final_lists(self, top: int | None = None, key: str | None = None) -> pl.DataFrame:
        """Return one row per candidate that no stage cut, best first inside each request.

        Args:
            top: maximum length of a list; default: no maximum.
            key: column that identifies items; if a list has an item more than once, a warning
                states how many candidates are copies.
        """
        frame, owner = self.frame, free_name("owner", self.frame.columns)
        if self.owners is None:
            frame = frame.with_row_index(owner)
            if "request_id" not in frame.columns:
                frame = frame.with_columns(pl.col(owner).cast(pl.Int64).alias("request_id"))
                frame = frame.select("request_id", pl.exclude("request_id"))
            frame = frame.explode(self.lists)
        else:
            frame = frame.with_columns(pl.Series(owner, self.owners))
        kept = frame.filter(pl.col("rank") <= (top or pl.col("rank")))
        if key is not None and key in kept.columns:
            copies = kept.height - kept.select(owner, key).n_unique()
            if copies:
                verb = "repeats" if copies == 1 else "repeat"
                warnings.warn(
                    f"{counted(copies, 'candidate')} of final lists {verb} another of the same "
                    f"request by '{key}'; leave copies out of the frame if a list must have an "
                    "item once",
                    stacklevel=3,
                )
        return kept.sort(owner, "rank").drop(owner)


def score_frame(
    frame: pl.DataFrame,
    cascade: Cascade,
    encoder: Encoder,
    settings: RunSettings,
    schema: Schema,
) -> ScoredFrame:
    """Score candidates by every stage, and run the cascade on them.

    Args:
        frame: raw columns, one row per request or per candidate, see
            :func:`~cascaderank.runs.frames.request_rows`.
        cascade: cascade of a run.
        encoder: encoder of the features that its stages read.
        settings: settings of the run.
        schema: all features of the run.

    Raises:
        SchemaError: if a feature is missing or has another type, or is named as a result.
        DataError: if lists of a request differ in length, or numbers are not finite.
    """
    stages = list(settings.stages)
    taken = [name for name in result_columns(stages) if name in encoder.fitted.names]
    if taken:
        raise SchemaError(
            f"features have the names of results: {abridged(taken)}, which would replace them; "
            "use the command `cascaderank score`, or prepare the log with other names"
        )
    rows = request_rows(frame, encoder.fitted, _readers(settings, schema))
    encoded = EncodedLog.of_frame(rows.frame, encoder, history_length=settings.data.history_length)
    loader = RequestLoader(
        encoded, np.arange(encoded.requests), batch_size=settings.evaluation.batch_size
    )
    found = joined([scores_of(cascade, batch) for batch in loader.epoch(0)], len(stages))
    if rows.places is not None:
        owners = np.empty_like(rows.places)
        owners[rows.places] = np.repeat(np.arange(len(found.lengths)), found.lengths)
        scored = frame.with_columns(found.ordered(rows.places).columns(stages).values())
        return ScoredFrame(frame=scored, owners=owners, lists=())
    columns = found.columns(stages)
    lists = [_as_lists(column, found.lengths) for column in columns.values()]
    of_request = {f.name for f in schema.features if f.role is not Role.ITEM} | set(columns)
    own = [c for c in frame.columns if c not in of_request and _is_list(frame[c], found.lengths)]
    return ScoredFrame(frame=frame.with_columns(lists), owners=None, lists=(*own, *columns))


def _readers(settings: RunSettings, schema: Schema) -> Mapping[str, list[str]]:
    """Return the names of the stages that read each feature."""
    readers: dict[str, list[str]] = {}
    for name, stage in settings.stages.items():
        for feature in schema.select(stage.features):
            readers.setdefault(feature.name, []).append(name)
    return readers


def _as_lists(values: pl.Series, lengths: NDArray[np.int64]) -> pl.Series:
    array = pa.LargeListArray.from_arrays(offsets_of(lengths), values.to_arrow())
    return pl.Series(values.name, array)


def _is_list(column: pl.Series, lengths: NDArray[np.int64]) -> bool:
    """Whether a column has one value per candidate: lists of the lengths of the requests."""
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if not isinstance(column.dtype, pl.List) or column.null_count():
        return False
    return np.array_equal(lengths_of(column), lengths)
