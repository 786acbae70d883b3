"""How the values of a method are chosen: the same number of trials for each, by validation.

Nothing here trains. A plan asks for trials and is told how they ended, so that the trials of all
methods can be run at the same time.
"""

import itertools
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from cascaderank.comparison import TuningSettings
from cascaderank.config import RunSettings
from cascaderank.errors import ConfigError, DivergedError
from cascaderank.experiments.methods import Method, Point
from cascaderank.training.run import RunResult


@final
@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run that a plan asks for."""

    point: Point
    seed: int
    extension: bool = False
    """Whether it is beyond what was planned at first."""


@final
@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a trial ended."""

    result: RunResult | None
    """``None`` if it broke down."""
    failed: str | None
    """Why it broke down."""
    seconds: float


@final
@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What tuning came to."""

    runs: list[RunResult]
    """Of the chosen point, by seed."""
    record: dict[str, Any]
    """What was chosen and all that was tried, as :class:`MethodRuns` has it."""


Plan = Generator[list[Trial], list[Outcome], Tuned]
"""Asks for trials, hears how they ended in that order, and comes to a choice."""


def drawn(axes: Mapping[str, Sequence[Any]], settings: TuningSettings) -> list[dict[str, Any]]:
    """Draw the points of a grid that are tried; each axis uses its values as evenly as can be.

    Args:
        axes: values by the names of settings.
        settings: how many to draw, and by which seed.

    Returns:
        As many points as ``settings.trials``, or all if the grid has no more, in its order.

    Examples:
        >>> axes = {"train.learning_rate": (0.01, 0.1), "train.batch_size": (8, 16)}
        >>> for point in drawn(axes, TuningSettings(trials=2)):
        ...     print(point)
        {'train.learning_rate': 0.01, 'train.batch_size': 8}
        {'train.learning_rate': 0.1, 'train.batch_size': 16}

    Source: this project.
    """
    sizes = [len(values) for values in axes.values()]
    total = math.prod(sizes)
    if settings.trials is None or settings.trials >= total:
        points = list(itertools.product(*axes.values()))
    else:
        places = sorted(_spread(sizes, settings.trials, settings.seed))
        points = [tuple(v[i] for v, i in zip(axes.values(), p, strict=True)) for p in places]
    return [dict(zip(axes, point, strict=True)) for point in points]


def _spread(sizes: Sequence[int], trials: int, seed: int) -> list[tuple[int, ...]]:
    """Different places in a grid; on each axis, no value is used twice more than another.

    An axis goes round and round its values, in an order that chance decides. Where it would come
    to meet what the axes before it have gone through together, it skips one.
    """
    chance = np.random.default_rng(seed)
    columns, before = [], 1
    for size in sizes:
        around = math.lcm(before, size)
        turns = [(i + i % (before * size) // around) % size for i in range(trials)]
        columns.append(chance.permutation(size)[turns].tolist())
        before *= size
    return list(zip(*columns, strict=True))


def planned(method: Method, run: RunSettings) -> int:
    """Return how many runs a plan asks for, extensions not counted."""
    settings, seeds = run.compare.tuning, run.compare.seeds
    points = math.prod(map(len, method.axes.values()))
    points = min(points, settings.trials or points)
    return points * settings.seeds + max(0, seeds - settings.seeds)


def tune(method: Method, run: RunSettings) -> Plan:
    """Plan the trials of one method on one fold; the recall of validation requests decides.

    The points of the grid are tried with the seeds of tuning. While the best value of an axis of
    numbers is its smallest or largest, values beyond it are tried, the others kept: in steps of
    the ratio of the last two, at most ``extend`` of them. The best point gets all seeds.

    Args:
        method: what is tuned.
        run: settings that all methods share; ``compare`` in it says how much is tried.

    Raises:
        DivergedError: if training breaks down at every point, or at the chosen one with one of
            the other seeds.

    Source: this project.
    """
    settings, seeds = run.compare.tuning, run.compare.seeds
    points = drawn(method.axes, settings)
    values = {name: list(v) for name, v in method.axes.items() if _is_scale(v)}
    # With nothing to choose from, nothing has to be waited for.
    at_once = seeds if len(points) == 1 and not values else 0
    tried = yield from _tried(points, max(settings.seeds, at_once))
    best = _best(tried)
    for axis, scale in values.items():
        for _ in range(settings.extend):
            beyond = _beyond(method, run, best.point, axis, scale)
            if beyond is None or best.failed:
                break
            scale.append(beyond)
            further = {**best.point, axis: beyond}
            tried += yield from _tried([further], settings.seeds, extension=True)
            if _best(tried) is best:
                break
            best = _best(tried)
    if best.failed:
        raise DivergedError(f"{method.name}: {best.failed}")
    more = [Trial(point=best.point, seed=s) for s in range(len(best.outcomes), seeds)]
    outcomes = best.outcomes + ((yield more) if more else [])
    for outcome in outcomes[:seeds]:
        if outcome.failed:
            raise DivergedError(f"{method.name}: {outcome.failed}")
    record = {
        "chosen": dict(best.point),
        "tried": [t.record(settings.seeds) for t in tried],
        "at_edge": [a for a, scale in values.items() if _beyond(method, run, best.point, a, scale)],
    }
    return Tuned(runs=[o.result for o in outcomes[:seeds] if o.result], record=record)


@final
@dataclass(frozen=True, eq=False)
class _Tried:
    """A point with how its seeds ended."""

    point: Point
    outcomes: list[Outcome]

    @property
    def failed(self) -> str | None:
        return next((o.failed for o in self.outcomes if o.failed), None)

    def validation(self, seeds: int | None = None) -> float | None:
        """Mean over seeds; ``None`` if it failed or no validation request has ground truth."""
        results = [o.result for o in self.outcomes[:seeds]]
        found = [r.validation for r in results if r is not None and r.validation is not None]
        return None if self.failed or not found else float(np.mean(found))

    def record(self, seeds: int) -> dict[str, Any]:
        record = {
            "values": dict(self.point),
            "validation": self.validation(seeds),
            "seconds": round(sum(o.seconds for o in self.outcomes[:seeds]), 3),
        }
        return record | ({"failed": self.failed} if self.failed else {})


def _tried(
    points: Sequence[Point], seeds: int, *, extension: bool = False
) -> Generator[list[Trial], list[Outcome], list[_Tried]]:
    outcomes = yield [
        Trial(point=point, seed=seed, extension=extension)
        for point in points
        for seed in range(seeds)
    ]
    return [_Tried(p, outcomes[i * seeds : (i + 1) * seeds]) for i, p in enumerate(points)]


def _best(tried: Sequence[_Tried]) -> _Tried:
    """The first of those that validate best; one that failed only if all did."""

    def rank(one: _Tried) -> float:
        if one.failed:
            return -math.inf
        validation = one.validation()
        return -1.0 if validation is None else validation

    return max(tried, key=rank)


def _is_scale(values: Sequence[Any]) -> bool:
    return len(values) > 1 and all(type(v) in (int, float) for v in values)


def _beyond(
    method: Method, run: RunSettings, point: Point, axis: str, values: Sequence[float]
) -> float | None:
    """The next value beyond the end at which a point is; ``None`` if it is at none."""
    for ordered in (sorted(values), sorted(values, reverse=True)):
        if point[axis] == ordered[-1]:
            value = _next(ordered[-2], ordered[-1])
            if value is None or value in values:
                return None
            try:
                method.settings(run, {**point, axis: value})
            except ConfigError:  # the setting itself ends there
                return None
            return value
    return None


def _next(before: float, last: float) -> float | None:
    """Go on from two values in the ratio of them, or by their difference if they have none."""
    if last == 0:
        return None  # a setting that is off cannot be more so
    value = last * (last / before) if before * last > 0 else last + (last - before)
    value = float(f"{value:.6g}")  # 0.09 and not 0.09000000000000001
    return round(value) if isinstance(before, int) and isinstance(last, int) else value
