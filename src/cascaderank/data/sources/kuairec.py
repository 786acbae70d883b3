"""KuaiRec in its official layout: short videos that (nearly) every user was shown."""

from pathlib import Path
from typing import Literal

import polars as pl

from cascaderank.data.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Inputs, Progress
from cascaderank.data.sources._shared.timestamps import utc_timestamps
from cascaderank.data.sources._short_video.exposure_requests import (
    RequestOf,
    Watching,
    schema_of,
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
from cascaderank.errors import ConfigError

_CATEGORIES = ("author_id", "video_type", "upload_dt", "upload_type", "music_id", "video_tag_id")
_NUMBERS = ("video_duration", "video_width", "video_height")


@SOURCES.register
def kuairec_source(
    from_: Inputs,
    to: Path,
    *,
    matrix: Literal["big", "small"] = "big",
    request: RequestOf | Literal[""] = "",
    history_length: int = 50,
    time_zone: str = "Asia/Shanghai",
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Make a request log from the files of KuaiRec; the data set is not part of this library.

    Of the big matrix a request is one user on one day, at the time of the first video of that day,
    with all videos of the day as candidates, and a history of what lies strictly before that time:
    videos exposed, and those of valid plays. Of the small matrix, which knows what 1,411 users do
    with (nearly) all of 3,327 videos, a request is one user with all of them, without time and
    history: it is the truth of a simulation, not a log.

    Read are ``big_matrix.csv`` or ``small_matrix.csv``, ``user_features.csv``,
    ``item_categories.csv`` and, of ``item_daily_features.csv``, what does not change from day to
    day (the first row of each video). Counts of plays and likes of a day are left out, since they
    tell what is to be predicted. Feedback is that of FS-LTR: 1 if the video was played to its end
    (of at most 7 seconds) or for more than 7 seconds (of longer ones). The catalogue of the log
    holds all videos.

    Args:
        from_: the folder that holds these files, or the one above it.
        to: folder of the request log to write.
        matrix: which one.
        request: ``"day"`` or ``"user"``; not given, as above. Rows without a time are left out of
            days.
        history_length: entries of a history, the latest, at most.
        time_zone: in which a day begins.
        name: of the data set; not given, that of the folder ``to``.
        overwrite: replace a request log that is there.
        progress: called with requests written and requests in all.

    Raises:
        ConfigError: if an option is out of range.
        DataError: if a file or column is missing or damaged, or the tables of videos lack one of
            the matrix.

    Source: KuaiRec (Gao et al., CIKM 2022) for the data set; FS-LTR for the label.
    """
    if history_length < 1:
        raise ConfigError(f"history_length must be at least 1; got {history_length}")
    of: RequestOf = request or ("day" if matrix == "big" else "user")
    folder = the_folder(from_, f"{matrix}_matrix.csv")
    table = folder / f"{matrix}_matrix.csv"
    durations = ["play_duration", "video_duration"]
    exposures = whole(
        read_columns([table], [USER, VIDEO, "timestamp", *durations]), [USER, VIDEO], table
    )
    exposures = exposures.with_columns(
        utc_timestamps(exposures["timestamp"].cast(pl.Float64), "s", column="timestamp").alias(
            "time"
        ),
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
    watching = Watching(
        exposures=exposures,
        users=read_users(find_files(folder, ["user_features.csv"], "the table of users")),
        videos=videos,
        numbers=_NUMBERS,
        sequences=("history_exposed", "history_valid"),
    )
    with RequestLogWriter(
        to, name=name or to.name, schema=schema_of(watching, of), overwrite=overwrite
    ) as writer:
        write_requests(
            writer,
            watching,
            request=of,
            time_zone=time_zone,
            history_length=history_length,
            progress=progress,
        )


def _videos(folder: Path) -> tuple[pl.DataFrame, Path]:
    """Features of videos that do not change with the day, and where they come from."""
    daily = find_files(folder, ["item_daily_features.csv"], "features of videos")
    frame = read_columns(daily, [VIDEO, "date"], [*_CATEGORIES, *_NUMBERS])
    frame = categories(whole(frame, [VIDEO, "date"], daily[0]), _CATEGORIES)
    frame = frame.sort(VIDEO, "date", maintain_order=True)
    frame = frame.unique(VIDEO, keep="first", maintain_order=True).drop("date")
    tags = find_files(folder, ["item_categories.csv"], "categories of videos")
    feat = one_per(whole(read_columns(tags, [VIDEO, "feat"]), [VIDEO], tags[0]), VIDEO, tags[0])
    feat = feat.with_columns(first_two(feat["feat"], "category")).drop("feat")
    return frame.join(feat, on=VIDEO, how="left", maintain_order="left"), daily[0]
