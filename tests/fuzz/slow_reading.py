"""Independent reading of sources: plain Python, line by line, to compare data sets with."""

import csv
import gzip
import io
import math
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.feather
import pyarrow.parquet

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.log.validation import CANDIDATE_COLUMNS, ITEM_KEY, FrameCheck
from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT
from cascaderank.schema import Role


def candidates_of(path: Path) -> list[dict[str, object]]:
    """Return the candidates of a data set, with the columns of their requests.

    All requests pass the checks that a writer makes, once more.
    """
    log = RequestLog.open(path)
    check = FrameCheck(log.schema, log.manifest.level_names)
    frame = pl.concat([check(frame) for frame in log.frames()])
    assert frame.height == log.manifest.requests
    names = [
        *(f.name for f in log.schema.of(Role.ITEM)),
        *CANDIDATE_COLUMNS,
        CANDIDATE_WEIGHT,
        ITEM_KEY,
    ]
    candidates = frame.explode([name for name in names if name in frame.columns])
    assert candidates.height == log.manifest.candidates
    return candidates.rows(named=True)


def files_of(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """Return the files that match, and those in folders that match, without hidden ones."""
    paths = [p for pattern in patterns for p in sorted(folder.glob(pattern))]
    files = [p for path in paths for p in (path, *path.glob("*")) if p.is_file()]
    return [p for p in files if not p.name.startswith(".")]


def text_of(path: Path, errors: str = "strict") -> str:
    content = path.read_bytes()
    if content.startswith(b"\x1f\x8b"):
        content = gzip.decompress(content)
    return content.decode("utf-8-sig", errors)


def csv_rows(path: Path) -> list[dict[str, object]]:
    """Return the rows of a CSV file as :mod:`csv` reads them."""
    separator = "\t" if ".tsv" in path.name else ","
    rows = csv.reader(io.StringIO(text_of(path), newline=""), delimiter=separator, strict=True)
    header, *rest = [row for row in rows if row]
    assert len(set(header)) == len(header), f"accepted with the columns {header}"
    assert {len(row) for row in rest} <= {len(header)}, "accepted with rows of different length"
    return [dict(zip(header, row, strict=True)) for row in rest]


def table_rows(path: Path) -> list[dict[str, object]]:
    """Return the rows of a Parquet or Feather file as Arrow reads them."""
    read = pyarrow.feather.read_table if path.suffix == ".feather" else pyarrow.parquet.read_table
    return read(io.BytesIO(path.read_bytes())).to_pylist()


def rows_of_all(folder: Path, patterns: Iterable[str]) -> list[dict[str, object]]:
    """Return the rows of all files that match."""
    is_table = (".parquet", ".feather")
    read = {
        path: table_rows if path.suffix in is_table else csv_rows
        for path in files_of(folder, patterns)
    }
    return [row for path, rows in read.items() for row in rows(path)]


def letor_rows(folder: Path, pattern: str) -> list[dict[str, object]]:
    """Return the candidates of LETOR files; the features are those of all lines."""
    found = []
    for line in _lines(folder, pattern):
        label, *fields = line.split("#")[0].split() or [""]
        if label:
            values = dict(field.split(":") for field in fields)
            row = {"request_id": values.pop("qid"), "label": label}
            found.append(row | {f"f{int(i)}": value for i, value in values.items()})
    names = {name for row in found for name in row}
    return [dict.fromkeys(names, "0") | row for row in found]


def trec_rows(folder: Path, pattern: str) -> list[dict[str, object]]:
    """Return the documents of all runs, with their grades, of queries with a judgment."""
    lines = [line.split() for line in _lines(folder, pattern)]
    grades = {(line[0], line[2]): line[3] for line in lines if len(line) == 4}
    judged = {query for query, _ in grades}
    found = {(line[0], line[2]) for line in lines if len(line) == 6 and line[0] in judged}
    return [
        {"request_id": query, "item_key": document, "label": grades.get((query, document), "0")}
        for query, document in found
    ]


def _lines(folder: Path, pattern: str) -> list[str]:
    return [
        line
        for path in files_of(folder, [pattern])
        for line in text_of(path, "replace").split("\n")
    ]


def same_rows(found: list[dict[str, object]], expected: list[dict[str, object]]) -> None:
    """Assert that candidates are those of a slow reading, in the columns that both have."""
    names = sorted({*found[0]} & {*expected[0]})
    assert names, f"no column in common: {[*found[0]]}, {[*expected[0]]}"
    types = {name: {type(row[name]) for row in found} - {type(None)} for name in names}
    own, other = (
        Counter(tuple(_canonical(row[name], types[name]) for name in names) for row in rows)
        for rows in (found, expected)
    )
    assert own == other, f"{names}: {[*(own - other)][:3]} and not {[*(other - own)][:3]}"


def _canonical(value: object, types: set[type]) -> object:
    """Return a value in the form that equal values have: numbers as float32, times in seconds."""
    if value is None or value == "":
        return None
    if types == {float}:
        number = np.float32(float(value))
        return None if math.isnan(number) else float(number)
    if types == {datetime}:
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    return str(value)
