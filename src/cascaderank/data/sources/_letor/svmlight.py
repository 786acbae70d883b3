"""Parser of svmlight lines with query ids, in blocks of several thousand lines."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.sources._shared.input_files import read_lines, shown
from cascaderank.errors import DataError
from cascaderank.schema import abridged

_LINES_PER_BLOCK = 8192
_MOST_FEATURES = 10_000
_LARGEST = float(np.finfo(np.float32).max)
_LINE = re.compile(rb"\s*([-+.0-9a-zA-Z]+)\s+qid:([^\s:#]+)((?:\s+[0-9]{1,9}:[-+.0-9a-zA-Z]+)*)\s*")
_PAIR = re.compile(rb"([0-9]{1,9}):([-+.0-9a-zA-Z]+)")
_EXPECTED = "expected 'label qid:ID index:value index:value ...'"


@dataclass(frozen=True)
class Block:
    """Consecutive lines of one file as arrays; entry ``i`` of each belongs to the same line."""

    lines: NDArray[np.int64]
    """Line numbers, from 1."""
    queries: list[str]
    """Query ids."""
    labels: NDArray[np.float32]
    values: NDArray[np.float32]
    """Features, ``[lines, width]``."""


def width_of(files: Sequence[Path]) -> int:
    """Return the largest feature index of all files.

    Indices increase within a line, so only the last one of each line is read.

    Raises:
        DataError: if an index exceeds 10,000, which indicates a malformed file, or no line has a
            feature.
    """
    width = 0
    for path in files:
        for number, line in enumerate(read_lines(path), 1):
            last = line.partition(b"#")[0].rpartition(b":")[0].rsplit(None, 1)[-1:]
            if last and last[0].isdigit() and len(last[0]) < 10:
                width = max(width, int(last[0]))
                if width > _MOST_FEATURES:
                    raise DataError(
                        f"{path}, line {number}: feature index {width} is beyond {_MOST_FEATURES}; "
                        "features are stored densely; set features=N if the index is intended"
                    )
    if not width:
        raise DataError(
            f"{files[0]}: {_EXPECTED} on every line, found no feature in any file; "
            "name files in svmlight format"
        )
    return width


def read_blocks(path: Path, width: int, advance: Callable[[int], None]) -> Iterator[Block]:
    """Parse a file in blocks of several thousand lines.

    Args:
        path: plain or gzipped file.
        width: number of features.
        advance: callback that receives the number of bytes read since its last call.

    Yields:
        Blocks in the order of the lines. Values that are not finite in float32 are NaN.

    Raises:
        DataError: if a line does not have this layout, or no line has content.
    """
    numbered = enumerate(read_lines(path, advance), 1)
    empty = True
    while lines := list(islice(numbered, _LINES_PER_BLOCK)):
        bodies = [(number, line.partition(b"#")[0]) for number, line in lines]
        bodies = [(number, body) for number, body in bodies if not body.isspace() and body]
        if bodies:
            empty = False
            yield _parsed(bodies, width) or _refused(path, bodies, width)
    if empty:
        raise DataError(f"{path}: {_EXPECTED} on every line, found none; fetch it again")


def _parsed(bodies: Sequence[tuple[int, bytes]], width: int) -> Block | None:
    """Parse lines without comments all at once; return ``None`` if any of them is invalid."""
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
    valid = (
        bool(((label >= 0) & (label <= _LARGEST)).all())
        and bool(((index >= 0) & (index < width)).all())
        and bool(((np.diff(index) > 0) | (np.diff(row) > 0)).all())
    )
    if not valid:
        return None
    values = np.zeros((len(bodies), width), np.float32)
    values[row, index] = np.where(np.abs(value) <= _LARGEST, value, np.nan)
    return Block(
        np.array([n for n, _ in bodies], np.int64), names, label.astype(np.float32), values
    )


def _refused(path: Path, bodies: Sequence[tuple[int, bytes]], width: int) -> NoReturn:
    """Raise an error that describes the first invalid line."""
    for number, body in bodies:
        if mistake := _mistake(body.split(), width):
            raise DataError(f"{path}, line {number}: {mistake}; the line is {shown(body)}")
    raise AssertionError(
        f"{path}: lines {bodies[0][0]} to {bodies[-1][0]} were rejected, but each of them is valid"
    )


def _mistake(fields: Sequence[bytes], width: int) -> str:
    try:
        label = float(fields[0])
    except ValueError:
        return f"{_EXPECTED}, found the label {shown(fields[0])}"
    if not 0 <= label <= _LARGEST:
        return f"expected a finite non-negative label, found {shown(fields[0])}"
    if len(fields) < 2 or not re.fullmatch(rb"qid:[^\s:#]+", fields[1]):
        return f"{_EXPECTED}, found no qid after the label"
    last = 0
    for field in fields[2:]:
        pair = _PAIR.fullmatch(field)
        if pair is None:
            return f"expected index:value, found {shown(field)}"
        index = int(pair[1])
        if index == 0:
            return f"expected feature indices from 1, found {shown(field)}"
        if index <= last:
            position = "occurs twice" if index == last else f"follows {last}"
            return f"feature indices must increase, but {index} {position}"
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


def finite_blocks(blocks: Iterator[Block], path: Path) -> Iterator[Block]:
    """Yield blocks without NaN; at the first NaN, count all NaN of the file and raise.

    Raises:
        DataError: if a value is NaN; the message names the features and the first line.
    """
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
            f"first in line {first}, in {abridged(named)}; correct them, or set missing=true to "
            "read them as missing"
        )
