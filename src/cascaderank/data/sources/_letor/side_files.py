"""Files beside an svmlight file, as LightGBM and XGBoost read them: one value per line.

===========  =====================================  ================================
file         content of a line                      tool
===========  =====================================  ================================
``X.query``  number of lines of a query in ``X``    LightGBM
``X.group``  number of lines of a query in ``X``    XGBoost
``X.init``   initial score of a line of ``X``       LightGBM
``X.weight`` weight of a line, or of a query        LightGBM; XGBoost
===========  =====================================  ================================
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cascaderank.data.log.weight_columns import CANDIDATE_WEIGHT, REQUEST_WEIGHT
from cascaderank.data.sources._shared.input_files import read_lines, shown
from cascaderank.errors import DataError

SIZES = (".query", ".group")
"""Suffixes of files with the number of lines of each query."""

_INIT, _WEIGHT = ".init", ".weight"
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SideFiles:
    """Values of the side files of one svmlight file."""

    of: Path
    """The svmlight file."""
    sizes_file: Path | None = None
    sizes: NDArray[np.int64] | None = None
    """Number of lines of each query; ``None`` without such a file."""
    init_file: Path | None = None
    init: NDArray[np.float32] | None = None
    """Initial score of each line; ``None`` without such a file."""
    weight_file: Path | None = None
    weights: NDArray[np.float32] | None = None
    """Weight of each line or of each query; ``None`` without such a file."""

    @property
    def query_names(self) -> list[str] | None:
        """Name of the query of each line, such as ``train-1``; ``None`` without sizes."""
        if self.sizes is None:
            return None
        stem = self.of.name.removesuffix(".gz").removesuffix(".txt")
        numbers = np.repeat(np.arange(1, len(self.sizes) + 1), self.sizes)
        return [f"{stem}-{number}" for number in numbers]

    def check(self, lines: int, run_lengths: list[int]) -> None:
        """Check that sizes and initial scores fit the lines of the svmlight file.

        Args:
            lines: number of its lines with content.
            run_lengths: numbers of adjacent lines with one query id; empty if lines have no id.

        Raises:
            DataError: if the sizes of queries do not add up to the number of lines or differ from
                the numbers of lines with one query id, or if there is not one initial score per
                line.
        """
        if self.sizes is not None and (total := int(self.sizes.sum())) != lines:
            raise DataError(
                f"{self.sizes_file}: expected sizes of queries with a sum of {lines:,}, the number "
                f"of lines of {self.of}, found {len(self.sizes):,} sizes with a sum of {total:,}; "
                "give the file that belongs to these lines"
            )
        if self.sizes is not None and run_lengths and run_lengths != self.sizes.tolist():
            pairs = zip(run_lengths, self.sizes.tolist(), strict=False)
            first = next((i for i, (a, b) in enumerate(pairs) if a != b), 0)
            raise DataError(
                f"{self.sizes_file}: expected the sizes of the queries that {self.of} has by qid, "
                f"found another in line {first + 1}: {self.sizes[first]} instead of "
                f"{run_lengths[first]}; remove one of both"
            )
        if self.init is not None and len(self.init) != lines:
            raise DataError(
                f"{self.init_file}: expected {lines:,} initial scores, one per line of {self.of}, "
                f"found {len(self.init):,}; give the file that belongs to these lines"
            )

    def line_weights(self, lines: int, run_lengths: list[int]) -> "LineWeights":
        """Return the weights of the lines: of candidates if one per line, of queries if one each.

        Args:
            lines: number of lines with content of the svmlight file.
            run_lengths: numbers of adjacent lines of one query.

        Raises:
            DataError: if there are as many weights as neither lines nor queries.
        """
        if self.weights is None:
            return LineWeights()
        if len(self.weights) == lines:
            return LineWeights(lines, {CANDIDATE_WEIGHT: self.weights})
        if len(self.weights) == len(run_lengths):
            of_lines = np.repeat(self.weights, run_lengths)
            return LineWeights(len(self.weights), {REQUEST_WEIGHT: of_lines})
        raise DataError(
            f"{self.weight_file}: expected {lines:,} weights, one per line of {self.of} as in "
            f"LightGBM, or {len(run_lengths):,}, one per query as in XGBoost, found "
            f"{len(self.weights):,}; give the file that belongs to these lines, or remove it"
        )


@dataclass(frozen=True)
class LineWeights:
    """Weights of the lines of an svmlight file."""

    count: int = 0
    """Number of weights in the file."""
    columns: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Weight of each line by the column of the log, ``candidate_weight`` or ``request_weight``."""


def side_files(path: Path) -> SideFiles:
    """Read the side files of an svmlight file, plain or gzipped.

    Args:
        path: the svmlight file ``X`` or ``X.gz``; its side files are ``X.query`` and so on.

    Raises:
        DataError: if a side file is damaged, has a line that is no number or a negative weight,
            or there is more than one file with sizes of queries.
    """
    found = {suffix: file for suffix in (*SIZES, _INIT, _WEIGHT) if (file := _beside(path, suffix))}
    sized = [found[suffix] for suffix in SIZES if suffix in found]
    if len(sized) > 1:
        raise DataError(f"{sized[1]}: expected one file with sizes, found {sized[0]} too; give one")
    sizes = _numbers(sized[0], "the number of lines of a query") if sized else None
    if sizes is not None and ((sizes < 1) | (sizes != np.floor(sizes))).any():
        line = int(np.flatnonzero((sizes < 1) | (sizes != np.floor(sizes)))[0])
        raise DataError(
            f"{sized[0]}, value {line + 1}: expected the number of lines of a query, at least 1, "
            f"found {sizes[line]:g}; correct it"
        )
    init = _numbers(found[_INIT], "an initial score") if _INIT in found else None
    weights = None
    if _WEIGHT in found:
        weights = _numbers(found[_WEIGHT], "a weight of at least 0", least=0.0)
    return SideFiles(
        path,
        sized[0] if sized else None,
        None if sizes is None else sizes.astype(np.int64),
        found.get(_INIT),
        None if init is None else init.astype(np.float32),
        found.get(_WEIGHT),
        None if weights is None else weights.astype(np.float32),
    )


def has_sizes(path: Path) -> bool:
    """Return whether a file has a side file with the sizes of queries."""
    return any(_beside(path, suffix) for suffix in SIZES)


def is_side_file_of(path: Path, other: Path) -> bool:
    """Return whether a file is a side file of another one."""
    return any(_beside(other, suffix) == path for suffix in (*SIZES, _INIT, _WEIGHT))


def _beside(path: Path, suffix: str) -> Path | None:
    plain = path.name.removesuffix(".gz")
    names = dict.fromkeys(f"{n}{suffix}{gz}" for n in (path.name, plain) for gz in ("", ".gz"))
    return next((f for name in names if os.path.lexists(f := path.with_name(name))), None)


def _numbers(path: Path, what: str, *, least: float = -_LARGEST) -> NDArray[np.float64]:
    numbers: list[float] = []
    for line, text in enumerate(read_lines(path), 1):
        if not text.strip():
            continue
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not least <= number <= _LARGEST:
            raise DataError(
                f"{path}, line {line}: expected {what}, found {shown(text)}; correct it"
            )
        numbers.append(number)
    return np.array(numbers)
