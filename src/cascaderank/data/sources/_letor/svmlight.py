"""Parser of svmlight lines with query ids, in blocks of several thousand lines."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.sources._shared.input_files import read_lines, shown
from cascaderank.errors import DataError
from cascaderank.schema import abridged

_LINES_PER_BLOCK = 8192
_LARGEST = float(np.finfo(np.float32).max)
_LINE = re.compile(
    rb"\s*([-+.0-9a-zA-Z]+)(?:\s+qid:([^\s:#]+))?((?:\s+[0-9]{1,9}:[-+.0-9a-zA-Z]+)*)\s*"
)
_PAIR = re.compile(rb"([0-9]{1,9}):([-+.0-9a-zA-Z]+)")
_DOCID = re.compile(rb"\bdocid\s*[=:]?\s*(\S+)", re.IGNORECASE)
_NULL = b"NULL"  # a missing value in the files of LETOR
EXPECTED = "expected 'label qid:ID index:value index:value ...'"
"""Start of messages on lines of another layout."""


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
    keys: list[str] | None = None
    """Document ids; ``None`` if they are not read."""
    weights: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Weights by column of the log."""

    def take(self, rows: slice | NDArray[np.int64]) -> "Block":
        """Return some lines of the block."""
        index = range(len(self.queries))[rows] if isinstance(rows, slice) else rows.tolist()
        return Block(
            self.lines[rows],
            [self.queries[i] for i in index],
            self.labels[rows],
            self.values[rows],
            None if self.keys is None else [self.keys[i] for i in index],
            {name: values[rows] for name, values in self.weights.items()},
        )

    def joined(self, after: "Block") -> "Block":
        """Return the lines of this block and those of another one after them."""
        return Block(
            np.concatenate([self.lines, after.lines]),
            self.queries + after.queries,
            np.concatenate([self.labels, after.labels]),
            np.concatenate([self.values, after.values]),
            None if self.keys is None else self.keys + (after.keys or []),
            {n: np.concatenate([own, after.weights[n]]) for n, own in self.weights.items()},
        )


def key_of(comment: bytes) -> str | None:
    """Return the document id in the comment of a line; ``None`` if there is none.

    Examples:
        >>> key_of(b"docid = GX029-35 inc = 1 prob = 0.02"), key_of(b" FT911-3"), key_of(b"no id")
        ('GX029-35', 'FT911-3', None)
    """
    words = comment.split(None, 2)
    matched = _DOCID.search(comment)
    found = matched[1] if matched else words[0] if len(words) == 1 else None
    try:
        return None if found is None else found.decode()
    except UnicodeDecodeError:
        return None


def read_blocks(
    path: Path,
    width: int,
    advance: Callable[[int], None],
    *,
    queries: Sequence[str] | None = None,
    last: NDArray[np.float32] | None = None,
    keyed: bool = False,
    weights: Mapping[str, NDArray[np.float32]] | None = None,
) -> Iterator[Block]:
    """Parse a file in blocks of several thousand lines.

    Args:
        path: plain or gzipped file.
        width: number of features.
        advance: callback that receives the number of bytes read since its last call.
        queries: query of each line with content, for a file without ``qid``.
        last: value of each line with content, added as the last feature.
        keyed: whether to read the document ids in the comments, which every line must have.
        weights: weights of each line with content, by column of the log.

    Yields:
        Blocks in the order of the lines. Values that are not finite in float32 are NaN.

    Raises:
        DataError: if a line does not have this layout, or no line has content.
    """
    numbered = enumerate(read_lines(path, advance), 1)
    done = 0
    while lines := list(islice(numbered, _LINES_PER_BLOCK)):
        parts = [(number, *line.partition(b"#")) for number, line in lines]
        parts = [part for part in parts if not part[1].isspace() and part[1]]
        if not parts:
            continue
        rows = slice(done, done + len(parts))
        bodies = [(number, body) for number, body, _, _ in parts]
        names = None if queries is None else queries[rows]
        block = _parsed(bodies, width, names) or _refused(path, bodies, width, names)
        if last is not None:
            block = replace(block, values=np.column_stack([block.values, last[rows]]))
        if keyed:
            block = replace(block, keys=[key_of(comment) or "" for *_, comment in parts])
        if weights:
            block = replace(block, weights={name: v[rows] for name, v in weights.items()})
        yield block
        done += len(parts)
    if not done:
        raise DataError(f"{path}: {EXPECTED} on every line, found none; fetch it again")


def _parsed(
    bodies: Sequence[tuple[int, bytes]], width: int, names: Sequence[str] | None
) -> Block | None:
    """Parse lines without comments all at once; return ``None`` if any of them is invalid."""
    matches = [_LINE.fullmatch(body) for _, body in bodies]
    if None in matches:
        return None
    labels, queries, pairs = zip(*(m.groups() for m in matches if m), strict=True)
    if any((query is None) is (names is None) for query in queries):
        return None
    tokens = b" ".join(pairs).replace(b":", b" ").replace(_NULL, b"nan").split()
    try:
        label = np.fromiter(map(float, labels), np.float64, len(labels))
        numbers = np.fromiter(map(float, tokens), np.float64, len(tokens)).reshape(-1, 2)
        names = [query.decode() for query in queries] if names is None else [*names]
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


def _refused(
    path: Path, bodies: Sequence[tuple[int, bytes]], width: int, names: Sequence[str] | None
) -> NoReturn:
    """Raise an error that describes the first invalid line."""
    for number, body in bodies:
        if mistake := _mistake(body.split(), width, has_qid=names is None):
            raise DataError(f"{path}, line {number}: {mistake}; the line is {shown(body)}")
    raise AssertionError(
        f"{path}: lines {bodies[0][0]} to {bodies[-1][0]} were rejected, but each of them is valid"
    )


def _mistake(fields: Sequence[bytes], width: int, *, has_qid: bool) -> str:
    try:
        label = float(fields[0])
    except ValueError:
        return f"{EXPECTED}, found the label {shown(fields[0])}"
    if not 0 <= label <= _LARGEST:
        return f"expected a finite non-negative label, found {shown(fields[0])}"
    if has_qid and (len(fields) < 2 or not re.fullmatch(rb"qid:[^\s:#]+", fields[1])):
        return (
            f"{EXPECTED}, found no qid after the label and no file beside this one with the "
            "number of lines of each query (.query or .group)"
        )
    last = 0
    for text in fields[1 + has_qid :]:
        pair = _PAIR.fullmatch(text)
        if pair is None:
            return f"expected index:value, found {shown(text)}"
        index = int(pair[1])
        if index == 0:
            return f"expected feature indices from 1, found {shown(text)}"
        if index <= last:
            position = "occurs twice" if index == last else f"follows {last}"
            return f"feature indices must increase, but {index} {position}"
        try:
            float(pair[2].replace(_NULL, b"nan"))
        except ValueError:
            return f"expected a number for feature {index}, found {shown(pair[2])}"
        last = index
    if last > width:
        return f"feature index {last} is beyond features={width}"
    is_text = not has_qid or _is_text(fields[1])
    return "" if _LINE.fullmatch(b" ".join(fields)) and is_text else EXPECTED


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
