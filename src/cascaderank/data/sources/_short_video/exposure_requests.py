"""Requests of a short-video service, built from single exposures, with past-only histories."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cascaderank.data.log.manifest import ITEM
from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.ragged import flattened, lengths_of, offsets_of, positions_within
from cascaderank.data.sources import Progress
from cascaderank.data.sources._short_video.official_tables import (
    USER,
    VIDEO,
    user_features,
    video_features,
)
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Schema

RequestOf = Literal["day", "user"]
"""Exposures that form one request: all of a user on one day, or all of a user."""

_REQUESTS_PER_FRAME = 20_000
_SHORT = 7_000  # milliseconds
_Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ExposureTables:
    """Exposures of videos to users, and the features of both."""

    exposures: pl.DataFrame
    """``user_id``, ``video_id``, ``time`` (UTC, null if unknown), ``feedback``, and one boolean
    column for each sequence of histories; in any order."""
    users: pl.DataFrame
    """One row per user: ``user_id`` and features."""
    videos: pl.DataFrame
    """One row per video: ``video_id`` and features."""
    numbers: Sequence[str]
    """Names of the numeric features of videos."""
    sequences: Sequence[str]
    """Names of history features; the column of that name flags the exposures that belong to it."""
    before: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """``user_id`` and ``video_id`` of events before all exposures, oldest first, by sequence."""


def valid_play(play: pl.Expr, duration: pl.Expr) -> pl.Expr:
    """Return whether a play counts as valid: to the end, or for more than seven seconds.

    Args:
        play: playing time in milliseconds.
        duration: duration of the video in milliseconds. Videos of at most seven seconds must be
            played to the end; others, and those of unknown duration (0), for more than seven
            seconds.

    Examples:
        >>> frame = pl.DataFrame({"play": [5, 4, 7001, 7000], "of": [5, 5, 9000, 9000]})
        >>> frame.select(valid_play(pl.col("play"), pl.col("of"))).to_series().to_list()
        [True, False, True, False]

    Source: the label of FS-LTR, appendix A.4.
    """
    return (
        pl.when((duration > 0) & (duration <= _SHORT))
        .then(play >= duration)
        .otherwise(play > _SHORT)
        .alias("valid_play")
    )


def write_requests(
    writer: RequestLogWriter,
    tables: ExposureTables,
    *,
    request: RequestOf,
    time_zone: str,
    history_length: int,
    progress: Progress | None,
) -> None:
    """Write all requests, the catalogue of videos, and notes with counts.

    A video that was exposed several times in one request is one candidate, with the feedback of its
    first exposure.

    Args:
        writer: open writer of the request log.
        tables: exposures, users and videos.
        request: exposures that form one request.
        time_zone: time zone in which days begin.
        history_length: maximum number of entries of a history; the latest are kept.
        progress: callback that receives the requests written so far and the total.

    Raises:
        DataError: if requests are days, and no exposure has a time.
    """
    rows, notes = _one_per_request(tables.exposures, request, time_zone)
    firsts = np.flatnonzero(_changes(rows, [USER, "day"]))
    lengths = np.diff(np.append(firsts, rows.height))
    heads = rows[firsts].select(USER, "time", "day")
    histories = {
        name: _latest(rows, firsts, name, tables.before.get(name), history_length)
        for name in (tables.sequences if request == "day" else ())
    }
    videos = tables.videos.with_row_index("row")
    rows = rows.join(videos.select(VIDEO, "row"), on=VIDEO, how="left", maintain_order="left")
    users = heads[USER].unique()
    notes["users_without_features"] = len(users) - int(
        users.is_in(tables.users[USER].implode()).sum()
    )
    written = 0
    for chosen in _by_day(heads):
        frame = _frame(tables, rows, firsts[chosen], lengths[chosen], heads[chosen])
        frame = frame.with_columns(
            _lists(
                name, values[_places(starts[chosen], counts[chosen])], offsets_of(counts[chosen])
            )
            for name, (values, starts, counts) in histories.items()
        )
        writer.write(frame, day=heads["day"][int(chosen[0])])
        written += len(chosen)
        if progress is not None:
            progress(written, len(firsts))
    if histories:
        total = np.sum([counts for _, _, counts in histories.values()], axis=0)
        notes["requests_without_history"] = int((total == 0).sum())
    writer.write_catalogue(tables.videos)
    writer.extra[ITEM] = VIDEO
    writer.extra["notes"] = {**notes, "videos_in_the_catalogue": tables.videos.height}


def schema_of(tables: ExposureTables, request: RequestOf) -> Schema:
    """Return the features of the request log."""
    names = tables.sequences if request == "day" else ()
    histories = [
        Feature(
            name=name, role=Role.HISTORY, kind=Kind.CATEGORICAL, vocabulary=VIDEO, sequence=name
        )
        for name in names
    ]
    videos = video_features(tables.videos, tables.numbers)
    return Schema(features=(*user_features(tables.users), *histories, *videos))


def cut_before(exposures: pl.DataFrame, ends: pl.DataFrame) -> pl.Series:
    """Return the users whose separate history ends before their first exposure.

    Args:
        exposures: exposures of the log.
        ends: ``user_id`` and ``end``, the time of the last entry of the history.

    Raises:
        DataError: if the histories of more than 1% of the users overlap the log. Such histories
            belong to another log, and would leak the targets of prediction.
    """
    first = exposures.group_by(USER).agg(pl.col("time").min().alias("first"))
    both = ends.join(first, on=USER, how="left", maintain_order="left")
    late = both.filter(pl.col("end") >= pl.col("first"))
    if late.height * 100 > both.height:
        raise DataError(
            f"histories leak the future: those of {late.height:,} of {both.height:,} users do not "
            f"end before their first exposure (user {late[USER][0]}: {late['end'][0]} and "
            f"{late['first'][0]}); fetch histories of the time before the log"
        )
    return both.filter(~pl.col(USER).is_in(late[USER].implode()))[USER]


def _one_per_request(
    exposures: pl.DataFrame, request: RequestOf, time_zone: str
) -> tuple[pl.DataFrame, dict[str, int | str]]:
    """Return exposures sorted by user and time, each video once per request, and counts."""
    notes: dict[str, int | str] = {"exposures": exposures.height}
    if request == "user":
        rows = exposures.with_columns(pl.lit(None, pl.Date).alias("day"))
    else:
        rows = exposures.filter(pl.col("time").is_not_null())
        notes |= {"time_zone": time_zone, "left_out_without_time": exposures.height - rows.height}
        local = pl.col("time").dt.convert_time_zone(time_zone)
        rows = rows.with_columns(local.dt.date().alias("day"))
    if not rows.height:
        raise DataError(
            'expected exposures with a time, found none; set request = "user", which needs no time'
        )
    rows = rows.sort(USER, "time", maintain_order=True, nulls_last=True)
    distinct = rows.unique([USER, "day", VIDEO], keep="first", maintain_order=True)
    notes["shown_again_in_one_request"] = rows.height - distinct.height
    return distinct, notes


def _latest(
    rows: pl.DataFrame,
    firsts: _Places,
    sequence: str,
    before: pl.DataFrame | None,
    length: int,
) -> tuple[NDArray[np.int64], _Places, _Places]:
    """Return the latest videos of each request's user before the request, as slices of one array.

    Args:
        rows: exposures, sorted by user and time.
        firsts: first row of each request.
        sequence: boolean column that flags the exposures that belong to the history.
        before: events before all rows, oldest first.
        length: maximum number of entries.

    Returns:
        The array of videos, and the start and the length of the slice of each request.
    """
    belongs = rows[sequence].to_numpy()
    count = offsets_of(belongs.astype(np.int64))  # number of flagged rows before each row
    kept = rows.filter(rows[sequence]).select(USER, VIDEO)
    old = kept[:0] if before is None else before.sort(USER, maintain_order=True)
    together = pl.concat([old, kept]).sort(USER, maintain_order=True)
    user = rows[USER].gather(firsts).to_numpy()
    first_of_user = np.searchsorted(rows[USER].to_numpy(), user)
    older = old[USER].to_numpy()
    starts = np.searchsorted(older, user, side="left") + count[first_of_user]
    ends = np.searchsorted(older, user, side="right") + count[firsts]
    starts = np.maximum(starts, ends - length)
    return together[VIDEO].to_numpy(), starts, ends - starts


def _by_day(heads: pl.DataFrame) -> Iterator[_Places]:
    """Yield indices of requests in order of their days, at most a frame at a time."""
    order = heads.select(pl.arg_sort_by("day", USER)).to_series().to_numpy().astype(np.int64)
    days = heads["day"].gather(order).to_physical().fill_null(0).to_numpy()
    for of_day in np.split(order, np.flatnonzero(np.diff(days)) + 1):
        for first in range(0, len(of_day), _REQUESTS_PER_FRAME):
            yield of_day[first : first + _REQUESTS_PER_FRAME]


def _frame(
    tables: ExposureTables,
    rows: pl.DataFrame,
    firsts: _Places,
    lengths: _Places,
    heads: pl.DataFrame,
) -> pl.DataFrame:
    """Return requests with their users and candidates, without histories."""
    candidates = rows[_places(firsts, lengths)]
    offsets = offsets_of(lengths)
    items = tables.videos[candidates["row"]]
    requests = heads.join(tables.users, on=USER, how="left", maintain_order="left")
    ids = pl.col(USER).cast(pl.String)
    if heads["day"].null_count():
        requests = requests.with_columns(ids.alias("request_id")).drop("time")
    else:
        day = pl.col("day").dt.strftime("-%Y%m%d")
        requests = requests.with_columns((ids + day).alias("request_id"))
        requests = requests.rename({"time": "timestamp"})
    return requests.drop("day").with_columns(
        *(_lists(name, items[name], offsets) for name in items.columns),
        _lists("feedback", candidates["feedback"].cast(pl.Float32), offsets),
    )


def _changes(rows: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Return whether each row differs from the previous one in ``columns``."""
    differs = rows.select(
        pl.any_horizontal(pl.col(c).ne_missing(pl.col(c).shift()) for c in columns)
    ).to_series()
    changes = differs.to_numpy().copy()
    changes[:1] = True
    return changes


def _places(starts: _Places, lengths: _Places) -> _Places:
    return np.repeat(starts, lengths) + positions_within(lengths)


def _lists(name: str, values: pl.Series | NDArray[np.int64], offsets: _Places) -> pl.Series:
    array = values.to_arrow() if isinstance(values, pl.Series) else pa.array(values)
    return pl.Series(name, pa.LargeListArray.from_arrays(pa.array(offsets), array))


def unlisted(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return ``user_id`` and ``video_id`` of all entries of a list column, in order."""
    lists = frame[column]
    return pl.DataFrame(
        {
            USER: np.repeat(frame[USER].to_numpy(), lengths_of(lists)),
            VIDEO: flattened(lists).cast(pl.Int64),
        }
    )
