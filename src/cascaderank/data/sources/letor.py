"""LETOR and svmlight files: ``label qid:ID index:value ... # comment``, one line per candidate.

The layout of LETOR 4.0 (MQ2007, MQ2008), MSLR-WEB10K and 30K, Istella and the ClueWeb09 set.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.request_log import RequestLogWriter
from cascaderank.data.sources import SOURCES, Progress
from cascaderank.data.sources._files import byte_counter, input_files, read_lines, shown
from cascaderank.errors import DataError
from cascaderank.schema import Feature, Kind, Role, Schema, Transform, abridged

_PATTERNS = ("*.txt", "*.dat", "*.svm", "*.svmlight", "*.libsvm", "*.letor")
_LINES_PER_BLOCK = 8192
_REQUESTS_PER_PART = 2000  # MSLR-WEB30K has 120 candidates of 136 numbers per request
_MOST_FEATURES = 10_000
_LARGEST = float(np.finfo(np.float32).max)
_LINE = re.compile(rb"\s*([-+.0-9a-zA-Z]+)\s+qid:([^\s:#]+)((?:\s+[0-9]{1,9}:[-+.0-9a-zA-Z]+)*)\s*")
_PAIR = re.compile(rb"([0-9]{1,9}):([-+.0-9a-zA-Z]+)")
_EXPECTED = "expected 'label qid:ID index:value index:value ...'"


@dataclass(frozen=True)
class _Block:
    """Some lines of one file; ``lines`` are numbers from 1."""

    lines: NDArray[np.int64]
    queries: list[str]
    labels: NDArray[np.float32]
    values: NDArray[np.float32]


@SOURCES.register
def letor_source(
    from_: Sequence[Path],
    to: Path,
    *,
    features: int | None = None,
    transform: Transform = Transform.LOG1P_STANDARDISE,
    missing: bool = False,
    name: str = "",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Make a request log from LETOR files, plain or gzipped; a query becomes a request.

    Features are numeric and called ``f1`` to ``fN``, as in the papers of these data sets; an
    index that a line leaves out is 0, as in every sparse svmlight file. Comments (document ids)
    are dropped. Indices must rise within a line, and the lines of a query must stand together.

    Args:
        from_: files or folders; of a folder, ``.txt``, ``.dat``, ``.svm``, ``.svmlight``,
            ``.libsvm`` and ``.letor`` files, with or without ``.gz``.
        to: folder of the request log to write.
        features: how many there are; a larger index is then an error. Not given, the largest
            index of all files, at the price of reading them twice.
        transform: what a model does to every feature before it sees it. The default suits raw
            counts and scores of any size, which is what most of these data sets hold.
        missing: read NaN, infinities and numbers beyond float32 (Istella's 1.797e308) as
            missing instead of refusing them.
        name: of the data set; not given, that of the folder ``to``.
        overwrite: replace a request log that is there.
        progress: called with bytes read and bytes in all.

    Raises:
        DataError: if a file is missing, damaged, or not of this layout; names file and line.

    Source: Qin and Liu, Introducing LETOR 4.0 Datasets, arXiv:1306.2597, for the layout.
    """
    files = input_files(from_, _PATTERNS, what="LETOR files")
    if features is not None and features < 1:
        raise DataError(f"features must be at least 1; got {features}")
    width = features or _width(files)
    names = [f"f{i + 1}" for i in range(width)]
    schema = Schema(
        features=tuple(
            Feature(name=n, role=Role.ITEM, kind=Kind.NUMERIC, transform=transform, missing=missing)
            for n in names
        )
    )
    advance = byte_counter(files, progress)
    seen: dict[str, str] = {}
    with RequestLogWriter(
        to,
        name=name or to.name,
        schema=schema,
        overwrite=overwrite,
        rows_per_part=_REQUESTS_PER_PART,
    ) as writer:
        unknown = 0
        for path in files:
            blocks = _blocks(path, width, advance)
            for block in _whole_queries(blocks if missing else _finite(blocks, path), path, seen):
                unknown += int(np.isnan(block.values).sum())
                writer.write(_frame(block, names))
        writer.extra["notes"] = {"files": len(files), "missing_values": unknown}


def _width(files: Sequence[Path]) -> int:
    """Return the largest feature index; as indices rise, the last one of a line is its largest."""
    width = 0
    for path in files:
        for number, line in enumerate(read_lines(path), 1):
            last = line.partition(b"#")[0].rpartition(b":")[0].rsplit(None, 1)[-1:]
            if last and last[0].isdigit() and len(last[0]) < 10:
                width = max(width, int(last[0]))
                if width > _MOST_FEATURES:
                    raise DataError(
                        f"{path}, line {number}: feature index {width} is beyond {_MOST_FEATURES}; "
                        "features are stored densely; if there are so many, say features=N"
                    )
    if not width:
        raise DataError(f"{files[0]}: {_EXPECTED} on every line, found no feature in any file")
    return width


def _blocks(path: Path, width: int, advance: Callable[[int], None]) -> Iterator[_Block]:
    """Parse a file some thousand lines at a time."""
    numbered = enumerate(read_lines(path, advance), 1)
    empty = True
    while lines := list(islice(numbered, _LINES_PER_BLOCK)):
        bodies = [(number, line.partition(b"#")[0]) for number, line in lines]
        bodies = [(number, body) for number, body in bodies if not body.isspace() and body]
        if bodies:
            empty = False
            yield _parsed(bodies, width) or _refused(path, bodies, width)
    if empty:
        raise DataError(f"{path}: {_EXPECTED} on every line, found none")


def _parsed(bodies: Sequence[tuple[int, bytes]], width: int) -> _Block | None:
    """Parse lines without comments all at once, or return ``None`` if anything is wrong."""
    matches = [_LINE.fullmatch(body) for _, body in bodies]
    if None in matches:
        return None
    labels, queries, pairs = zip(*(m.groups() for m in matches if m), strict=True)
    tokens = b" ".join(pairs).replace(b":", b" ").split()
    try:
        label = np.fromiter(map(float, labels), np.float64, len(labels))
        numbers = np.fromiter(map(float, tokens), np.float64, len(tokens)).reshape(-1, 2)
        names = [query.decode() for query in queries]
    except ValueError:
        return None
    row = np.repeat(np.arange(len(bodies)), [p.count(b":") for p in pairs])
    index, value = numbers[:, 0].astype(np.int64) - 1, numbers[:, 1]
    good = (
        bool(((label >= 0) & (label <= _LARGEST)).all())
        and bool(((index >= 0) & (index < width)).all())
        and bool(((np.diff(index) > 0) | (np.diff(row) > 0)).all())
    )
    if not good:
        return None
    values = np.zeros((len(bodies), width), np.float32)
    values[row, index] = np.where(np.abs(value) <= _LARGEST, value, np.nan)
    return _Block(
        np.array([n for n, _ in bodies], np.int64), names, label.astype(np.float32), values
    )


def _refused(path: Path, bodies: Sequence[tuple[int, bytes]], width: int) -> NoReturn:
    """Say what is wrong with the first wrong line."""
    for number, body in bodies:
        if mistake := _mistake(body.split(), width):
            raise DataError(f"{path}, line {number}: {mistake}; the line is {shown(body)}")
    raise AssertionError(f"{path}: lines {bodies[0][0]} to {bodies[-1][0]} were refused wrongly")


def _mistake(fields: Sequence[bytes], width: int) -> str:
    try:
        label = float(fields[0])
    except ValueError:
        return f"{_EXPECTED}, found the label {shown(fields[0])}"
    if not 0 <= label <= _LARGEST:
        return f"expected a finite label that is not negative, found {shown(fields[0])}"
    if len(fields) < 2 or not re.fullmatch(rb"qid:[^\s:#]+", fields[1]):
        return f"{_EXPECTED}, found no qid after the label"
    last = 0
    for field in fields[2:]:
        pair = _PAIR.fullmatch(field)
        if pair is None:
            return f"expected index:value, found {shown(field)}"
        index = int(pair[1])
        if index == 0:
            return f"feature indices count from 1, found {shown(field)}"
        if index <= last:
            told = "is there twice" if index == last else f"comes after {last}"
            return f"feature indices must rise, but {index} {told}"
        try:
            float(pair[2])
        except ValueError:
            return f"expected a number for feature {index}, found {shown(pair[2])}"
        last = index
    if last > width:
        return f"feature index {last} is beyond features={width}"
    return "" if _LINE.fullmatch(b" ".join(fields)) and _is_text(fields[1]) else _EXPECTED


def _is_text(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _finite(blocks: Iterator[_Block], path: Path) -> Iterator[_Block]:
    """Pass on blocks up to the first unknown number, then count them all and refuse."""
    first, counts = 0, np.zeros(0, np.int64)
    for block in blocks:
        unknown = np.isnan(block.values)
        if not first and not unknown.any():
            yield block
            continue
        first = first or int(block.lines[unknown.any(axis=1)][0])
        counts = unknown.sum(axis=0) + (counts if counts.size else 0)
    if first:
        named = [f"f{i + 1} ({counts[i]:,})" for i in np.flatnonzero(counts)]
        raise DataError(
            f"{path}: expected finite float32 numbers, found {counts.sum():,} that are not, "
            f"first in line {first}, in {abridged(named)}; correct them, or say missing=true to "
            "read them as missing"
        )


def _whole_queries(blocks: Iterator[_Block], path: Path, seen: dict[str, str]) -> Iterator[_Block]:
    """Cut blocks between queries instead of between lines; refuse a query that comes back.

    ``seen`` holds where each query of all files began.
    """
    held: _Block | None = None
    last = ""
    for block in blocks:
        starts = [i for i, (a, b) in enumerate(pairwise([last, *block.queries])) if a != b]
        for i in starts:
            query, where = block.queries[i], f"{path}, line {block.lines[i]}"
            if query in seen:
                raise DataError(
                    f"{where}: query {query} comes back, after it began in {seen[query]}; the "
                    "lines of a query must stand together; sort them, or name one fold only"
                )
            seen[query] = where
        last = block.queries[-1]
        whole = block if held is None else _joined(held, block)
        cut = len(whole.queries) - len(block.queries) + starts[-1] if starts else 0
        if cut:
            yield _slice(whole, slice(0, cut))
        held = _slice(whole, slice(cut, None))
    if held is not None:
        yield held


def _slice(block: _Block, rows: slice) -> _Block:
    return _Block(block.lines[rows], block.queries[rows], block.labels[rows], block.values[rows])


def _joined(a: _Block, b: _Block) -> _Block:
    return _Block(
        np.concatenate([a.lines, b.lines]),
        a.queries + b.queries,
        np.concatenate([a.labels, b.labels]),
        np.concatenate([a.values, b.values]),
    )


def _frame(block: _Block, names: Sequence[str]) -> pl.DataFrame:
    """Return one row per query, candidates in the order of their lines; NaN becomes null."""
    return (
        pl.from_numpy(block.values, schema=list(names))
        .select(pl.all().fill_nan(None))
        .insert_column(0, pl.Series("request_id", block.queries))
        .with_columns(label=pl.Series(block.labels))
        .group_by("request_id", maintain_order=True)
        .agg(pl.all())
    )
