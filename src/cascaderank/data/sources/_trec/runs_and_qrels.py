"""Parser of TREC runs and relevance judgments (qrels)."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from cascaderank.data.sources import Progress
from cascaderank.data.sources._shared.input_files import byte_counter, read_lines, shown
from cascaderank.errors import DataError
from cascaderank.schema import abridged

RUN = ("query", "document", "rank", "score")
QRELS = ("query", "document", "grade")

_LAYOUTS = {6: "'query Q0 document rank score tag'", 4: "'query 0 document grade'"}
_LARGEST = float(np.finfo(np.float32).max)


def read_trec(
    files: Sequence[Path], progress: Progress | None = None
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """Read runs and judgments, distinguished by their numbers of columns.

    Args:
        files: plain or gzipped files. The name of a run file up to the first dot is the name of
            its system.
        progress: callback that receives the bytes read so far and the total.

    Returns:
        The runs by system, each with columns ``query``, ``document``, ``rank`` (int64) and
        ``score`` (float64), and the judgments with ``query``, ``document`` and ``grade``
        (float64). Documents are unique per query. All numbers are finite in float32.

    Raises:
        DataError: if a file is damaged or of another layout, a query of a system or of the
            judgments is in two files, or no file is a run or none holds judgments.
    """
    advance = byte_counter(files, progress)
    runs: dict[str, list[pl.DataFrame]] = {}
    judgments: list[pl.DataFrame] = []
    origins: dict[str, dict[str, Path]] = {}
    for path in files:
        table = _table(path, advance)
        if is_run := "rank" in table.columns:
            system = path.name.partition(".")[0]
            runs.setdefault(system, []).append(table)
        else:
            judgments.append(table)
        origin = origins.setdefault(f"run of {system}" if is_run else "qrels", {})
        queries = table["query"].unique(maintain_order=True).to_list()
        if repeated := [q for q in queries if q in origin]:
            raise DataError(
                f"{path}: {len(repeated):,} queries, such as {repeated[0]}, are in "
                f"{origin[repeated[0]]} too; give a query once per system, and once in the qrels"
            )
        origin |= dict.fromkeys(queries, path)
    for tables, what, columns in ((runs, "run", 6), (judgments, "qrels file", 4)):
        if not tables:
            raise DataError(
                f"expected at least one {what}, with lines {_LAYOUTS[columns]}, found none among "
                f"{abridged([str(p) for p in files])}; give one with --from"
            )
    return {system: pl.concat(run) for system, run in runs.items()}, pl.concat(judgments)


def _table(path: Path, advance: Callable[[int], None]) -> pl.DataFrame:
    width = 0
    numbers: list[int] = []
    rows: list[tuple[str, str, int, float] | tuple[str, str, float]] = []
    for number, line in enumerate(read_lines(path, advance), 1):
        try:
            fields = line.decode().split()
        except UnicodeDecodeError:
            raise DataError(
                f"{path}, line {number}: expected UTF-8 text; convert it to UTF-8"
            ) from None
        if not fields:
            continue
        width = width or len(fields)
        if len(fields) != width or width not in _LAYOUTS:
            expected = _LAYOUTS.get(width) or f"{_LAYOUTS[6]} (a run) or {_LAYOUTS[4]} (qrels)"
            raise DataError(
                f"{path}, line {number}: expected {expected}, found {len(fields)} columns: "
                f"{shown(line)}"
            )
        try:
            if width == 6:
                rows.append((fields[0], fields[2], int(fields[3]), _finite(fields[4])))
            else:
                rows.append((fields[0], fields[2], _finite(fields[3])))
        except ValueError:
            expected = "an integer rank and a finite score" if width == 6 else "a finite grade"
            raise DataError(
                f"{path}, line {number}: expected {expected}, found "
                f"{' and '.join(map(repr, fields[3:5]))}"
            ) from None
        numbers.append(number)
    if not rows:
        raise DataError(f"{path}: expected lines of a run or of qrels, found none; fetch it again")
    types: list[type[pl.DataType]] = [pl.String, pl.String, pl.Int64, pl.Float64]
    schema = (
        dict(zip(RUN, types, strict=True))
        if width == 6
        else dict(zip(QRELS, types[:2] + types[3:], strict=True))
    )
    table = pl.DataFrame(rows, schema=schema, orient="row")
    duplicate = ~table.select(pl.struct("query", "document").is_first_distinct()).to_series()
    if duplicate.any():
        row = int(duplicate.arg_true()[0])
        raise DataError(
            f"{path}, line {numbers[row]}: document {table['document'][row]} occurs twice for "
            f"query {table['query'][row]} ({duplicate.sum():,} such lines in total); keep one line "
            "each"
        )
    return table


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > _LARGEST:
        raise ValueError(text)
    return value
