"""KuaiRand in its official layout: a service of short videos, with many kinds of feedback."""

from pathlib import Path
from typing import Literal

import polars as pl

from cascaderank.data.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress
from cascaderank.data.sources._shared.timestamps import utc_timestamps
from cascaderank.data.sources._short_video.exposure_requests import (
    Watching,
    cut_before,
    schema_of,
    unlisted,
    valid_play,
    write_requests,
)
from cascaderank.data.sources._short_video.official_tables import (
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
"""What the user did with a video."""

_LOG = ("exposures.parquet", "log_standard_*.csv")
_CATEGORIES = ("author_id", "video_type", "upload_dt", "upload_type", "music_id", "music_type")
_NUMBERS = ("video_duration", "server_width", "server_height")
_SEQUENCES = {
    "history_exposed": "exposed_video_ids",
    "history_liked": "liked_video_ids",
    "history_long_viewed": "long_viewed_video_ids",
}


@SOURCES.register
def kuairand_source(
    from_: Inputs,
    to: Path,
    *,
    feedback: Feedback = "valid_play",
    random: bool = False,
    history_length: int = 50,
    time_zone: str = "Asia/Shanghai",
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Make a request log from the files of KuaiRand; the data set is not part of this library.

    A request is one user on one day, at the time of the first exposure of that day, with all
    videos that were exposed to the user on it as candidates. The history holds what lies strictly
    before that time: videos exposed, liked and long viewed, oldest first. Read are
    ``log_standard_*.csv``, ``user_features*.csv`` and ``video_features_basic*.csv``, or a part of
    them as ``exposures.parquet`` and ``user_features.parquet``, ``video_features_basic.parquet``
    and (what came before) ``user_histories.parquet``. ``video_features_statistic`` is never read:
    it counts over the whole month, so it tells the future.

    A user that the table of users lacks has no features, one that was never seen before has an
    empty history. Of a video that was exposed again on the same day, the first time counts. The
    catalogue of the log (:meth:`RequestLog.catalogue`) holds all videos, exposed or not.

    Args:
        from_: the one folder that holds these files.
        to: folder of the request log to write.
        feedback: column of feedback; ``valid_play`` is the label of FS-LTR: played to its end if
            it is of at most 7 seconds, else for more than 7 seconds.
        random: take the exposures of ``log_random_*.csv`` as well.
        history_length: entries of a history, the latest, at most.
        time_zone: in which a day begins.
        name: of the data set; not given, that of the folder ``to``.
        overwrite: replace a request log that is there.
        progress: called with requests written and requests in all.

    Raises:
        ConfigError: if an option is out of range.
        DataError: if a file or column is missing or damaged, the table of videos lacks one of the
            log, or histories do not end before the log begins.

    Source: KuaiRand (Gao et al., CIKM 2022) for the data set; FS-LTR for the label.
    """
    if history_length < 1:
        raise ConfigError(f"history_length must be at least 1; got {history_length}")
    folder = the_folder(from_, "user_features*")
    logs = find_files(folder, _LOG, "exposures")
    if random:
        logs += find_files(folder, ["log_random_*.csv"], "random exposures")
    ids, times = [USER, VIDEO, "time_ms"], ["play_time_ms", "duration_ms"]
    marks = ["long_view", "is_like", *([] if feedback == "valid_play" else [feedback])]
    exposures = whole(read_columns(logs, [*ids, *times, *marks]), ids, logs[0])
    exposures = exposures.with_columns(
        utc_timestamps(exposures["time_ms"], "ms", column="time_ms").alias("time"),
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
    earlier = sorted(folder.glob("user_histories.parquet"))
    watching = Watching(
        exposures=exposures.select(USER, VIDEO, "time", "feedback", *_SEQUENCES),
        users=read_users(find_files(folder, ["user_features*"], "the table of users")),
        videos=videos,
        numbers=_NUMBERS,
        sequences=tuple(_SEQUENCES),
        before=_histories(earlier, exposures) if earlier else {},
    )
    with RequestLogWriter(
        to, name=name or to.name, schema=schema_of(watching, "day"), overwrite=overwrite
    ) as writer:
        write_requests(
            writer,
            watching,
            request="day",
            time_zone=time_zone,
            history_length=history_length,
            progress=progress,
        )


def _videos(files: list[Path]) -> pl.DataFrame:
    frame = read_columns(files, [VIDEO], [*_CATEGORIES, *_NUMBERS, "tag"])
    frame = categories(whole(frame, [VIDEO], files[0]), _CATEGORIES)
    if "tag" in frame.columns:
        frame = frame.with_columns(first_two(frame["tag"], "tag"))
    return one_per(frame, VIDEO, files[0])


def _histories(files: list[Path], exposures: pl.DataFrame) -> dict[str, pl.DataFrame]:
    frame = read_columns(files, [USER, "last_time_ms", *_SEQUENCES.values()])
    frame = one_per(whole(frame, [USER, "last_time_ms"], files[0]), USER, files[0])
    for column in _SEQUENCES.values():
        if not isinstance(frame[column].dtype, pl.List) or frame[column].null_count():
            raise DataError(f"{files[0]}: column '{column}': expected a list of videos per user")
    end = utc_timestamps(frame["last_time_ms"], "ms", column="last_time_ms")
    before = cut_before(exposures, frame.select(USER, end.alias("end")))
    frame = frame.filter(pl.col(USER).is_in(before.implode()))
    return {name: unlisted(frame, column) for name, column in _SEQUENCES.items()}
