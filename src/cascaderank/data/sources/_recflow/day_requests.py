"""Requests of a RecFlow day, built from the sampled candidates and the histories of users."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cascaderank.data.ragged import offsets_of
from cascaderank.data.sources._recflow.day_files import Day, batches, whole_numbers
from cascaderank.data.sources._recflow.level_sampling import starts_of
from cascaderank.data.sources._recflow.pickles import read_arrays
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Schema

USER = {"device_id": "device", "gender": "gender", "age": "age", "province": "province"}
"""Columns that describe the request, with their names in a request log."""
IDENTITY = "user_id"
"""Column of the user id; some copies of the data set do not have it."""
VIDEO = {
    "author_id": "author",
    "category_level_one": "category_one",
    "category_level_two": "category_two",
    "upload_type": "upload_type",
}
"""Columns that describe a candidate, besides its video, with their names in a request log."""
TIMES = ("request_timestamp", "upload_timestamp")
Feedback = Literal[
    "realshow", "playing_time", "effective_view", "long_view", "like", "follow", "forward",
    "comment",
]  # fmt: skip
"""Columns of the user's responses to a candidate."""

_HISTORY = {"video": 0, "author": 1, "category_one": 3, "category_two": 2, "upload_type": 4}
_SEEN_AT = 7  # last column that is read: time at which the entry was seen; 0 in padding
_REQUESTS_PER_FRAME = 20_000
_LATEST = 4_102_444_800  # 2100-01-01, in seconds
_LAST = 2**15  # larger than every position


def recflow_schema(buckets: Mapping[str, int], *, users: bool) -> Schema:
    """Return the features of a request log of RecFlow.

    Args:
        buckets: number of hash buckets by vocabulary, for hashed vocabularies.
        users: whether the data set has a column of user ids.
    """

    def feature(name: str, role: Role, *, missing: bool = True, vocabulary: str = "") -> Feature:
        return Feature(
            name=name,
            role=role,
            kind=Kind.CATEGORICAL,
            missing=missing,
            vocabulary=vocabulary or name,
            buckets=buckets.get(vocabulary or name),
        )

    return Schema(
        features=(
            *(feature(n, Role.REQUEST, missing=False) for n in ("weekday", "hour", "minute")),
            *([feature("user", Role.REQUEST)] if users else []),
            *(feature(n, Role.REQUEST) for n in USER.values()),
            *(feature(f"history_{n}", Role.HISTORY, vocabulary=n) for n in _HISTORY),
            feature("video", Role.ITEM, missing=False),
            *(feature(n, Role.ITEM) for n in VIDEO.values()),
            *(feature(f"upload_{n}", Role.ITEM) for n in ("weekday", "hour", "minute")),
        )
    )


def read_taken(
    day: Day, taken: pl.DataFrame, *, users: bool, responses: Mapping[str, str], time_zone: str
) -> pl.DataFrame:
    """Read the remaining columns of the sampled rows.

    Args:
        day: files of the day.
        taken: rows to read, as returned by ``level_sampling.choose_candidates``.
        users: whether the data set has a column of user ids.
        responses: columns of :data:`Feedback` by their purpose, ``feedback`` or ``label``.
        time_zone: time zone of weekdays, hours and minutes.

    Returns:
        One row per candidate, with the columns of the request log. Requests are sorted by time;
        candidates of a request by decreasing level, then by position.

    Raises:
        DataError: if the file is damaged, or rows of a request differ in a column of the request.
    """
    request = {**({IDENTITY: "user"} if users else {}), **USER}
    columns = [*TIMES, *request, *VIDEO, *dict.fromkeys(responses.values())]
    rows, frames, first = taken["row"].to_numpy(), [], 0
    for batch in batches(day.candidates, columns):
        start, end = np.searchsorted(rows, (first, first + batch.height))
        if start < end:
            frames.append(_typed(day, batch[rows[start:end] - first]))
        first += batch.height
    others = pl.concat(frames, how="vertical_relaxed")
    seen, uploaded = (others[c] for c in TIMES)
    candidates = taken.drop("row").hstack(
        [
            _times(day, seen, 1_000).alias("timestamp"),
            _times(day, uploaded, 1).alias("upload"),
            *(others[column].alias(name) for column, name in (request | VIDEO).items()),
            *(others[c].cast(pl.Float32).fill_null(0).alias(n) for n, c in responses.items()),
        ]
    )
    if candidates["timestamp"].null_count():
        raise DataError(f"{day.candidates}: column '{TIMES[0]}' has missing values; fetch it again")
    unknown_last = pl.when(pl.col("position") == 0).then(_LAST).otherwise("position")
    candidates = candidates.sort(
        "timestamp", "request_id", -pl.col("level"), unknown_last, "key", "video"
    ).drop("key")
    _check_requests(day, candidates, ["timestamp", *request.values()])
    return candidates.with_columns(
        *_clock(pl.col("timestamp"), time_zone, ""), *_clock(pl.col("upload"), time_zone, "upload_")
    ).drop("upload")


def read_histories(day: Day) -> dict[Any, NDArray[Any]]:
    """Read the history of the user before each request of a day.

    Returns:
        Arrays ``[entries, columns]`` by request id.

    Raises:
        DataError: if the file is damaged, or its arrays have another layout.
    """
    arrays = read_arrays(day.histories)
    expected = f"{day.histories}: expected whole numbers [50, 8 or more] by request id"
    if invalid := [k for k in arrays if not isinstance(k, int)]:
        raise DataError(f"{expected}, found the key {invalid[0]!r}; fetch the file again")
    shapes = {(a.dtype.kind, a.ndim, a.shape[-1] if a.ndim else 0) for a in arrays.values()}
    for kind, dimensions, columns in shapes:
        if kind not in "iu" or dimensions != 2 or columns <= _SEEN_AT or len(shapes) > 1:
            request, array = next(
                (k, a) for k, a in arrays.items() if (a.dtype.kind, a.ndim) == (kind, dimensions)
            )
            more = f" and arrays of {len(shapes)} kinds" if len(shapes) > 1 else ""
            raise DataError(
                f"{expected}, found {array.dtype} {list(array.shape)} for request "
                f"{request}{more}; fetch the file again"
            )
    return arrays


def request_frames(
    day: Day, candidates: pl.DataFrame, histories: Mapping[Any, NDArray[Any]], schema: Schema
) -> Iterator[pl.DataFrame]:
    """Yield frames of requests for a request log.

    Args:
        day: files of the day.
        candidates: rows sorted by request, as returned by :func:`read_taken`.
        histories: arrays by request id, as returned by :func:`read_histories`.
        schema: features of the request log.

    Raises:
        DataError: if the day has histories, but none belongs to one of its requests.
    """
    starts = np.append(np.flatnonzero(starts_of(candidates, ["request_id"])), candidates.height)
    ids = candidates["request_id"].gather(starts[:-1])
    if histories and not any(i in histories for i in ids):
        raise DataError(
            f"{day.histories}: expected histories of the {len(ids):,} requests in "
            f"{day.candidates}, found those of {len(histories):,} other requests; fetch both files "
            "of the same day"
        )
    whole = {"request_id", "timestamp", *(f.name for f in schema.of(Role.REQUEST))}
    for first in range(0, len(ids), _REQUESTS_PER_FRAME):
        bounds = starts[first : first + _REQUESTS_PER_FRAME + 1]
        rows = candidates[int(bounds[0]) : int(bounds[-1])]
        offsets = bounds - bounds[0]
        columns = [
            rows[name].gather(offsets[:-1]) if name in whole else _lists(rows[name], offsets)
            for name in rows.columns
        ]
        entries = _history_columns(ids[first : first + len(bounds) - 1], histories)
        yield pl.DataFrame([*columns, *entries])


def _history_columns(ids: pl.Series, histories: Mapping[Any, NDArray[Any]]) -> list[pl.Series]:
    """Return the histories of requests as list columns, oldest first, without padding."""
    arrays = [histories.get(i) for i in ids]
    lengths = np.array([0 if a is None else len(a) for a in arrays])
    known = [a for a in arrays if a is not None]
    entries = np.concatenate(known) if known else np.zeros((0, _SEEN_AT + 1), np.int64)
    request = np.repeat(np.arange(len(ids)), lengths)
    real = entries[:, _SEEN_AT] > 0
    entries, request = entries[real], request[real]
    entries = entries[np.lexsort((entries[:, _SEEN_AT], request))]  # stable
    offsets = offsets_of(np.bincount(request, minlength=len(ids)))
    return [
        _lists(pl.Series(f"history_{name}", entries[:, column].astype(np.int64)), offsets)
        for name, column in _HISTORY.items()
    ]


def _typed(day: Day, batch: pl.DataFrame) -> pl.DataFrame:
    """Cast ids and times to integers, responses to floats; columns of the user may be text."""
    batch = whole_numbers(day.candidates, batch, [*TIMES, *VIDEO])
    of_user = [c for c in (IDENTITY, *USER) if c in batch.columns]
    text = [c for c in of_user if isinstance(batch[c].dtype, pl.String | pl.Categorical | pl.Enum)]
    batch = whole_numbers(day.candidates, batch, [c for c in of_user if c not in text])
    responses = [c for c in batch.columns if c in get_args(Feedback)]
    for column in responses:
        if not (batch[column].dtype.is_numeric() or batch[column].dtype in (pl.Boolean, pl.Null)):
            raise DataError(
                f"{day.candidates}: column '{column}': expected numbers, found "
                f"{batch[column].dtype}; fetch the file again"
            )
    return batch.with_columns(pl.col(text).cast(pl.String), pl.col(responses).cast(pl.Float64))


def _times(day: Day, times: pl.Series, per_second: int) -> pl.Series:
    """Convert to Datetime in UTC; values of 0 or less are unknown."""
    late = times.filter(times >= _LATEST * per_second)
    if len(late):
        unit = {1: "seconds", 1_000: "milliseconds"}[per_second]
        raise DataError(
            f"{day.candidates}: column '{times.name}': expected {unit} since 1970, found {late[0]}"
            "; fetch the file again"
        )
    known = times.to_frame().select(pl.when(times > 0).then(times)).to_series()
    return (known * (1_000_000 // per_second)).cast(pl.Datetime("us", "UTC"))


def _clock(time: pl.Expr, time_zone: str, prefix: str) -> list[pl.Expr]:
    local = time.dt.convert_time_zone(time_zone)
    return [
        getattr(local.dt, name)().cast(pl.Int64).alias(prefix + name)
        for name in ("weekday", "hour", "minute")
    ]


def _check_requests(day: Day, candidates: pl.DataFrame, columns: Sequence[str]) -> None:
    """Check that rows of a request agree in ``columns`` and are adjacent after sorting by time."""
    firsts = starts_of(candidates, ["request_id"])
    where = np.flatnonzero(firsts)
    first_of_row = np.repeat(where, np.diff(np.append(where, len(firsts))))
    ids = candidates["request_id"]
    runs = ids.gather(where)
    invalid = {"timestamp": runs.filter(runs.is_duplicated())}
    for column in columns:
        if column not in invalid or not len(invalid[column]):
            values = candidates[column]
            invalid[column] = ids.filter(values.ne_missing(values.gather(first_of_row)))
    for column, requests in invalid.items():
        if len(requests):
            raise DataError(
                f"{day.candidates}: {column}: expected one value per request, found several in "
                f"request {requests[0]} and {requests.n_unique() - 1:,} more; fetch the file again"
            )


def _lists(values: pl.Series, offsets: NDArray[np.int64]) -> pl.Series:
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow())
    return pl.Series(values.name, lists)
