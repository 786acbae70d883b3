"""Which candidates of a RecFlow day are taken, and their levels and positions.

A day is tens of millions of rows. It is read twice, a batch at a time: first what decides which
rows are taken, then the other columns of those that are.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.hashing import hashed, mix, seeded
from cascaderank.data.sources._recflow.day_files import Day, batches, whole_numbers
from cascaderank.errors import DataError

LEVELS: dict[int, tuple[str, ...]] = {
    2: ("prerank_neg", "coarse_neg", "rank_neg", "rank_pos"),
    3: ("prerank_neg", "coarse_neg", "rank_neg", "rerank_neg", "rerank_pos"),
}
"""Levels by number of stages, lowest first; each is a column of flags."""

_INDEX = {
    "rank_neg": "rank_index",
    "rank_pos": "rank_index",
    "rerank_neg": "rerank_index",
    "rerank_pos": "rerank_index",
}
"""By level: the column that tells the rank of its candidates."""

_ROWS_AT_ONCE = 4_000_000


def key_columns(stages: int) -> list[str]:
    """Return the columns that decide which rows are taken."""
    indices = sorted({_INDEX[level] for level in LEVELS[stages] if level in _INDEX})
    return ["request_id", "video_id", *LEVELS[stages], *indices]


def choose_candidates(
    day: Day, *, stages: int, per_level: int | None, seed: int
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Decide which rows of a day are taken.

    A row belongs to the highest level whose flag is set. Of rows of one video in one request, the
    one of the highest level stays, and of those the one of the best index, and of those the first.
    Positions are ranks among all candidates of the level, before some are drawn; equal indices
    share one, and a negative or missing index is an unknown position.

    Args:
        day: its files.
        stages: of the view, one of :data:`LEVELS`.
        per_level: candidates of each level and request to draw; ``None`` for all.
        seed: of the draw, which goes by seed, request and video alone, not by the order of rows.

    Returns:
        ``row`` (in the file), ``request_id``, ``video``, ``level``, ``position`` and ``key`` (what
        the draw went by), in the order of the file; and counts of what was there and left out.

    Raises:
        DataError: if the file is damaged, or holds something else than ids, flags and ranks.
    """
    frames: list[pl.DataFrame] = []
    rows, several = 0, 0
    for batch in batches(day.candidates, key_columns(stages)):
        keys = _checked(day, batch, stages)
        several += int((keys.select(pl.sum_horizontal(LEVELS[stages])).to_series() > 1).sum())
        frames.append(_levels(keys, stages, rows))
        rows += batch.height
    taken = pl.concat(frames, rechunk=False) if frames else pl.DataFrame({"row": []})
    del frames
    if not taken.height:
        raise DataError(
            f"{day.candidates}: expected candidates of {', '.join(LEVELS[stages])}, found none in "
            f"{rows:,} rows; fetch the file again"
        )
    counts = {
        "rows": rows,
        "candidates_of_no_level": rows - taken.height,
        "candidates_of_several_levels": several,
    }
    drawn, twice = [], 0
    shares = -(-taken.height // _ROWS_AT_ONCE)
    for share in range(shares):  # sorting takes several times the memory of what is sorted
        mine = taken.filter(pl.col("request_id") % shares == share)
        request, video = hashed(mine["request_id"]), hashed(mine["video"])
        mine = mine.with_columns(key=mix(video ^ mix(request ^ seeded(seed))))
        once = _once(mine)
        twice += mine.height - once.height
        drawn.append(_drawn(_ranked(once), per_level))
    counts["candidates_twice"] = twice
    return pl.concat(drawn).sort("row"), counts


def places(starts: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the place of each row in its group, from 0; groups start where it says so.

    Examples:
        >>> places(np.array([True, False, True, False, False])).tolist()
        [0, 1, 0, 1, 2]
    """
    rows = np.arange(len(starts))
    return rows - np.maximum.accumulate(np.where(starts, rows, 0))


def starts_of(frame: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
    """Return where a sorted frame has other values in some columns than in the row before."""
    starts = np.zeros(frame.height, dtype=np.bool_)
    starts[:1] = True
    for column in columns:
        values = frame[column].to_numpy()
        starts[1:] |= values[1:] != values[:-1]
    return starts


def _checked(day: Day, batch: pl.DataFrame, stages: int) -> pl.DataFrame:
    """Whole numbers everywhere, ids that are there, and flags of 0 and 1; no flag is 0."""
    keys = whole_numbers(day.candidates, batch, batch.columns)
    for column in ("request_id", "video_id"):
        if keys[column].null_count():
            raise DataError(
                f"{day.candidates}: column '{column}' is empty in {keys[column].null_count():,} "
                "rows; fetch the file again"
            )
    keys = keys.with_columns(pl.col(LEVELS[stages]).fill_null(0))
    for column in LEVELS[stages]:
        other = keys[column].filter(~keys[column].is_in([0, 1]))
        if len(other):
            raise DataError(
                f"{day.candidates}: column '{column}': expected flags 0 and 1, found {other[0]} "
                f"and {len(other) - 1:,} more that are neither; fetch the file again"
            )
    return keys


def _levels(keys: pl.DataFrame, stages: int, first: int) -> pl.DataFrame:
    """Rows that have a level, narrow: a day of them is held."""
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


def _once(taken: pl.DataFrame) -> pl.DataFrame:
    """One row per request and video."""
    suspects = taken["key"].is_duplicated()  # few, so that the rest is not sorted for nothing
    if not suspects.any():
        return taken
    best = (
        taken.filter(suspects)
        .sort("level", "index", "row", descending=[True, False, False], nulls_last=True)
        .unique(["request_id", "video"], keep="first", maintain_order=True)
    )
    return pl.concat([taken.filter(~suspects), best])


def _ranked(taken: pl.DataFrame) -> pl.DataFrame:
    """Add positions: how many of the level have a better index, and one; 0 if unknown."""
    known = taken.filter(pl.col("index").is_not_null()).sort("request_id", "level", "index")
    groups = starts_of(known, ["request_id", "level"])
    place = places(groups)
    of_run = places(groups | starts_of(known, ["index"]))
    known = known.with_columns(position=pl.Series(place - of_run + 1))
    unknown = taken.filter(pl.col("index").is_null()).with_columns(
        position=pl.lit(0, dtype=pl.Int64)
    )
    return pl.concat([known, unknown]).drop("index")


def _drawn(taken: pl.DataFrame, per_level: int | None) -> pl.DataFrame:
    if per_level is None:
        return taken
    # Equal keys of different videos are all but impossible; the video decides them nevertheless.
    by_chance = taken.sort("request_id", "level", "key", "video")
    place = places(starts_of(by_chance, ["request_id", "level"]))
    return by_chance.filter(pl.Series(place < per_level))
