"""Requests of a RecFlow day, built from the sampled candidates and the histories of users."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cascaderank.data.ragged import offsets_of
from cascaderank.data.sources._recflow.damage import DamagedRequests
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
_COLUMNS = [*_HISTORY.values(), _SEEN_AT]
_EXACT = 2**53  # largest magnitude up to which a float64 holds every whole number
_EARLIEST = 10**11  # 1973 in milliseconds: times since 1970 in seconds are smaller until 5138
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
    day: Day,
    taken: pl.DataFrame,
    *,
    users: bool,
    responses: Mapping[str, str],
    time_zone: str,
    damaged: DamagedRequests,
) -> pl.DataFrame:
    """Read the remaining columns of the sampled rows.

    Args:
        day: files of the day.
        taken: rows to read, as returned by ``level_sampling.choose_candidates``.
        users: whether the data set has a column of user ids.
        responses: columns of :data:`Feedback` by their purpose, ``feedback`` or ``label``.
        time_zone: time zone of weekdays, hours and minutes.
        damaged: receives the requests whose times are missing or impossible, or whose rows differ
            in a column of the request; they are left out.

    Returns:
        One row per candidate, with the columns of the request log. Requests are sorted by time;
        candidates of a request by decreasing level, then by position.

    Raises:
        DataError: if the file is damaged, times are in another unit, or all requests are damaged.
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
    ids = taken["request_id"]
    candidates = taken.drop("row").hstack(
        [
            _times(day, seen, ids, 1_000, damaged).alias("timestamp"),
            _times(day, uploaded, ids, 1, damaged).alias("upload"),
            *(others[column].alias(name) for column, name in (request | VIDEO).items()),
            *(others[c].cast(pl.Float32).fill_null(0).alias(n) for n, c in responses.items()),
        ]
    )
    if candidates["timestamp"].null_count():
        damaged.add(
            ids.filter(candidates["timestamp"].is_null()),
            f"{day.candidates}: column '{TIMES[0]}' has missing values",
        )
    candidates = damaged.without(candidates)
    unknown_last = pl.when(pl.col("position") == 0).then(_LAST).otherwise("position")
    candidates = candidates.sort(
        "timestamp", "request_id", -pl.col("level"), unknown_last, "key", "video"
    ).drop("key")
    _check_requests(day, candidates, ["timestamp", *request.values()], damaged)
    candidates = damaged.without(candidates)
    return candidates.with_columns(
        *_clock(pl.col("timestamp"), time_zone, ""), *_clock(pl.col("upload"), time_zone, "upload_")
    ).drop("upload")


def read_histories(
    day: Day, requests: pl.Series, damaged: DamagedRequests
) -> dict[Any, NDArray[Any]]:
    """Read the history of the user before each request of a day.

    Args:
        day: files of the day.
        requests: ids of the requests whose histories are used.
        damaged: receives those of them whose history has another layout.

    Returns:
        Arrays ``[entries, columns]`` by request id, of integers or of whole floats; their numbers
        of columns may differ. An array without values has no entries.

    Raises:
        DataError: if the file is damaged, or a key is no request id.
    """
    arrays = read_arrays(day.histories)
    expected = f"{day.histories}: expected whole numbers [50, 8 or more] by request id"
    if invalid := [k for k in arrays if not (isinstance(k, int | float) and k == k // 1)]:
        raise DataError(f"{expected}, found the key {invalid[0]!r}; fetch the file again")
    used = set(requests)
    for request in [k for k, a in arrays.items() if not _is_history(a)]:
        array = arrays.pop(request)
        if request not in used:
            continue
        text = f"found {array.dtype} {list(array.shape)}"
        if array.dtype.kind == "f" and array.ndim == 2 and array.shape[-1] > _SEEN_AT:
            text += " with values that are not whole"
        damaged.add([int(request)], f"{expected}, {text} for request {int(request)}")
    return arrays


def _is_history(array: NDArray[Any]) -> bool:
    """Return whether the columns that are read have whole numbers, exact in 64 bits."""
    if not array.size:
        return True
    if array.ndim != 2 or array.shape[-1] <= _SEEN_AT or array.dtype.kind not in "iuf":
        return False
    if array.dtype.kind != "f":
        return True
    read = array[:, _COLUMNS]
    return bool((np.abs(read) <= _EXACT).all() and (read == np.trunc(read)).all())


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
    known = [
        a[:, : _SEEN_AT + 1].astype(np.int64, copy=False)
        for a in arrays
        if a is not None and a.size
    ]
    lengths = np.array([0 if a is None or not a.size else len(a) for a in arrays])
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


def _times(
    day: Day, times: pl.Series, ids: pl.Series, per_second: int, damaged: DamagedRequests
) -> pl.Series:
    """Convert to Datetime in UTC; values of 0 or less are unknown, and other impossible ones null.

    Raises:
        DataError: if at least half of the known values are impossible, as in another unit.
    """
    early = _EARLIEST if per_second == 1_000 else 0
    impossible = (times >= _LATEST * per_second) | ((times > 0) & (times < early))
    impossible = impossible.fill_null(value=False)
    if impossible.any():
        found = times.filter(impossible)
        unit = {1: "seconds", 1_000: "milliseconds"}[per_second]
        text = f"{day.candidates}: column '{times.name}': expected {unit} since 1970, found "
        text += f"{found[0]}" + ", which is in seconds" * (found[0] < early)
        if 2 * len(found) >= int((times > 0).sum()):
            raise DataError(f"{text}; convert the column to {unit}, or fetch the file again")
        damaged.add(ids.filter(impossible), text)
        times = times.to_frame().select(pl.when(~impossible).then(times)).to_series()
    known = times.to_frame().select(pl.when(times > 0).then(times)).to_series()
    return (known * (1_000_000 // per_second)).cast(pl.Datetime("us", "UTC"))


def _clock(time: pl.Expr, time_zone: str, prefix: str) -> list[pl.Expr]:
    local = time.dt.convert_time_zone(time_zone)
    return [
        getattr(local.dt, name)().cast(pl.Int64).alias(prefix + name)
        for name in ("weekday", "hour", "minute")
    ]


def _check_requests(
    day: Day, candidates: pl.DataFrame, columns: Sequence[str], damaged: DamagedRequests
) -> None:
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
        damaged.add(
            requests, f"{day.candidates}: {column}: expected one value per request, found several"
        )


def _lists(values: pl.Series, offsets: NDArray[np.int64]) -> pl.Series:
    lists = pa.LargeListArray.from_arrays(pa.array(offsets), values.to_arrow())
    return pl.Series(values.name, lists)
