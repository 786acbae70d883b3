"""Which requests train, which validate and which test: by request, fold or day, or as given.

A request is never divided. A split is a function of the set of request ids and of the settings:
the order of files and of rows changes nothing.
"""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal, Self, assert_never

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from cascaderank.data.hashing import hashed, mix, seeded
from cascaderank.data.request_log import RequestLog
from cascaderank.errors import DataError

Rows = NDArray[np.int64]
GIVEN = ("train", "validation", "test")
"""Parts that data may come in, but for folds."""
FOLD = "fold-"
"""How the parts of data that came as folds are called, with the number of each from 1 behind."""
_FEWEST_FOLDS = 3  # one tests, one validates, one trains
_SKIPPED = -1


class RequestSplit(BaseModel):
    """Shares of all requests, drawn by chance.

    Examples:
        >>> RequestSplit(test=0.2).validation
        0.1
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["request"] = "request"
    validation: float = Field(0.1, gt=0, lt=1)
    """Share of requests; rounded, but at least one."""
    test: float = Field(0.1, gt=0, lt=1)
    """Share of requests; rounded, but at least one."""
    seed: int = 0

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation and test must leave requests to train on; got {self.validation} and "
                f"{self.test}, which add up to 1 or more"
            )
        return self


class FoldSplit(BaseModel):
    """Cross-validation: one fold tests, the next one validates, the others train.

    Examples:
        >>> [FoldSplit(folds=3, fold=i).fold for i in range(3)]
        [0, 1, 2]
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["fold"] = "fold"
    folds: int = Field(5, ge=3)
    """Their sizes differ by one at most."""
    fold: int = Field(0, ge=0)
    """The one that tests, counted from 0."""
    seed: int = 0

    @model_validator(mode="after")
    def _there_is_one(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold must be 0 to {self.folds - 1}; got {self.fold}")
        return self


class DaySplit(BaseModel):
    """The last days test, those before them validate, and all earlier ones train.

    Days are those of the request log: UTC, unless its source has days of its own.

    With ``skip_last`` the log ends earlier: the data of a model that was trained some days ago.

    Examples:
        >>> DaySplit(test_days=2).validation_days
        1
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["day"] = "day"
    validation_days: int = Field(1, ge=1)
    """Of the days that have requests."""
    test_days: int = Field(1, ge=1)
    """Of the days that have requests."""
    skip_last: int = Field(0, ge=0)
    """Days at the end that take no part."""


class GivenSplit(BaseModel):
    """The parts that came with the data, such as ``train.txt``, ``vali.txt`` and ``test.txt``.

    Of data that came as folds, one tests, the one before it validates and the others train, which
    is how LETOR 4.0 and MSLR go round; :func:`given_folds` tells how many there are.

    Examples:
        >>> GivenSplit().fold
        0
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    by: Literal["given"] = "given"
    fold: int = Field(0, ge=0)
    """Of data that came as folds: the one that tests is given as that of number ``fold + 1``."""
    validation: float = Field(0.1, gt=0, lt=1)
    """Share of the training requests that validate if the data came without such a part."""
    seed: int = 0
    """Of the choice of those."""


SplitSettings = Annotated[
    RequestSplit | FoldSplit | DaySplit | GivenSplit, Field(discriminator="by")
]
"""How to split, told apart by ``by``."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers of a request log, parts in order; each sorted, disjoint.

    Together they are all rows, but for those of days that :class:`DaySplit` skips.
    """

    train: Rows
    validation: Rows
    test: Rows


def split_requests(
    log: RequestLog, settings: RequestSplit | FoldSplit | DaySplit | GivenSplit
) -> Split:
    """Split the requests of a log.

    Args:
        log: the data set.
        settings: how.

    Returns:
        The three sets of rows; none is empty.

    Raises:
        DataError: if one would be empty, or a log has no timestamps or given parts to go by; the
            message says what to change.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cascaderank.data.request_log import RequestLogWriter
        >>> from cascaderank.schema import Schema
        >>> schema = Schema(features=({"name": "price", "role": "item", "kind": "numeric"},))
        >>> frame = pl.DataFrame({"request_id": range(10), "price": [[1.0, 2.0]] * 10})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RequestLogWriter(Path(folder) / "shop", name="shop", schema=schema) as writer:
        ...         writer.write(frame)
        ...     split = split_requests(RequestLog.open(Path(folder) / "shop"), RequestSplit())
        >>> len(split.train), len(split.validation), len(split.test)
        (8, 1, 1)

    Source: this project.
    """
    match settings:
        case RequestSplit():
            return _by_request(log, settings)
        case FoldSplit():
            return _by_fold(log, settings)
        case DaySplit():
            return _by_day(log, settings)
        case GivenSplit():
            return _as_given(log, settings)
        case _:
            assert_never(settings)


def days_of(log: RequestLog) -> list[date]:
    """Return the days (UTC) that have requests, in order.

    Raises:
        DataError: if the requests have no timestamps.
    """
    days = sorted({p.day for p in log.manifest.parts if p.day is not None})
    if not days:
        raise DataError(
            f"{log.path}: the requests have no timestamps to split by day; "
            'say split.by = "request" instead'
        )
    return days


def given_folds(log: RequestLog) -> int:
    """Return how many folds the data came as; 0 if it came in parts that are no folds.

    Raises:
        DataError: if it came without parts, or with others than this knows.
    """
    parts = {p.given for p in log.manifest.parts}
    if None in parts:
        raise DataError(
            f"{log.path}: the data set came without parts of its own; "
            'say split.by = "request" instead, or "fold"'
        )
    names = sorted(map(str, parts))
    folds = [f"{FOLD}{i + 1}" for i in range(len(names))]
    if sorted(folds) == names and len(folds) >= _FEWEST_FOLDS:
        return len(folds)
    if {"train", "test"} <= {*names} <= {*GIVEN}:
        return 0
    raise DataError(
        f"{log.path}: expected the given parts {', '.join(GIVEN)}, or at least {_FEWEST_FOLDS} "
        f'folds, found {", ".join(names)}; say split.by = "request" instead'
    )


def _by_request(log: RequestLog, settings: RequestSplit) -> Split:
    rank = _ranks(log, settings.seed)
    test = max(1, round(len(rank) * settings.test))
    validation = max(1, round(len(rank) * settings.validation))
    if test + validation >= len(rank):
        raise DataError(
            f"{log.path}: {len(rank)} requests are too few to split by request into train, "
            f"{validation} to validate and {test} to test; add requests, or lower "
            "split.validation and split.test"
        )
    part = np.where(rank < test, 2, np.where(rank < test + validation, 1, 0))
    return _split(part)


def _by_fold(log: RequestLog, settings: FoldSplit) -> Split:
    rank = _ranks(log, settings.seed)
    if len(rank) < settings.folds:
        raise DataError(
            f"{log.path}: {len(rank)} requests are too few for {settings.folds} folds; "
            "lower split.folds, or add requests"
        )
    # Counted from the fold that tests: it is 0, the one that validates 1, the others train.
    after = (rank % settings.folds - settings.fold) % settings.folds
    return _split(np.where(after == 0, 2, np.where(after == 1, 1, 0)))


def _by_day(log: RequestLog, settings: DaySplit) -> Split:
    parts = log.manifest.parts
    days = days_of(log)
    left = days[: len(days) - settings.skip_last]
    held = settings.validation_days + settings.test_days
    if len(left) <= held:
        skipped = f", of which the last {settings.skip_last} are skipped" * bool(settings.skip_last)
        raise DataError(
            f"{log.path}: has requests of {len(days)} days{skipped}; {settings.validation_days} to "
            f"validate and {settings.test_days} to test leave none to train; lower "
            "split.validation_days, split.test_days or split.skip_last, or say "
            'split.by = "request"'
        )
    part_of = dict.fromkeys(left, 0)
    part_of |= dict.fromkeys(left[-held:], 1) | dict.fromkeys(left[-settings.test_days :], 2)
    of_part = [part_of.get(p.day, _SKIPPED) for p in parts if p.day]
    return _split(np.repeat(of_part, [p.requests for p in parts]))


def _as_given(log: RequestLog, settings: GivenSplit) -> Split:
    folds, parts = given_folds(log), log.manifest.parts
    if settings.fold >= max(folds, 1):
        told = f"{folds} folds" if folds else "one split and no folds"
        raise DataError(f"{log.path}: came with {told}; split.fold must be less than {folds or 1}")
    if folds:
        place = {f"{FOLD}{i + 1}": (settings.fold - i) % folds for i in range(folds)}
        of_part = [{0: 2, 1: 1}.get(place[str(p.given)], 0) for p in parts]
    else:
        of_part = [GIVEN.index(str(p.given)) for p in parts]
    part = np.repeat(of_part, [p.requests for p in parts])
    if 1 not in of_part:
        ranked = np.flatnonzero(part == 0)
        ranked = ranked[_ranks(log, settings.seed)[ranked].argsort()]
        count = max(1, round(len(ranked) * settings.validation))
        if count == len(ranked):
            raise DataError(f"{log.path}: one training request is too few to validate by another")
        part[ranked[:count]] = 1
    return _split(part)


def _ranks(log: RequestLog, seed: int) -> Rows:
    """Place of each request in an order that ids and seed decide."""
    ids = pl.concat([frame["request_id"] for frame in log.frames(["request_id"])])
    keys = mix(hashed(ids) ^ seeded(seed))
    # Equal hashes of different ids are all but impossible; the id decides them nevertheless.
    order = pl.DataFrame({"key": keys, "id": ids}).select(pl.arg_sort_by("key", "id")).to_series()
    rank = np.empty(len(ids), dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(ids))
    return rank


def _split(part: NDArray[np.integer]) -> Split:
    train, validation, test = (np.flatnonzero(part == which) for which in range(3))
    return Split(train=train, validation=validation, test=test)
