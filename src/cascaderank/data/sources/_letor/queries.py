"""Queries of LETOR files: grouping of lines, filtering, sampling and scaling of documents."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from cascaderank.data.encoding.hashing import hashed
from cascaderank.data.sources._letor.svmlight import Block
from cascaderank.errors import DataError

WithinQuery = Literal["min_max", "standardise"]
"""Scaling of each feature by the values of the same query."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Filter of queries and limits on the number of their documents."""

    min_documents: int
    """Queries with fewer documents are dropped."""
    max_documents: int | None
    """Number of documents to sample from a query with more; ``None`` keeps all."""
    min_positives: int
    """Number of sampled documents with a label above 0, if the query has as many."""
    seed: int
    """Seed of the sampling."""

    def __post_init__(self) -> None:
        most = self.max_documents
        if self.min_documents < 1 or (most is not None and most < 1) or self.min_positives < 0:
            raise DataError(
                "min_documents and max_documents must be at least 1 and min_positives at least 0; "
                f"got {self.min_documents}, {most} and {self.min_positives}"
            )
        if self.seed < 0:
            raise DataError(f"seed must be at least 0; got {self.seed}")


@dataclass
class Counts:
    """Numbers of queries and documents that were dropped or are unusual."""

    dropped_queries: int = 0
    dropped_documents: int = 0
    queries_cut: int = 0
    queries_without_positive: int = 0
    queries_of_one_document: int = 0


def prepared(block: Block, preparation: Preparation, counts: Counts) -> Block | None:
    """Filter queries and sample documents of a block of whole queries.

    Args:
        block: lines of complete queries.
        preparation: filter and limits.
        counts: updated in place with the numbers of dropped queries and documents.

    Returns:
        The remaining lines, in their order; ``None`` if none remains.
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
    return block.take(rows)


def scaled(block: Block, within_query: WithinQuery | None) -> Block:
    """Scale the features of a block of whole queries by the values of the same query."""
    if within_query is None:
        return block
    values = block.values.astype(np.float64)
    if within_query == "standardise":
        values = np.sign(values) * np.log1p(np.abs(values))
    for start, end in _queries(block):
        own = values[start:end]
        with np.errstate(invalid="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of features without any value
            if within_query == "min_max":
                origin, unit = np.nanmin(own, axis=0), np.nanmax(own, axis=0)
                unit = unit - origin
            else:
                origin, unit = np.nanmean(own, axis=0), np.nanstd(own, axis=0)
        own -= origin
        own /= np.where(unit > 0, unit, 1.0)
    return replace(block, values=values.astype(block.values.dtype))


def _queries(block: Block) -> Iterator[tuple[int, int]]:
    """Yield the first line of each query of a block, and the line after its last."""
    changes = [i for i, (a, b) in enumerate(pairwise(["", *block.queries])) if a != b]
    return pairwise([*changes, len(block.queries)])


def _drawn(positive: NDArray[np.bool_], query: str, preparation: Preparation) -> NDArray[np.int64]:
    """Sample documents of a query, without replacement, with at least ``min_positives`` positives.

    The generator is seeded by the seed and the query id, so the sample does not depend on the
    files or their order. If the sample has too few positives, its last negatives are replaced by
    the next positives of the same permutation.
    """
    key = int(hashed(pl.Series([query]))[0])
    order = np.random.default_rng([preparation.seed, key]).permutation(len(positive))
    drawn, rest = np.split(order, [preparation.max_documents or len(order)])
    missing = preparation.min_positives - int(positive[drawn].sum())
    if missing > 0:
        added = rest[positive[rest]][:missing]
        negatives = np.flatnonzero(~positive[drawn])
        drawn[negatives[len(negatives) - len(added) :]] = added
    return np.sort(drawn)


def whole_queries(blocks: Iterator[Block], path: Path, seen: dict[str, str]) -> Iterator[Block]:
    """Regroup blocks so that each holds complete queries.

    Args:
        blocks: consecutive blocks of one file.
        path: the file, for messages.
        seen: file and first line by query id, over all files; updated in place.

    Raises:
        DataError: if the lines of a query are not adjacent; the message names both places.
    """
    held: Block | None = None
    last = ""
    for block in blocks:
        starts = [i for i, (a, b) in enumerate(pairwise([last, *block.queries])) if a != b]
        for i in starts:
            query, where = block.queries[i], f"{path}, line {block.lines[i]}"
            if query in seen:
                raise DataError(
                    f"{where}: expected the lines of query {query} together, found it again after "
                    f"{seen[query]}; sort the lines by query, or give one fold only"
                )
            seen[query] = where
        last = block.queries[-1]
        whole = block if held is None else held.joined(block)
        cut = len(whole.queries) - len(block.queries) + starts[-1] if starts else 0
        if cut:
            yield whole.take(slice(0, cut))
        held = whole.take(slice(cut, None))
    if held is not None:
        yield held
