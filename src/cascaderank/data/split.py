"""Splits of requests into training, validation and test sets: by request, fold or day, or as given.

All candidates of a request are in the same set. A split depends only on the set of request ids and
on the settings, not on the order of files and rows.
"""

from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal, Self, assert_never

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field, StrictFloat, StrictInt, model_validator

from cascaderank.data.encoding.hashing import hashed, mix, seeded
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import DataError, counted
from cascaderank.settings.base import Count, CountOrZero, Settings

Rows = NDArray[np.int64]
SignedSeed = Annotated[StrictInt, Field(ge=-(2**63), le=2**63 - 1)]
"""Seed of a split: any 64-bit integer."""
GIVEN = ("train", "validation", "test")
"""Part names of data that is published as one split."""
FOLD = "fold-"
"""Prefix of the part names of data that is published as folds; a number from 1 follows."""
_FEWEST_FOLDS = 3  # one each for training, validation and test
_SKIPPED = -1


class RequestSplit(Settings):
    """Random split by request.

    Examples:
        >>> RequestSplit(test=0.2).validation
        0.1
    """

    by: Literal["request"] = "request"
    validation: StrictFloat = Field(0.1, gt=0, lt=1)
    """Fraction of the requests for validation; the number is rounded and at least 1."""
    test: StrictFloat = Field(0.1, gt=0, lt=1)
    """Fraction of the requests for the test; the number is rounded and at least 1."""
    seed: SignedSeed = 0
    """Seed of the random order of the requests."""

    @model_validator(mode="after")
    def _leaves_training_requests(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(
                f"validation + test must be less than 1; got {self.validation} and {self.test}"
            )
        return self


class FoldSplit(Settings):
    """Cross-validation: one fold for the test, the next for validation, the others for training.

    Examples:
        >>> [FoldSplit(folds=3, fold=i).fold for i in range(3)]
        [0, 1, 2]
    """

    by: Literal["fold"] = "fold"
    folds: StrictInt = Field(5, ge=3, le=10_000)
    """Number of folds; their sizes differ by at most one request."""
    fold: CountOrZero = 0
    """Index of the test fold, from 0."""
    seed: SignedSeed = 0
    """Seed of the random assignment of requests to folds."""

    @model_validator(mode="after")
    def _fold_exists(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"fold must be 0 to {self.folds - 1}; got {self.fold}")
        return self


class DaySplit(Settings):
    """Split by day: the last days for the test, the days before them for validation.

    All earlier days are for training. Days are those of the request log: UTC, unless its source
    defines its days. ``skip_last`` ends the log earlier, as for a model trained some days ago.

    Examples:
        >>> DaySplit(test_days=2).validation_days
        1
    """

    by: Literal["day"] = "day"
    validation_days: CountOrZero = 1
    """Number of validation days, counted among days with requests; with 0, training has no
    validation and ends with its last step."""
    test_days: Count = 1
    """Number of test days, counted among days with requests."""
    skip_last: CountOrZero = 0
    """Number of last days in none of the sets, counted among days with requests."""


class GivenSplit(Settings):
    """Split published with the data, such as ``train.txt``, ``vali.txt`` and ``test.txt``.

    Of data published as folds, one fold is for the test, the fold before it for validation and the
    others for training, as in LETOR 4.0 and MSLR. :func:`given_folds` returns the number of folds.

    Examples:
        >>> GivenSplit().fold
        0
    """

    by: Literal["given"] = "given"
    fold: CountOrZero = 0
    """Index of the test fold, from 0: the published fold number ``fold + 1``."""
    validation: StrictFloat = Field(0.1, gt=0, lt=1)
    """Fraction of the training requests for validation, if the data has no validation part."""
    seed: SignedSeed = 0
    """Seed of the choice of these validation requests."""


SplitSettings = Annotated[
    RequestSplit | FoldSplit | DaySplit | GivenSplit, Field(discriminator="by")
]
"""Settings of a split, discriminated by ``by``."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Three disjoint, sorted sets of row numbers of a request log.

    Rows are counted over the parts in the order of the manifest. The sets cover all rows, except
    those of days skipped by :class:`DaySplit`.
    """

    train: Rows
    """Row numbers of the training requests."""
    validation: Rows
    """Row numbers of the validation requests."""
    test: Rows
    """Row numbers of the test requests."""


def split_requests(
    log: RequestLog, settings: RequestSplit | FoldSplit | DaySplit | GivenSplit
) -> Split:
    """Split the requests of a log.

    Args:
        log: the data set.
        settings: kind and parameters of the split.

    Returns:
        The three sets of row numbers; none is empty, but that of 0 validation days.

    Raises:
        DataError: if a set would be empty, or if the split needs timestamps or given parts and
            the log has none; the message names the settings to change.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from cascaderank.data.log.request_log import RequestLogWriter
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
    """Return the days with requests, in order.

    Days are in UTC, unless the source of the log defines its days.

    Raises:
        DataError: if the requests have no timestamps.
    """
    days = sorted({p.day for p in log.manifest.parts if p.day is not None})
    if not days:
        raise DataError(
            f"{log.path}: a split by day needs timestamps; the requests have none; "
            'set split.by = "request" instead'
        )
    return days


def given_folds(log: RequestLog) -> int:
    """Return the number of folds that the data is published as; 0 for one split without folds.

    Raises:
        DataError: if the data is published without parts, or with other part names than those of
            :data:`GIVEN` and :data:`FOLD`.
    """
    parts = {p.given for p in log.manifest.parts}
    if None in parts:
        raise DataError(
            f"{log.path}: the data set has no given parts; "
            'set split.by = "request" instead, or "fold"'
        )
    names = sorted(map(str, parts))
    folds = [f"{FOLD}{i + 1}" for i in range(len(names))]
    if sorted(folds) == names and len(folds) >= _FEWEST_FOLDS:
        return len(folds)
    if {"train", "test"} <= {*names} <= {*GIVEN}:
        return 0
    raise DataError(
        f"{log.path}: expected the given parts {', '.join(GIVEN)}, or at least {_FEWEST_FOLDS} "
        f'folds, found {", ".join(names)}; set split.by = "request" instead'
    )


def check_folds(log: RequestLog, settings: FoldSplit) -> None:
    """Check that no fold is empty.

    Raises:
        DataError: if there are more folds than requests.
    """
    requests = log.manifest.requests
    if requests < settings.folds:
        raise DataError(
            f"{log.path}: {_too_few(requests)} for {settings.folds} folds; "
            "lower split.folds, or add requests"
        )


def _too_few(requests: int) -> str:
    return f"{counted(requests, 'request')} {'is' if requests == 1 else 'are'} too few"


def _by_request(log: RequestLog, settings: RequestSplit) -> Split:
    rank = _ranks(log, settings.seed)
    test = max(1, round(len(rank) * settings.test))
    validation = max(1, round(len(rank) * settings.validation))
    if test + validation >= len(rank):
        raise DataError(
            f"{log.path}: {_too_few(len(rank))} for {counted(validation, 'validation request')}, "
            f"{counted(test, 'test request')} and at least 1 training request; add requests, or "
            "lower split.validation and split.test"
        )
    part = np.where(rank < test, 2, np.where(rank < test + validation, 1, 0))
    return _split(part)


def _by_fold(log: RequestLog, settings: FoldSplit) -> Split:
    check_folds(log, settings)
    rank = _ranks(log, settings.seed)
    # Index relative to the test fold: 0 is the test fold, 1 validation, the others training.
    after = (rank % settings.folds - settings.fold) % settings.folds
    return _split(np.where(after == 0, 2, np.where(after == 1, 1, 0)))


def _by_day(log: RequestLog, settings: DaySplit) -> Split:
    parts = log.manifest.parts
    days = days_of(log)
    used = days[: len(days) - settings.skip_last]
    held_out = settings.validation_days + settings.test_days
    if len(used) <= held_out:
        skipped = f", of which the last {settings.skip_last} are skipped" * bool(settings.skip_last)
        raise DataError(
            f"{log.path}: has requests of {counted(len(days), 'day')}{skipped}; "
            f"{counted(settings.validation_days, 'validation day')} and "
            f"{counted(settings.test_days, 'test day')} leave no training days; lower "
            "split.validation_days, split.test_days or split.skip_last, or "
            'set split.by = "request"'
        )
    part_of = dict.fromkeys(used, 0)
    part_of |= dict.fromkeys(used[-held_out:], 1) | dict.fromkeys(used[-settings.test_days :], 2)
    of_part = [part_of.get(p.day, _SKIPPED) for p in parts if p.day]
    return _split(np.repeat(of_part, [p.requests for p in parts]))


def _as_given(log: RequestLog, settings: GivenSplit) -> Split:
    folds, parts = given_folds(log), log.manifest.parts
    if settings.fold >= max(folds, 1):
        available = f"{folds} folds" if folds else "one split and no folds"
        raise DataError(
            f"{log.path}: split.fold must be less than {folds or 1}, because the data set has "
            f"{available}; got {settings.fold}"
        )
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
            raise DataError(
                f"{log.path}: the validation set would hold all {count} training requests; add "
                "requests, or lower split.validation"
            )
        part[ranked[:count]] = 1
    return _split(part)


def _ranks(log: RequestLog, seed: int) -> Rows:
    """Return the rank of each request in a random order that depends on its id and the seed."""
    ids = pl.concat([frame["request_id"] for frame in log.frames(["request_id"])])
    keys = mix(hashed(ids) ^ seeded(seed))
    # Different ids practically never have equal hashes; such a tie is broken by the id.
    order = pl.DataFrame({"key": keys, "id": ids}).select(pl.arg_sort_by("key", "id")).to_series()
    rank = np.empty(len(ids), dtype=np.int64)
    rank[order.to_numpy()] = np.arange(len(ids))
    return rank


def _split(part: NDArray[np.integer]) -> Split:
    train, validation, test = (np.flatnonzero(part == which) for which in range(3))
    return Split(train=train, validation=validation, test=test)
