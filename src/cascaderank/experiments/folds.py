"""Over what a comparison goes: one split, all folds, or the last days one after another."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from cascaderank.config import RunSettings
from cascaderank.data.request_log import RequestLog
from cascaderank.data.split import DaySplit, FoldSplit, GivenSplit, days_of, given_folds
from cascaderank.errors import ConfigError, DataError


@final
@dataclass(frozen=True, kw_only=True)
class Fold:
    """One split of the data on which all methods are trained and judged."""

    name: str
    """Such as ``"fold 0"`` or ``"day 2024-01-09"``."""
    settings: RunSettings
    """Those that all methods share, with this split."""

    @property
    def folder(self) -> str:
        """What its folders are called."""
        return self.name.replace(" ", "-")


def folds_of(settings: RunSettings, log: RequestLog) -> list[Fold]:
    """Return the folds of a comparison, in the order in which they are run.

    With ``compare.streaming``, each of the last days is tested alone by models that were trained
    on the days before it and validated on those just before it, as if trained anew each day.

    Args:
        settings: of the comparison.
        log: the data set.

    Raises:
        ConfigError: if streaming is asked for of a split that is not by day.
        DataError: if there are too few days.
    """
    split = settings.data.split
    if settings.compare.streaming is not None:
        if not isinstance(split, DaySplit):
            raise ConfigError(f'compare.streaming needs data.split.by = "day"; it is "{split.by}"')
        return list(_days(settings, split, log, settings.compare.streaming))
    folds = split.folds if isinstance(split, FoldSplit) else 0
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
            f"{log.path}: has requests of {len(days)} days to use; {tests} to test and "
            f"{split.validation_days} to validate leave none to train; lower compare.streaming "
            "or data.split.validation_days"
        )
    for i, day in enumerate(days[-tests:]):
        skipped = split.skip_last + tests - 1 - i
        changes = {"data.split.test_days": 1, "data.split.skip_last": skipped}
        yield Fold(name=f"day {day}", settings=settings.changed(changes))
