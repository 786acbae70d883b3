"""Lines of LETOR files, parsed and checked some thousand at a time."""

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
    """Some lines of one file; ``lines`` are numbers from 1."""

    lines: NDArray[np.int64]
    queries: list[str]
    labels: NDArray[np.float32]
    values: NDArray[np.float32]


def width_of(files: Sequence[Path]) -> int:
    """Return the largest feature index; as indices rise, the last one of a line is its largest.

    Raises:
        DataError: if it is beyond 10,000, which nobody means, or no line has a feature.
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
                        "features are stored densely; if there are so many, say features=N"
                    )
    if not width:
        raise DataError(f"{files[0]}: {_EXPECTED} on every line, found no feature in any file")
    return width


def read_blocks(path: Path, width: int, advance: Callable[[int], None]) -> Iterator[Block]:
    """Parse a file some thousand lines at a time.

    Args:
        path: plain or gzipped.
        width: how many features there are.
        advance: called now and then with bytes newly read.

    Yields:
        Blocks in the order of the lines; values ``[lines, width]``, NaN for what is not a finite
        float32.

    Raises:
        DataError: if a line is not of this layout, or there is none.
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
        raise DataError(f"{path}: {_EXPECTED} on every line, found none")


def _parsed(bodies: Sequence[tuple[int, bytes]], width: int) -> Block | None:
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
    return Block(
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


def finite_blocks(blocks: Iterator[Block], path: Path) -> Iterator[Block]:
    """Pass on blocks up to the first NaN, then count them all and refuse the file.

    Raises:
        DataError: if there is one; names the features and the first line.
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
            f"first in line {first}, in {abridged(named)}; correct them, or say missing=true to "
            "read them as missing"
        )
