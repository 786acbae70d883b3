"""Requests of a service of short videos, made of single exposures, without looking ahead."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from cascaderank.data.ragged import flattened, lengths_of, offsets_of, positions_within
from cascaderank.data.request_log import RequestLogWriter
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
"""What one request is: all that a user was shown on one day, or ever."""

_REQUESTS_PER_FRAME = 20_000
_SHORT = 7_000  # milliseconds
_Places = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Watching:
    """Who was shown what, when, and what became of it."""

    exposures: pl.DataFrame
    """``user_id``, ``video_id``, ``time`` (UTC, null if unknown), ``feedback``, and one column of
    truth values for each sequence of histories; in any order."""
    users: pl.DataFrame
    """``user_id``, one row each, and their features."""
    videos: pl.DataFrame
    """``video_id``, one row each, and their features."""
    numbers: Sequence[str]
    """Features of videos that are numbers."""
    sequences: Sequence[str]
    """Names of history features: the column of exposures that says who belongs to it."""
    before: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    """By sequence: ``user_id`` and ``video_id`` of what came before all exposures, oldest first."""


def valid_play(play: pl.Expr, duration: pl.Expr) -> pl.Expr:
    """Whether a video was played long enough to count: all of it, or more than seven seconds.

    Args:
        play: milliseconds it was played.
        duration: milliseconds it lasts; if unknown (0), the seven seconds decide.

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
    watching: Watching,
    *,
    request: RequestOf,
    time_zone: str,
    history_length: int,
    progress: Progress | None,
) -> None:
    """Write all requests and the catalogue of videos, and note what was done on the way.

    A video that was shown several times in one request is one candidate, with what came of the
    first time.
    """
    rows, notes = _one_per_request(watching.exposures, request, time_zone)
    firsts = np.flatnonzero(_changes(rows, [USER, "day"]))
    lengths = np.diff(np.append(firsts, rows.height))
    heads = rows[firsts].select(USER, "time", "day")
    histories = {
        name: _latest(rows, firsts, name, watching.before.get(name), history_length)
        for name in (watching.sequences if request == "day" else ())
    }
    videos = watching.videos.with_row_index("row")
    rows = rows.join(videos.select(VIDEO, "row"), on=VIDEO, how="left", maintain_order="left")
    unknown = heads[USER].unique()
    notes["users_without_features"] = len(unknown) - int(
        unknown.is_in(watching.users[USER].implode()).sum()
    )
    written = 0
    for chosen in _by_day(heads):
        frame = _frame(watching, rows, firsts[chosen], lengths[chosen], heads[chosen])
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
    writer.write_catalogue(watching.videos)
    writer.extra["notes"] = {**notes, "videos_in_the_catalogue": watching.videos.height}


def schema_of(watching: Watching, request: RequestOf) -> Schema:
    """Return the features of the request log."""
    names = watching.sequences if request == "day" else ()
    histories = [
        Feature(
            name=name, role=Role.HISTORY, kind=Kind.CATEGORICAL, vocabulary=VIDEO, sequence=name
        )
        for name in names
    ]
    videos = video_features(watching.videos, watching.numbers)
    return Schema(features=(*user_features(watching.users), *histories, *videos))


def cut_before(exposures: pl.DataFrame, ends: pl.DataFrame) -> pl.Series:
    """Return the users whose given history ends before their first exposure.

    Args:
        exposures: of the log.
        ends: ``user_id`` and ``end``, when the last entry of a history was shown.

    Raises:
        DataError: if more than one user in a hundred has a history that overlaps the log: then
            it is that of another log, and would tell what is to be predicted.
    """
    first = exposures.group_by(USER).agg(pl.col("time").min().alias("first"))
    both = ends.join(first, on=USER, how="left", maintain_order="left")
    late = both.filter(pl.col("end") >= pl.col("first"))
    if late.height * 100 > both.height:
        raise DataError(
            f"histories look ahead: those of {late.height:,} of {both.height:,} users do not end "
            f"before their first exposure (user {late[USER][0]}: {late['end'][0]} and "
            f"{late['first'][0]}); expected histories of the time before the log"
        )
    return both.filter(~pl.col(USER).is_in(late[USER].implode()))[USER]


def _one_per_request(
    exposures: pl.DataFrame, request: RequestOf, time_zone: str
) -> tuple[pl.DataFrame, dict[str, int | str]]:
    """Exposures sorted by user and time, each video once per request."""
    notes: dict[str, int | str] = {"exposures": exposures.height}
    if request == "user":
        rows = exposures.with_columns(pl.lit(None, pl.Date).alias("day"))
    else:
        rows = exposures.filter(pl.col("time").is_not_null())
        notes |= {"time_zone": time_zone, "left_out_without_time": exposures.height - rows.height}
        local = pl.col("time").dt.convert_time_zone(time_zone)
        rows = rows.with_columns(local.dt.date().alias("day"))
    if not rows.height:
        raise DataError('no exposure has a time; say request = "user", which needs none')
    rows = rows.sort(USER, "time", maintain_order=True, nulls_last=True)
    once = rows.unique([USER, "day", VIDEO], keep="first", maintain_order=True)
    notes["shown_again_in_one_request"] = rows.height - once.height
    return once, notes


def _latest(
    rows: pl.DataFrame,
    firsts: _Places,
    mark: str,
    before: pl.DataFrame | None,
    most: int,
) -> tuple[NDArray[np.int64], _Places, _Places]:
    """The latest videos of each request's user before the request, as runs of one array.

    Args:
        rows: exposures, sorted by user and time.
        firsts: first row of each request.
        mark: column that says whether an exposure belongs to the history.
        before: what came before all rows.
        most: entries to keep.

    Returns:
        The array, where the run of each request starts, and how long it is.
    """
    marked = rows[mark].to_numpy()
    count = offsets_of(marked.astype(np.int64))  # of marked rows before each row
    kept = rows.filter(rows[mark]).select(USER, VIDEO)
    old = kept[:0] if before is None else before.sort(USER, maintain_order=True)
    together = pl.concat([old, kept]).sort(USER, maintain_order=True)
    user = rows[USER].gather(firsts).to_numpy()
    first_of_user = np.searchsorted(rows[USER].to_numpy(), user)
    older = old[USER].to_numpy()
    starts = np.searchsorted(older, user, side="left") + count[first_of_user]
    ends = np.searchsorted(older, user, side="right") + count[firsts]
    starts = np.maximum(starts, ends - most)
    return together[VIDEO].to_numpy(), starts, ends - starts


def _by_day(heads: pl.DataFrame) -> Iterator[_Places]:
    """Requests day by day, some at a time."""
    order = heads.select(pl.arg_sort_by("day", USER)).to_series().to_numpy().astype(np.int64)
    days = heads["day"].gather(order).to_physical().fill_null(0).to_numpy()
    for of_day in np.split(order, np.flatnonzero(np.diff(days)) + 1):
        for first in range(0, len(of_day), _REQUESTS_PER_FRAME):
            yield of_day[first : first + _REQUESTS_PER_FRAME]


def _frame(
    watching: Watching, rows: pl.DataFrame, firsts: _Places, lengths: _Places, heads: pl.DataFrame
) -> pl.DataFrame:
    """Some requests with their users and candidates, without histories."""
    candidates = rows[_places(firsts, lengths)]
    offsets = offsets_of(lengths)
    items = watching.videos[candidates["row"]]
    requests = heads.join(watching.users, on=USER, how="left", maintain_order="left")
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
    """Whether a row begins something new."""
    first = rows.select(
        pl.any_horizontal(pl.col(c).ne_missing(pl.col(c).shift()) for c in columns)
    ).to_series()
    changes = first.to_numpy().copy()
    changes[:1] = True
    return changes


def _places(starts: _Places, lengths: _Places) -> _Places:
    return np.repeat(starts, lengths) + positions_within(lengths)


def _lists(name: str, values: pl.Series | NDArray[np.int64], offsets: _Places) -> pl.Series:
    array = values.to_arrow() if isinstance(values, pl.Series) else pa.array(values)
    return pl.Series(name, pa.LargeListArray.from_arrays(pa.array(offsets), array))


def unlisted(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """Return ``user_id`` and ``video_id`` of the entries of a column of lists, in their order."""
    lists = frame[column]
    return pl.DataFrame(
        {
            USER: np.repeat(frame[USER].to_numpy(), lengths_of(lists)),
            VIDEO: flattened(lists).cast(pl.Int64),
        }
    )
