"""KuaiRand in its official layout: exposures of short videos with several kinds of feedback."""

import os
from pathlib import Path
from typing import Literal

import polars as pl

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.ragged import depth_of
from cascaderank.data.sources import SOURCES, Inputs, Progress, checked_options
from cascaderank.data.sources._shared.timestamps import check_time_zone, utc_timestamps
from cascaderank.data.sources._short_video.exposure_requests import (
    ExposureTables,
    cut_before,
    schema_of,
    unlisted,
    valid_play,
    write_requests,
)
from cascaderank.data.sources._short_video.official_tables import (
    FETCH,
    USER,
    VIDEO,
    categories,
    check_known,
    find_files,
    first_two,
    one_per,
    read_columns,
    read_users,
    the_folder,
    whole,
)
from cascaderank.errors import ConfigError, DataError

Feedback = Literal[
    "valid_play", "is_click", "long_view", "is_like", "is_follow", "is_comment", "is_forward"
]  # fmt: skip
"""Response of the user to a video."""

_LOG = ("exposures.parquet", "log_standard_*.csv")
_CATEGORIES = ("author_id", "video_type", "upload_dt", "upload_type", "music_id", "music_type")
_NUMBERS = ("video_duration", "server_width", "server_height")
_SEQUENCES = {
    "history_exposed": "exposed_video_ids",
    "history_liked": "liked_video_ids",
    "history_long_viewed": "long_viewed_video_ids",
}


@SOURCES.register
@checked_options
def kuairand_source(
    from_: Inputs,
    to: str | os.PathLike[str],
    *,
    feedback: Feedback = "valid_play",
    random: bool = False,
    history_length: int = 50,
    time_zone: str = "Asia/Shanghai",
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Convert the files of KuaiRand to a request log; the data set is not part of this library.

    A request is one user on one day. Its time is that of the first exposure of the day, and its
    candidates are all videos that were exposed to the user on the day. The histories hold events
    strictly before that time: videos exposed, liked and long viewed, oldest first. The source reads
    ``log_standard_*.csv``, ``user_features*.csv`` and ``video_features_basic*.csv``, or an excerpt
    of them as ``exposures.parquet``, ``user_features.parquet``, ``video_features_basic.parquet``
    and, for events before the excerpt, ``user_histories.parquet``. It never reads
    ``video_features_statistic``, whose counts cover the whole month and would leak the future.

    Users without a row in the table of users have no features, and users without earlier events
    have empty histories. If a video was exposed several times on a day, the first exposure counts.
    The catalogue of the log (:meth:`RequestLog.catalogue`) holds all videos, exposed or not.

    Args:
        from_: folder of these files.
        to: folder of the request log to write.
        feedback: column of the feedback. ``valid_play`` is the label of FS-LTR: 1 if the video was
            played to the end (at most 7 seconds long) or for more than 7 seconds (longer videos).
        random: include the exposures of ``log_random_*.csv``.
        history_length: maximum number of entries of a history, 1 or more; the latest are kept.
        time_zone: time zone in which days begin.
        name: name of the data set; default the name of the folder ``to``.
        overwrite: replace an existing request log.
        progress: callback that receives the requests written so far and the total.

    Raises:
        ConfigError: if an option is unknown, of a wrong type or out of range.
        DataError: if a file or column is missing or damaged, a video of the log is not in the table
            of videos, or histories do not end before the log begins.

    Source: KuaiRand (Gao et al., CIKM 2022) for the data set; FS-LTR for the label.
    """
    if history_length < 1:
        raise ConfigError(f"history_length must be at least 1; got {history_length}")
    check_time_zone(time_zone)
    folder = the_folder(from_, "user_features*")
    logs = find_files(folder, _LOG, "exposures")
    if random:
        logs += find_files(folder, ["log_random_*.csv"], "random exposures")
    ids, times = [USER, VIDEO, "time_ms"], ["play_time_ms", "duration_ms"]
    responses = ["long_view", "is_like", *([] if feedback == "valid_play" else [feedback])]
    columns = [*ids, *times, *responses]
    exposures = whole(read_columns(logs, columns, numbers=columns), ids, logs[0])
    exposures = exposures.with_columns(
        utc_timestamps(exposures["time_ms"], "ms", column="time_ms", remedy=FETCH).alias("time"),
        valid_play(pl.col("play_time_ms"), pl.col("duration_ms")),
    ).with_columns(
        pl.col(feedback).cast(pl.Float32).fill_null(0).alias("feedback"),
        pl.lit(value=True).alias("history_exposed"),
        (pl.col("is_like") > 0).fill_null(value=False).alias("history_liked"),
        (pl.col("long_view") > 0).fill_null(value=False).alias("history_long_viewed"),
    )
    basics = find_files(folder, ["video_features_basic*"], "the table of videos")
    videos = _videos(basics)
    check_known(exposures, videos, basics[0])
    earlier = [f for f in [folder / "user_histories.parquet"] if os.path.lexists(f)]
    tables = ExposureTables(
        exposures=exposures.select(USER, VIDEO, "time", "feedback", *_SEQUENCES),
        users=read_users(find_files(folder, ["user_features*"], "the table of users")),
        videos=videos,
        numbers=_NUMBERS,
        sequences=tuple(_SEQUENCES),
        before=_histories(earlier, exposures) if earlier else {},
    )
    with RequestLogWriter(
        to, name=name or Path(to).name, schema=schema_of(tables, "day"), overwrite=overwrite
    ) as writer:
        write_requests(
            writer,
            tables,
            request="day",
            time_zone=time_zone,
            history_length=history_length,
            progress=progress,
        )


def _videos(files: list[Path]) -> pl.DataFrame:
    optional = [*_CATEGORIES, *_NUMBERS, "tag"]
    frame = read_columns(files, [VIDEO], optional, numbers=[VIDEO, *_NUMBERS])
    frame = categories(whole(frame, [VIDEO], files[0]), _CATEGORIES)
    if "tag" in frame.columns:
        frame = frame.with_columns(first_two(frame["tag"], "tag"))
    return one_per(frame, VIDEO, files[0])


def _histories(files: list[Path], exposures: pl.DataFrame) -> dict[str, pl.DataFrame]:
    numbers = [USER, "last_time_ms"]
    frame = read_columns(files, [*numbers, *_SEQUENCES.values()], numbers=numbers)
    frame = one_per(whole(frame, [USER, "last_time_ms"], files[0]), USER, files[0])
    for column in _SEQUENCES.values():
        depth, inner = depth_of(frame[column].dtype)
        whole_numbers = inner.is_integer() or isinstance(inner, pl.Null)
        if depth != 1 or not whole_numbers or frame[column].null_count():
            raise DataError(
                f"{files[0]}: column '{column}': expected a list of videos per user, found "
                f"{frame[column].dtype} with {frame[column].null_count():,} nulls; fetch it again"
            )
    end = utc_timestamps(frame["last_time_ms"], "ms", column="last_time_ms", remedy=FETCH)
    before = cut_before(exposures, frame.select(USER, end.alias("end")))
    frame = frame.filter(pl.col(USER).is_in(before.implode()))
    return {name: unlisted(frame, column) for name, column in _SEQUENCES.items()}
