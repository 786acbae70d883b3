"""Queries of LETOR files: kept whole, and prepared as a comparison asks for."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.hashing import hashed
from cascaderank.data.sources._letor.svmlight import Block
from cascaderank.errors import DataError

WithinQuery = Literal["min_max", "standardise"]
"""How a number is told relative to those of its query."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Which queries stay, and how many of their documents."""

    min_documents: int
    max_documents: int | None
    min_positives: int
    seed: int

    def __post_init__(self) -> None:
        most = self.max_documents
        if self.min_documents < 1 or (most is not None and most < 1) or self.min_positives < 0:
            raise DataError(
                "min_documents and max_documents must be at least 1 and min_positives at least 0; "
                f"got {self.min_documents}, {most} and {self.min_positives}"
            )


@dataclass
class Counts:
    """What was seen and what was left out."""

    dropped_queries: int = 0
    dropped_documents: int = 0
    queries_cut: int = 0
    queries_without_positive: int = 0
    queries_of_one_document: int = 0


def prepared(block: Block, preparation: Preparation, counts: Counts) -> Block | None:
    """Drop queries and documents of a block of whole queries, and count them.

    Returns:
        What is left, in the order of the lines; ``None`` if nothing is.
    """
    kept: list[NDArray[np.int64]] = []
    for start, end in _queries(block):
        size = end - start
        if size < preparation.min_documents:
            counts.dropped_queries += 1
            counts.dropped_documents += size
            continue
        positive = block.labels[start:end] > 0
        counts.queries_without_positive += not positive.any()
        counts.queries_of_one_document += size == 1
        rows = np.arange(size)
        if preparation.max_documents is not None and size > preparation.max_documents:
            counts.queries_cut += 1
            counts.dropped_documents += size - preparation.max_documents
            rows = _drawn(positive, block.queries[start], preparation)
        kept.append(start + rows)
    if not kept:
        return None
    rows = np.concatenate(kept)
    if len(rows) == len(block.queries):
        return block
    names = [block.queries[i] for i in rows]
    return Block(block.lines[rows], names, block.labels[rows], block.values[rows])


def scaled(block: Block, within_query: WithinQuery | None) -> Block:
    """Return numbers of a block of whole queries relative to those of the same query."""
    if within_query is None:
        return block
    values = block.values.astype(np.float64)
    if within_query == "standardise":
        values = np.sign(values) * np.log1p(np.abs(values))
    for start, end in _queries(block):
        of_query = values[start:end]
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a feature that is missing everywhere
            if within_query == "min_max":
                origin, unit = np.nanmin(of_query, axis=0), np.nanmax(of_query, axis=0)
                unit = unit - origin
            else:
                origin, unit = np.nanmean(of_query, axis=0), np.nanstd(of_query, axis=0)
        of_query -= origin
        of_query /= np.where(unit > 0, unit, 1.0)
    return Block(block.lines, block.queries, block.labels, values.astype(block.values.dtype))


def _queries(block: Block) -> Iterator[tuple[int, int]]:
    """Yield where each query of a block begins and ends."""
    changes = [i for i, (a, b) in enumerate(pairwise(["", *block.queries])) if a != b]
    return pairwise([*changes, len(block.queries)])


def _drawn(positive: NDArray[np.bool_], query: str, preparation: Preparation) -> NDArray[np.int64]:
    """Draw documents; chance is seeded by the query, so that files and their order change nothing.

    Where too few positives were drawn, the last others make room for those that come next.
    """
    key = int(hashed(pl.Series([query]))[0])
    order = np.random.default_rng([preparation.seed, key]).permutation(len(positive))
    drawn, rest = np.split(order, [preparation.max_documents or len(order)])
    missing = preparation.min_positives - int(positive[drawn].sum())
    if missing > 0:
        more = rest[positive[rest]][:missing]
        others = np.flatnonzero(~positive[drawn])
        drawn[others[len(others) - len(more) :]] = more
    return np.sort(drawn)


def whole_queries(blocks: Iterator[Block], path: Path, seen: dict[str, str]) -> Iterator[Block]:
    """Cut blocks between queries instead of between lines; refuse a query that comes back.

    ``seen`` holds where each query of all files began.

    Raises:
        DataError: if lines of a query do not stand together; names both places.
    """
    held: Block | None = None
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


def _slice(block: Block, rows: slice) -> Block:
    return Block(block.lines[rows], block.queries[rows], block.labels[rows], block.values[rows])


def _joined(a: Block, b: Block) -> Block:
    return Block(
        np.concatenate([a.lines, b.lines]),
        a.queries + b.queries,
        np.concatenate([a.labels, b.labels]),
        np.concatenate([a.values, b.values]),
    )
