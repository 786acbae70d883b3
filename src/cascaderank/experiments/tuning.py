"""Tuning of a method by validation recall, with the same number of trials for every method.

This module does not train. A plan is a generator that yields trials and receives their outcomes, so
that the trials of all methods can run concurrently.
"""

import itertools
import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from cascaderank.errors import ConfigError, DivergedError
from cascaderank.experiments.methods import Method, Point
from cascaderank.settings.comparison import TuningSettings
from cascaderank.settings.run import RunSettings
from cascaderank.training.run_result import RunResult


@final
@dataclass(frozen=True, kw_only=True)
class Trial:
    """One run of a plan."""

    point: Point
    seed: int
    extension: bool = False
    """Whether the point lies beyond the initial grid."""


@final
@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Outcome of a trial."""

    result: RunResult | None
    """Result of the run; ``None`` if it failed."""
    failed: str | None
    """Reason of the failure; ``None`` if it succeeded."""
    seconds: float
    """Duration of the run, in seconds."""


@final
@dataclass(frozen=True, kw_only=True)
class Tuned:
    """Result of tuning a method."""

    runs: list[RunResult]
    """Runs of the chosen point, in the order of the seeds."""
    record: dict[str, Any]
    """Chosen point and all trials, in the format of ``tuning`` in
    :class:`~cascaderank.experiments.results.MethodRuns`."""


Plan = Generator[list[Trial], list[Outcome], Tuned]
"""Generator that yields trials, receives their outcomes in order, and returns the result."""


def sampled_points(
    axes: Mapping[str, Sequence[Any]], settings: TuningSettings
) -> list[dict[str, Any]]:
    """Return the points of a grid to evaluate; each axis uses its values as evenly as possible.

    Args:
        axes: values by name of the setting.
        settings: number of trials and seed.

    Returns:
        ``settings.trials`` distinct points, or all points if the grid has no more, in grid order.

    Examples:
        >>> axes = {"train.learning_rate": (0.01, 0.1), "train.batch_size": (8, 16)}
        >>> for point in sampled_points(axes, TuningSettings(trials=2)):
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
        indices = sorted(_spread(sizes, settings.trials, settings.seed))
        points = [tuple(v[i] for v, i in zip(axes.values(), p, strict=True)) for p in indices]
    return [dict(zip(axes, point, strict=True)) for point in points]


def _spread(sizes: Sequence[int], trials: int, seed: int) -> list[tuple[int, ...]]:
    """Indices of distinct points of a grid; per axis, value counts differ by at most 1.

    Each axis cycles through its values in a random order. When the cycle would repeat the
    combinations with the preceding axes, it is shifted by one value.
    """
    rng = np.random.default_rng(seed)
    columns, combinations = [], 1
    for size in sizes:
        period = math.lcm(combinations, size)
        turns = [(i + i % (combinations * size) // period) % size for i in range(trials)]
        columns.append(rng.permutation(size)[turns].tolist())
        combinations *= size
    return list(zip(*columns, strict=True))


def planned(method: Method, run: RunSettings) -> int:
    """Return the number of runs of a plan without extensions."""
    settings, seeds = run.compare.tuning, run.compare.seeds
    points = math.prod(map(len, method.axes.values()))
    points = min(points, settings.trials or points)
    return points * settings.seeds + max(0, seeds - settings.seeds)


def tune(method: Method, run: RunSettings) -> Plan:
    """Plan the trials of one method on one fold, and choose the point by validation recall.

    The points of the grid are run with the tuning seeds. While the best value of a numeric axis is
    its smallest or largest, further values beyond it are evaluated with the other axes fixed. Each
    is extrapolated by the ratio of the last two values, at most ``extend`` times per axis. The best
    point is run with all seeds.

    Args:
        method: method to tune.
        run: settings shared by all methods; ``compare`` defines the number of trials.

    Raises:
        DivergedError: if training fails at every point, or at the chosen point with one of the
            remaining seeds.

    Source: this project.
    """
    settings, seeds = run.compare.tuning, run.compare.seeds
    points = sampled_points(method.axes, settings)
    values = {name: list(v) for name, v in method.axes.items() if _is_scale(v)}
    # A single point needs no choice, so all its seeds are started at once.
    initial_seeds = seeds if len(points) == 1 and not values else 0
    evaluated = yield from _evaluate_points(points, max(settings.seeds, initial_seeds))
    best = _best(evaluated)
    for axis, scale in values.items():
        for _ in range(settings.extend):
            beyond = _beyond(method, run, best.point, axis, scale)
            if beyond is None or best.failed:
                break
            scale.append(beyond)
            further = {**best.point, axis: beyond}
            evaluated += yield from _evaluate_points([further], settings.seeds, extension=True)
            if _best(evaluated) is best:
                break
            best = _best(evaluated)
    if best.failed:
        raise DivergedError(f"{method.name}: {best.failed}")
    remaining = [Trial(point=best.point, seed=s) for s in range(len(best.outcomes), seeds)]
    outcomes = best.outcomes + ((yield remaining) if remaining else [])
    for outcome in outcomes[:seeds]:
        if outcome.failed:
            raise DivergedError(f"{method.name}: {outcome.failed}")
    record = {
        "chosen": _recorded(best.point),
        "tried": [point.record(settings.seeds) for point in evaluated],
        "at_edge": [a for a, scale in values.items() if _beyond(method, run, best.point, a, scale)],
    }
    return Tuned(runs=[o.result for o in outcomes[:seeds] if o.result], record=record)


@final
@dataclass(frozen=True, eq=False)
class _EvaluatedPoint:
    """A point of the grid with the outcomes of its seeds."""

    point: Point
    outcomes: list[Outcome]

    @property
    def failed(self) -> str | None:
        return next((o.failed for o in self.outcomes if o.failed), None)

    def validation(self, seeds: int | None = None) -> float | None:
        """Mean validation recall over seeds; ``None`` if a seed failed, or if undefined."""
        results = [o.result for o in self.outcomes[:seeds]]
        recalls = [r.validation for r in results if r is not None and r.validation is not None]
        return None if self.failed or not recalls else float(np.mean(recalls))

    def record(self, seeds: int) -> dict[str, Any]:
        record = {
            "values": _recorded(self.point),
            "validation": self.validation(seeds),
            "seconds": round(sum(o.seconds for o in self.outcomes[:seeds]), 3),
        }
        return record | ({"failed": self.failed} if self.failed else {})


def _evaluate_points(
    points: Sequence[Point], seeds: int, *, extension: bool = False
) -> Generator[list[Trial], list[Outcome], list[_EvaluatedPoint]]:
    outcomes = yield [
        Trial(point=point, seed=seed, extension=extension)
        for point in points
        for seed in range(seeds)
    ]
    return [_EvaluatedPoint(p, outcomes[i * seeds : (i + 1) * seeds]) for i, p in enumerate(points)]


def _best(points: Sequence[_EvaluatedPoint]) -> _EvaluatedPoint:
    """First point with the highest validation recall; a failed point only if all failed."""

    def rank(point: _EvaluatedPoint) -> float:
        if point.failed:
            return -math.inf
        validation = point.validation()
        return -1.0 if validation is None else validation

    return max(points, key=rank)


def _recorded(point: Point) -> dict[str, Any]:
    """Return the values of a point; JSON has no infinity, which is written as in TOML: inf."""
    infinite = {n: str(v) for n, v in point.items() if isinstance(v, float) and math.isinf(v)}
    return {**point, **infinite}


def _is_scale(values: Sequence[Any]) -> bool:
    return len(values) > 1 and all(type(v) in (int, float) for v in values)


def _beyond(
    method: Method, run: RunSettings, point: Point, axis: str, values: Sequence[float]
) -> float | None:
    """Next value beyond the end of the axis at which the point lies; ``None`` if there is none."""
    for ordered in (sorted(values), sorted(values, reverse=True)):
        if point[axis] == ordered[-1]:
            value = _next(ordered[-2], ordered[-1])
            if value is None or value in values:
                return None
            try:
                method.settings(run, {**point, axis: value})
            except ConfigError:  # beyond the valid range of the setting
                return None
            return value
    return None


def _next(before: float, last: float) -> float | None:
    """Extrapolate two values by their ratio, or by their difference if the signs differ."""
    if last == 0 or math.isinf(before) or math.isinf(last):
        return None  # 0 and infinity disable a setting; there is no value beyond them
    value = last * (last / before) if before * last > 0 else last + (last - before)
    value = float(f"{value:.6g}")  # rounds 0.09000000000000001 to 0.09
    return round(value) if isinstance(before, int) and isinstance(last, int) else value
