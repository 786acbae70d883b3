"""Levels and positions of the candidates of a RecFlow day, and sampling within levels.

A day has tens of millions of rows. It is read twice, one batch at a time: first the columns that
decide which rows are sampled, then the other columns of the sampled rows.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.encoding.hashing import hashed, mix, seeded
from cascaderank.data.sources._recflow.damage import DamagedRequests
from cascaderank.data.sources._recflow.day_files import Day, batches, whole_numbers
from cascaderank.errors import DataError

LEVELS: dict[int, tuple[str, ...]] = {
    2: ("prerank_neg", "coarse_neg", "rank_neg", "rank_pos"),
    3: ("prerank_neg", "coarse_neg", "rank_neg", "rerank_neg", "rerank_pos"),
}
"""Levels by number of stages, lowest first; each is the name of a column of flags."""

_INDEX = {
    "rank_neg": "rank_index",
    "rank_pos": "rank_index",
    "rerank_neg": "rerank_index",
    "rerank_pos": "rerank_index",
}
"""Column with the rank of the candidates, by level."""

_ROWS_AT_ONCE = 4_000_000


def key_columns(stages: int) -> list[str]:
    """Return the columns that decide which rows are sampled."""
    indices = sorted({_INDEX[level] for level in LEVELS[stages] if level in _INDEX})
    return ["request_id", "video_id", *LEVELS[stages], *indices]


def choose_candidates(
    day: Day, *, stages: int, per_level: int | None, seed: int, damaged: DamagedRequests
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Sample candidates of each level and request of a day.

    A row belongs to the highest level whose flag is set. Of several rows with the same video and
    request, the one of the highest level is kept; ties are broken by the smallest index, then by
    the order of rows. Positions are ranks among all candidates of the level, before sampling. Equal
    indices share a position, and the position of a negative or missing index is unknown.

    Args:
        day: files of the day.
        stages: number of stages of the view, a key of :data:`LEVELS`.
        per_level: number of candidates to sample per level and request; ``None`` for all.
        seed: seed of the sampling, which depends on seed, request and video alone, not on the
            order of rows.
        damaged: receives the requests with a missing video or an invalid flag, which are left out.

    Returns:
        Columns ``row`` (in the file), ``request_id``, ``video``, ``level``, ``position`` and
        ``key`` (hash that the sampling sorts by), in the order of the file; and counts of rows,
        and of rows that were dropped.

    Raises:
        DataError: if the file is damaged, its ids or ranks are invalid, or all requests are
            damaged.
    """
    frames: list[pl.DataFrame] = []
    rows, several = 0, 0
    for batch in batches(day.candidates, key_columns(stages)):
        keys = _checked_keys(day, batch, stages, damaged)
        several += int((keys.select(pl.sum_horizontal(LEVELS[stages])).to_series() > 1).sum())
        frames.append(_with_levels(keys, stages, rows))
        rows += batch.height
    levelled = pl.concat(frames, rechunk=False) if frames else pl.DataFrame({"row": []})
    del frames
    if damaged.reasons:
        levelled = damaged.without(levelled)
    if not levelled.height:
        raise DataError(
            f"{day.candidates}: expected candidates of {', '.join(LEVELS[stages])}, found none in "
            f"{rows:,} rows; fetch the file again"
        )
    counts = {
        "rows": rows,
        "candidates_of_no_level": rows - levelled.height,
        "candidates_of_several_levels": several,
    }
    samples, duplicates = [], 0
    shares = -(-levelled.height // _ROWS_AT_ONCE)
    for share in range(shares):  # sorting needs several times the memory of the sorted rows
        own = levelled.filter(pl.col("request_id") % shares == share)
        request, video = hashed(own["request_id"]), hashed(own["video"])
        own = own.with_columns(key=mix(video ^ mix(request ^ seeded(seed))))
        distinct = _distinct(own)
        duplicates += own.height - distinct.height
        samples.append(_sampled(_with_positions(distinct), per_level))
    counts["candidates_twice"] = duplicates
    return pl.concat(samples).sort("row"), counts


def with_full_lists(taken: pl.DataFrame, *, length: int) -> tuple[pl.DataFrame, int]:
    """Leave out requests with fewer candidates than ``length``.

    Args:
        taken: rows with a column ``request_id``, as returned by :func:`choose_candidates`.
        length: number of candidates of a request with the full number in every level.

    Returns:
        The rows of full requests, and the number of requests that were left out.

    Examples:
        >>> taken = pl.DataFrame({"request_id": [7, 7, 8]})
        >>> full, left_out = with_full_lists(taken, length=2)
        >>> full["request_id"].to_list(), left_out
        ([7, 7], 1)
    """
    full = taken.filter(pl.len().over("request_id") == length)
    return full, taken["request_id"].n_unique() - full["request_id"].n_unique()


def places(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the index of each row in its group, from 0.

    Args:
        starts: ``[rows]`` bool, ``True`` for the first row of a group.

    Examples:
        >>> places(np.array([True, False, True, False, False])).tolist()
        [0, 1, 0, 1, 2]
    """
    rows = np.arange(len(starts))
    return rows - np.maximum.accumulate(np.where(starts, rows, 0))


def starts_of(frame: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Return, for a sorted frame, whether each row differs from the previous one in ``columns``."""
    starts = np.zeros(frame.height, dtype=np.bool_)
    starts[:1] = True
    for column in columns:
        values = frame[column].to_numpy()
        starts[1:] |= values[1:] != values[:-1]
    return starts


def _checked_keys(
    day: Day, batch: pl.DataFrame, stages: int, damaged: DamagedRequests
) -> pl.DataFrame:
    """Check that keys are integers, ids are not missing and flags are 0 or 1; null flags are 0."""
    keys = whole_numbers(day.candidates, batch, batch.columns)
    if empty_ids := keys["request_id"].null_count():
        raise DataError(
            f"{day.candidates}: column 'request_id' is empty in {empty_ids:,} rows; fetch the file "
            "again"
        )
    if keys["video_id"].null_count():
        without_video = keys.filter(pl.col("video_id").is_null())["request_id"].unique(
            maintain_order=True
        )
        damaged.add(without_video, f"{day.candidates}: column 'video_id' is empty")
    empty = [column for column in LEVELS[stages] if batch.schema[column] == pl.Null]
    if empty:
        raise DataError(
            f"{day.candidates}: column '{empty[0]}': expected flags 0 and 1, found no values; "
            "fetch the file again"
        )
    keys = keys.with_columns(pl.col(LEVELS[stages]).fill_null(0))
    for column in LEVELS[stages]:
        invalid = keys.filter(~pl.col(column).is_in([0, 1]))
        if invalid.height:
            damaged.add(
                invalid["request_id"].unique(maintain_order=True),
                f"{day.candidates}: column '{column}': expected flags 0 and 1, found "
                f"{invalid[column][0]}",
            )
    return keys


def _with_levels(keys: pl.DataFrame, stages: int, first: int) -> pl.DataFrame:
    """Return the rows that have a level, in small types: those of a day are held in memory."""
    names = LEVELS[stages]
    unknown = pl.lit(None, dtype=pl.Int64)
    level = pl.coalesce(
        pl.when(pl.col(name) == 1).then(pl.lit(i, dtype=pl.Int8))
        for i, name in reversed([*enumerate(names)])
    )
    index = pl.coalesce(
        pl.when(pl.col("level") == i).then(pl.col(_INDEX[name]) if name in _INDEX else unknown)
        for i, name in enumerate(names)
    )
    return (
        keys.with_columns(
            level=level, row=pl.int_range(first, first + keys.height, dtype=pl.UInt32)
        )
        .filter(pl.col("level").is_not_null())
        .with_columns(index=index)
        .select(
            "row",
            "request_id",
            "level",
            pl.when(pl.col("index") >= 0).then("index").alias("index"),
            video="video_id",
        )
    )


def _distinct(rows: pl.DataFrame) -> pl.DataFrame:
    """Keep the best row of each request and video."""
    repeated = rows["key"].is_duplicated()  # few rows, so the others need not be sorted
    if not repeated.any():
        return rows
    best = (
        rows.filter(repeated)
        .sort("level", "index", "row", descending=[True, False, False], nulls_last=True)
        .unique(["request_id", "video"], keep="first", maintain_order=True)
    )
    return pl.concat([rows.filter(~repeated), best])


def _with_positions(rows: pl.DataFrame) -> pl.DataFrame:
    """Add positions: 1 plus the number of candidates of the level with a smaller index; else 0."""
    known = rows.filter(pl.col("index").is_not_null()).sort("request_id", "level", "index")
    groups = starts_of(known, ["request_id", "level"])
    place = places(groups)
    place_among_equal = places(groups | starts_of(known, ["index"]))
    known = known.with_columns(position=pl.Series(place - place_among_equal + 1))
    unknown = rows.filter(pl.col("index").is_null()).with_columns(
        position=pl.lit(0, dtype=pl.Int64)
    )
    return pl.concat([known, unknown]).drop("index")


def _sampled(rows: pl.DataFrame, per_level: int | None) -> pl.DataFrame:
    if per_level is None:
        return rows
    # Different videos almost never have equal keys; if they do, the video breaks the tie.
    shuffled = rows.sort("request_id", "level", "key", "video")
    place = places(starts_of(shuffled, ["request_id", "level"]))
    return shuffled.filter(pl.Series(place < per_level))
