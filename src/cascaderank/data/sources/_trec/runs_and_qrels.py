"""Lines of TREC runs and judgments, as tables."""

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
    """Read runs and judgments, told apart by their columns.

    Args:
        files: plain or gzipped; a run belongs to the system that the name of its file says, up
            to the first dot.
        progress: called with bytes read and bytes in all.

    Returns:
        The runs by system, each with columns ``query``, ``document``, ``rank`` (int64) and
        ``score`` (float64), and the judgments with ``query``, ``document`` and ``grade``
        (float64). A document is there once per query. All numbers are finite in float32.

    Raises:
        DataError: if a file is damaged or of another layout, a query of a system or of the
            judgments is in two files, or there are no runs or no judgments.
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
        if again := [q for q in queries if q in origin]:
            raise DataError(
                f"{path}: {len(again):,} queries, such as {again[0]}, are in "
                f"{origin[again[0]]} too; give a query once per system, and once in the qrels"
            )
        origin |= dict.fromkeys(queries, path)
    for found, what, columns in ((runs, "run", 6), (judgments, "qrels file", 4)):
        if not found:
            raise DataError(
                f"expected at least one {what}, lines of {_LAYOUTS[columns]}, found none among "
                f"{abridged([p.name for p in files])}; name one with --from"
            )
    return {s: pl.concat(tables) for s, tables in runs.items()}, pl.concat(judgments)


def _table(path: Path, advance: Callable[[int], None]) -> pl.DataFrame:
    width = 0
    numbers: list[int] = []
    rows: list[tuple[str, str, int, float] | tuple[str, str, float]] = []
    for number, line in enumerate(read_lines(path, advance), 1):
        try:
            fields = line.decode().split()
        except UnicodeDecodeError:
            raise DataError(f"{path}, line {number}: expected UTF-8 text; recode it") from None
        if not fields:
            continue
        width = width or len(fields)
        if len(fields) != width or width not in _LAYOUTS:
            known = _LAYOUTS.get(width) or f"{_LAYOUTS[6]} (a run) or {_LAYOUTS[4]} (qrels)"
            raise DataError(
                f"{path}, line {number}: expected {known}, found {len(fields)} columns: "
                f"{shown(line)}"
            )
        try:
            if width == 6:
                rows.append((fields[0], fields[2], int(fields[3]), _finite(fields[4])))
            else:
                rows.append((fields[0], fields[2], _finite(fields[3])))
        except ValueError:
            wanted = "an integer rank and a finite score" if width == 6 else "a finite grade"
            raise DataError(
                f"{path}, line {number}: expected {wanted}, found "
                f"{' and '.join(map(repr, fields[3:5]))}"
            ) from None
        numbers.append(number)
    if not rows:
        raise DataError(f"{path}: expected lines of a run or of qrels, found none")
    types: list[type[pl.DataType]] = [pl.String, pl.String, pl.Int64, pl.Float64]
    schema = (
        dict(zip(RUN, types, strict=True))
        if width == 6
        else dict(zip(QRELS, types[:2] + types[3:], strict=True))
    )
    table = pl.DataFrame(rows, schema=schema, orient="row")
    again = ~table.select(pl.struct("query", "document").is_first_distinct()).to_series()
    if again.any():
        row = int(again.arg_true()[0])
        raise DataError(
            f"{path}, line {numbers[row]}: document {table['document'][row]} is there twice for "
            f"query {table['query'][row]} ({again.sum():,} such lines in all); keep one line each"
        )
    return table


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or abs(value) > _LARGEST:
        raise ValueError(text)
    return value
