"""Files of scores: Parquet, JSON lines and TREC run files, written block by block."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from cascaderank.errors import ConfigError, DataError

Format = Literal["parquet", "jsonl", "trec"]

SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".run": "trec",
    ".trec": "trec",
}
"""Formats by the suffix of the file."""

_ROWS = 262_144  # rows of a block


class ScoreWriter(Protocol):
    """Writes one row per candidate; the rows of a request are in one call."""

    written: int
    """Number of rows written."""
    repeated: int
    """Number of candidates left out, because the request has a better one with the same key."""

    def write(self, rows: pl.DataFrame, /) -> None:
        """Write rows with the columns ``request_id``, ``item_key`` and those of the scores."""

    def close(self) -> None:
        """Close the file."""


@contextmanager
def score_writer(
    path: str | os.PathLike[str], kind: Format, *, tag: str, final_score: str
) -> Iterator[ScoreWriter]:
    """Open a file of scores, and close it at exit.

    Args:
        path: file to write.
        kind: format of the file.
        tag: name of the system in a TREC run file.
        final_score: column of the scores of the last stage.
    """
    path = Path(path)
    writer: ScoreWriter
    if kind == "parquet":
        writer = _Parquet(path)
    elif kind == "jsonl":
        writer = _JsonLines(path)
    else:
        writer = _TrecRun(path, tag, final_score)
    try:
        yield writer
    finally:
        writer.close()


def format_of(path: str | os.PathLike[str], chosen: str | None = None) -> Format:
    """Return the format of a file of scores, by its suffix unless it is chosen.

    Raises:
        ConfigError: if the format does not exist, or the suffix is not that of a format.

    Examples:
        >>> format_of("scores.jsonl"), format_of("scores.txt", "trec")
        ('jsonl', 'trec')
    """
    formats = ", ".join(get_args(Format))
    if chosen is not None:
        for kind in get_args(Format):
            if kind == chosen:
                return kind  # type: ignore[no-any-return]
        raise ConfigError(f"--format must be one of {formats}; got '{chosen}'")
    found = SUFFIXES.get(Path(path).suffix.lower())
    if found is None:
        raise ConfigError(
            f"--to: the name of the file must end with {', '.join(SUFFIXES)}; got '{path}'; rename "
            f"it, or set --format to one of {formats}"
        )
    return found


def trec_lines(rows: pl.DataFrame, *, tag: str, score: str) -> pl.DataFrame:
    """Return the final lists of some requests as the columns of a TREC run file.

    Tools of TREC sort by score and not by rank, and break ties in an order of their own. Scores are
    therefore written strictly decreasing: one that is not below the score before it is replaced by
    the next smaller number of type float32.

    Args:
        rows: ``request_id``, ``item_key``, ``rank`` and the scores, one row per candidate.
        tag: name of the system.
        score: column of the scores of the last stage.

    Returns:
        ``qid``, ``q0``, ``docid``, ``rank``, ``score`` and ``tag``. Of candidates with the same key
        the first in the final list is kept.

    Raises:
        DataError: if an id is empty, or has a space.

    Examples:
        >>> rows = pl.DataFrame(
        ...     {"request_id": 7, "item_key": ["a", "b", "c"], "rank": [2, None, 1], "s": 0.5},
        ...     schema_overrides={"s": pl.Float32},
        ... )
        >>> lines = trec_lines(rows, tag="x", score="s")
        >>> print(lines.write_csv(include_header=False, separator=" "), end="")
        7 Q0 c 1 0.5 x
        7 Q0 a 2 0.49999997 x
    """
    best = (
        rows.lazy()
        .with_columns(request=pl.col("request_id").rle_id())
        .filter(pl.col("rank").is_not_null())
        .sort("request", "rank")
        .unique(["request", "item_key"], keep="first", maintain_order=True)
        .select(
            "request",
            qid=pl.col("request_id").cast(pl.String),
            docid=pl.col("item_key").cast(pl.String),
            rank=pl.int_range(1, pl.len() + 1).over("request"),
            place=pl.col(score).map_batches(_places, return_dtype=pl.Int64),
        )
        .collect()
    )
    for name, what in (("qid", "request id"), ("docid", "item key")):
        wrong = best.filter(~best[name].str.contains(r"^\S+$").fill_null(value=False))
        if wrong.height:
            raise DataError(
                f"a TREC run file separates its columns by spaces: expected a {what} without "
                f"spaces, found {wrong[name][0]!r} in request {wrong['qid'][0]!r}; write Parquet "
                "or JSON lines instead"
            )
    # Strictly decreasing, and unchanged where it is so already: place + rank never increases.
    least = (pl.col("place") + pl.col("rank")).clip(lower_bound=best.height - _MOST).cum_min()
    return best.select(
        "qid",
        pl.lit("Q0").alias("q0"),
        "docid",
        "rank",
        (least.over("request") - pl.col("rank"))
        .map_batches(_floats, return_dtype=pl.Float32)
        .alias("score"),
        pl.lit(tag).alias("tag"),
    )


_MOST = 0x7F7FFFFF  # place of the largest finite number


def _places(scores: pl.Series) -> pl.Series:
    """Return integers in the order of float32 numbers: adjacent numbers differ by one."""
    bits = scores.to_numpy().astype(np.float32).view(np.int32).astype(np.int64)
    magnitude = bits & 0x7FFFFFFF
    return pl.Series(np.where(bits < 0, -magnitude, magnitude).clip(-_MOST, _MOST))


def _floats(places: pl.Series) -> pl.Series:
    """Return the numbers of some places; the inverse of :func:`_places`."""
    values = places.to_numpy()
    magnitude = np.abs(values).astype(np.int32).view(np.float32)
    return pl.Series(np.where(values < 0, -magnitude, magnitude))


class _Parquet:
    def __init__(self, path: Path) -> None:
        self.written, self.repeated = 0, 0
        self._path, self._blocks = path, list[pl.DataFrame]()
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pl.DataFrame) -> None:
        self.written += rows.height
        self._blocks.append(rows)
        if sum(block.height for block in self._blocks) >= _ROWS:
            self._flush()

    def close(self) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def _flush(self) -> None:
        if not self._blocks:
            return
        table = pl.concat(self._blocks).to_arrow(compat_level=pl.CompatLevel.oldest())
        self._blocks.clear()
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table)


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self.written, self.repeated = 0, 0
        self._file = path.open("wb")

    def write(self, rows: pl.DataFrame) -> None:
        self.written += rows.height
        rows.write_ndjson(self._file)

    def close(self) -> None:
        self._file.close()


class _TrecRun:
    def __init__(self, path: Path, tag: str, score: str) -> None:
        self.written, self.repeated = 0, 0
        self._tag, self._score = "_".join(tag.split()) or "cascaderank", score
        self._file = path.open("wb")

    def write(self, rows: pl.DataFrame) -> None:
        lines = trec_lines(rows, tag=self._tag, score=self._score)
        self.written += lines.height
        self.repeated += rows["rank"].count() - lines.height
        lines.write_csv(self._file, include_header=False, separator=" ", quote_style="never")

    def close(self) -> None:
        self._file.close()
