"""Folds of a comparison: one split, all folds of a split, or the last days in turn."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import (
    DaySplit,
    FoldSplit,
    GivenSplit,
    check_folds,
    days_of,
    given_folds,
)
from cascaderank.errors import ConfigError, DataError
from cascaderank.settings.run import RunSettings


@final
@dataclass(frozen=True, kw_only=True)
class Fold:
    """One split of the data, on which all methods are trained and evaluated."""

    name: str
    """Name, such as ``"fold 0"`` or ``"day 2024-01-09"``."""
    settings: RunSettings
    """Settings shared by all methods, with this split."""

    @property
    def folder(self) -> str:
        """Name of the folders of its runs."""
        return self.name.replace(" ", "-")


MOST_RUNS = 100_000
"""Largest number of runs of a comparison or a heat map; beyond it, a number is a mistake."""


def check_runs(runs: int, remedy: str) -> None:
    """Check the number of runs before they are planned.

    Args:
        runs: number of runs.
        remedy: settings to change, for the message.

    Raises:
        ConfigError: if there are more than :data:`MOST_RUNS`.
    """
    if runs > MOST_RUNS:
        raise ConfigError(f"expected at most {MOST_RUNS:,} runs, found {runs:,}; {remedy}")


def folds_of(settings: RunSettings, log: RequestLog) -> list[Fold]:
    """Return the folds of a comparison, in the order of execution.

    With ``compare.streaming``, each of the last days is the test set of one fold. Its models are
    validated on the days just before it and trained on all earlier days, which simulates daily
    retraining.

    Args:
        settings: settings of the comparison.
        log: request log.

    Raises:
        ConfigError: if streaming is set but the split is not by day.
        DataError: if the log has too few days, or fewer requests than folds.
    """
    split = settings.data.split
    if settings.compare.streaming is not None:
        if not isinstance(split, DaySplit):
            raise ConfigError(f'compare.streaming needs data.split.by = "day"; got "{split.by}"')
        return list(_days(settings, split, log, settings.compare.streaming))
    folds = 0
    if isinstance(split, FoldSplit):
        check_folds(log, split)
        folds = split.folds
    if isinstance(split, GivenSplit):
        folds = given_folds(log)
    if folds:
        return [
            Fold(name=f"fold {i}", settings=settings.changed({"data.split.fold": i}))
            for i in range(folds)
        ]
    return [Fold(name="fold 0", settings=settings)]


def _days(settings: RunSettings, split: DaySplit, log: RequestLog, tests: int) -> Iterator[Fold]:
    days = days_of(log)
    days = days[: len(days) - split.skip_last]
    if len(days) < tests + split.validation_days + 1:
        raise DataError(
            f"{log.path}: streaming needs at least {tests + split.validation_days + 1} days "
            f"({tests} to test, {split.validation_days} to validate, 1 to train); got {len(days)}; "
            "lower compare.streaming or data.split.validation_days"
        )
    for i, day in enumerate(days[-tests:]):
        skipped = split.skip_last + tests - 1 - i
        changes = {"data.split.test_days": 1, "data.split.skip_last": skipped}
        yield Fold(name=f"day {day}", settings=settings.changed(changes))
