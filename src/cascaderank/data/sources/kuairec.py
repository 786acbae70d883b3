"""KuaiRec in its official layout: a nearly complete matrix of users and short videos."""

import os
from pathlib import Path
from typing import Literal

import polars as pl

from cascaderank.data.log.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress, checked_options
from cascaderank.data.sources._shared.timestamps import check_time_zone, utc_timestamps
from cascaderank.data.sources._short_video.exposure_requests import (
    ExposureTables,
    RequestOf,
    schema_of,
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
from cascaderank.errors import ConfigError

_CATEGORIES = ("author_id", "video_type", "upload_dt", "upload_type", "music_id", "video_tag_id")
_NUMBERS = ("video_duration", "video_width", "video_height")


@SOURCES.register
@checked_options
def kuairec_source(
    from_: Inputs,
    to: str | os.PathLike[str],
    *,
    matrix: Literal["big", "small"] = "big",
    request: RequestOf | Literal[""] = "",
    history_length: int = 50,
    time_zone: str = "Asia/Shanghai",
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Convert the files of KuaiRec to a request log; the data set is not part of this library.

    In the big matrix, a request is one user on one day. Its time is that of the first video of the
    day, its candidates are all videos of the day, and its histories hold the videos exposed and
    those with valid plays strictly before that time. In the small matrix, which holds the responses
    of 1,411 users to (nearly) all of 3,327 videos, a request is one user with all videos, without
    time and history. It serves as the truth of a simulation, not as a log.

    The source reads ``big_matrix.csv`` or ``small_matrix.csv``, ``user_features.csv``,
    ``item_categories.csv`` and, from ``item_daily_features.csv``, the columns that are constant
    over days (the first row of each video). Daily counts of plays and likes are not read, because
    they would leak the targets of prediction. Feedback is the label of FS-LTR: 1 if the video was
    played to the end (at most 7 seconds long) or for more than 7 seconds (longer videos). The
    catalogue of the log holds all videos.

    Args:
        from_: folder of these files, or its parent folder.
        to: folder of the request log to write.
        matrix: matrix to read, ``"big"`` or ``"small"``.
        request: exposures that form one request: those of a user on one ``"day"``, where rows
            without a time are dropped, or all of a ``"user"``. Default: ``"day"`` for the big
            matrix, ``"user"`` for the small one.
        history_length: maximum number of entries of a history, 1 or more; the latest are kept.
        time_zone: time zone in which days begin.
        name: name of the data set; default the name of the folder ``to``.
        overwrite: replace an existing request log.
        progress: callback that receives the requests written so far and the total.

    Raises:
        ConfigError: if an option is unknown, of a wrong type or out of range.
        DataError: if a file or column is missing or damaged, or a video of the matrix is not in
            the tables of videos.

    Source: KuaiRec (Gao et al., CIKM 2022) for the data set; FS-LTR for the label.
    """
    if history_length < 1:
        raise ConfigError(f"history_length must be at least 1; got {history_length}")
    check_time_zone(time_zone)
    request_of: RequestOf = request or ("day" if matrix == "big" else "user")
    folder = the_folder(from_, f"{matrix}_matrix.csv")
    table = folder / f"{matrix}_matrix.csv"
    durations = ["play_duration", "video_duration"]
    columns = [USER, VIDEO, "timestamp", *durations]
    exposures = whole(read_columns([table], columns, numbers=columns), [USER, VIDEO], table)
    seconds = exposures["timestamp"].cast(pl.Float64)
    exposures = exposures.with_columns(
        utc_timestamps(seconds, "s", column="timestamp", remedy=FETCH).alias("time"),
        valid_play(*(pl.col(c) for c in durations)),
    ).select(
        USER,
        VIDEO,
        "time",
        pl.col("valid_play").cast(pl.Float32).alias("feedback"),
        pl.lit(value=True).alias("history_exposed"),
        pl.col("valid_play").alias("history_valid"),
    )
    videos, where = _videos(folder)
    check_known(exposures, videos, where)
    tables = ExposureTables(
        exposures=exposures,
        users=read_users(find_files(folder, ["user_features.csv"], "the table of users")),
        videos=videos,
        numbers=_NUMBERS,
        sequences=("history_exposed", "history_valid"),
    )
    with RequestLogWriter(
        to, name=name or Path(to).name, schema=schema_of(tables, request_of), overwrite=overwrite
    ) as writer:
        write_requests(
            writer,
            tables,
            request=request_of,
            time_zone=time_zone,
            history_length=history_length,
            progress=progress,
        )


def _videos(folder: Path) -> tuple[pl.DataFrame, Path]:
    """Return the features of videos that are constant over days, and the file they come from."""
    daily = find_files(folder, ["item_daily_features.csv"], "features of videos")
    numbers = [VIDEO, "date", *_NUMBERS]
    frame = read_columns(daily, [VIDEO, "date"], [*_CATEGORIES, *_NUMBERS], numbers=numbers)
    frame = categories(whole(frame, [VIDEO, "date"], daily[0]), _CATEGORIES)
    frame = frame.sort(VIDEO, "date", maintain_order=True)
    frame = frame.unique(VIDEO, keep="first", maintain_order=True).drop("date")
    tags = find_files(folder, ["item_categories.csv"], "categories of videos")
    feat = whole(read_columns(tags, [VIDEO, "feat"], numbers=[VIDEO]), [VIDEO], tags[0])
    feat = one_per(feat, VIDEO, tags[0])
    feat = feat.with_columns(first_two(feat["feat"], "category")).drop("feat")
    return frame.join(feat, on=VIDEO, how="left", maintain_order="left"), daily[0]
