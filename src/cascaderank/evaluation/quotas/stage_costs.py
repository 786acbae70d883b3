"""Cost of a cascade as a function of its quotas: multiply-adds, or milliseconds on this machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError, ShapeError
from cascaderank.evaluation.profile import Profile, profile_cascade
from cascaderank.evaluation.quotas.request_block import Floats, Integers
from cascaderank.previous import schema_with_previous
from cascaderank.schema import FittedSchema
from cascaderank.stages import multiply_adds

Unit = Literal["products", "ms"]
"""Unit of a cost: multiply-adds in matrix products, or milliseconds."""

_LENGTHS = 10  # list lengths at which stages are timed


@final
@dataclass(frozen=True, kw_only=True)
class StageCost:
    """Cost of one stage by its number of candidates: linear between given points.

    Below the first point the cost is that of the first; beyond the last, it grows as between the
    last two. Two points, 0 and 1, define a cost per request and a cost per candidate.

    Examples:
        >>> StageCost(candidates=(0, 1), costs=(5.0, 7.0)).of(np.array([0, 10]))
        array([ 5., 25.])

    Source: this project.
    """

    candidates: tuple[int, ...]
    """At least two numbers of candidates, ascending."""
    costs: tuple[float, ...]
    """Cost of a request with each of them; at least 0 and non-decreasing."""

    def __post_init__(self) -> None:
        """Check the points.

        Raises:
            ConfigError: if they are no non-decreasing function, or are too few.
        """
        numbers, costs = np.array(self.candidates), np.array(self.costs, dtype=np.float64)
        fits = len(numbers) >= 2 and numbers.shape == costs.shape and numbers[0] >= 0
        if not fits or not (np.diff(numbers) > 0).all() or not (np.diff(costs) >= 0).all():
            raise ConfigError(
                "a cost needs at least two ascending numbers of candidates with costs that do not "
                f"fall; got {list(self.candidates)} with {list(self.costs)}"
            )
        if not 0 <= costs[0] <= costs[-1] < np.inf:
            raise ConfigError(f"costs must be finite and at least 0; got {list(self.costs)}")

    def of(self, candidates: NDArray[np.integer]) -> Floats:
        """Return the cost of requests with some numbers of candidates, of the same shape."""
        (a, b), (x, y) = self.candidates[-2:], self.costs[-2:]
        beyond = np.maximum(np.asarray(candidates) - b, 0) * (y - x) / (b - a)
        within = np.interp(candidates, self.candidates, self.costs)
        return np.asarray(within + beyond, dtype=np.float64)


def product_costs(
    cascade: Cascade, schema: FittedSchema, *, history: int = 50
) -> dict[str, StageCost]:
    """Return the multiply-adds of each stage per request and per candidate.

    Args:
        cascade: the cascade.
        schema: fitted schema with which its stages were built.
        history: number of entries of each history.

    Examples:
        >>> from cascaderank.cascade import build_stage
        >>> from cascaderank.schema import Feature
        >>> schema = FittedSchema(features=(Feature(name="x", role="item", kind="numeric"),))
        >>> cascade = Cascade({"only": build_stage("linear", schema)}, quotas=(2,))
        >>> product_costs(cascade, schema)["only"].of(np.array([100]))
        array([100.])
    """
    outputs = {output for previous in cascade.previous.values() for output in previous}
    schema = schema_with_previous(schema, sorted(outputs))
    counts = {
        name: multiply_adds(stage, schema, history=history)
        for name, stage in cascade.stages.items()
    }
    return {
        name: StageCost(candidates=(0, 1), costs=(float(c.of(0)), float(c.of(1))))
        for name, c in counts.items()
    }


def latency_costs(profile: Profile) -> dict[str, StageCost]:
    """Return the median milliseconds of each stage of a profile, for single requests.

    Times that fall as lists grow are replaced by their mean (isotonic regression).

    Raises:
        ConfigError: if the profile has fewer than two list lengths.
    """
    costs = {}
    for name, stage in profile.stages.items():
        timings = [timing for timing in stage.timings if timing.requests == 1]
        milliseconds = isotonic_regression([1e3 * timing.p50 for timing in timings]).x
        costs[name] = StageCost(
            candidates=tuple(timing.candidates for timing in timings),
            costs=tuple(milliseconds.tolist()),
        )
    return costs


def timed_lengths(longest: int) -> list[int]:
    """Return the list lengths at which stages are timed: a geometric progression.

    Args:
        longest: number of candidates of the longest list.

    Examples:
        >>> timed_lengths(1000)
        [1, 2, 5, 10, 22, 46, 100, 215, 464, 1000]
    """
    lengths = np.unique(np.rint(np.geomspace(1, max(longest, 2), _LENGTHS)))
    return [int(length) for length in lengths]


def measured_costs(
    cascade: Cascade,
    schema: FittedSchema,
    *,
    longest: int,
    history: int = 50,
    seconds: float = 0.2,
    progress: Callable[[], None] | None = None,
) -> dict[str, StageCost]:
    """Measure the milliseconds of each stage for a request, by its number of candidates.

    Times are those of :func:`~cascaderank.evaluation.profile_cascade`: scoring alone, single
    requests, on the CPU, at the lengths of :func:`timed_lengths`.

    Args:
        cascade: cascade on the CPU.
        schema: fitted schema with which its stages were built.
        longest: number of candidates of the longest list.
        history: number of entries of each history.
        seconds: approximate duration of each measurement, positive.
        progress: callback, called after each measurement.
    """
    profile = profile_cascade(
        cascade,
        schema,
        lists=timed_lengths(longest),
        batch=1,
        history=history,
        seconds=seconds,
        progress=progress,
    )
    return latency_costs(profile)


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class CostTable:
    """Mean cost of each stage over some requests, by the quota of the stage before it."""

    by_quota: Floats
    """``[stages, longest + 1]``: a request with fewer candidates than the quota has all of them."""

    @classmethod
    def of(cls, costs: Mapping[str, StageCost], lengths: Integers, *, longest: int) -> "CostTable":
        """Return the table.

        Args:
            costs: cost of each stage, first stage first.
            lengths: ``[requests]`` number of candidates of each request; at least one request.
            longest: largest quota of the table.
        """
        quotas = np.arange(longest + 1)
        counts = np.bincount(np.minimum(lengths, longest), minlength=longest + 1)
        shorter = counts.cumsum()
        rows = []
        for cost in costs.values():
            each = cost.of(quotas)
            # Requests up to the quota cost as much as they have; all longer ones cost the quota.
            rows.append((counts * each).cumsum() + (len(lengths) - shorter) * each)
        return cls(by_quota=np.array(rows) / len(lengths))

    def of_quotas(self, quotas: Sequence[int]) -> float:
        """Return the mean cost of a request with some quotas; the last one costs nothing.

        Raises:
            ShapeError: if there is not one quota per stage.
        """
        if len(quotas) != len(self.by_quota):
            raise ShapeError(
                f"one quota per stage: got {len(quotas)} quotas for {len(self.by_quota)} stages"
            )
        longest = self.by_quota.shape[1] - 1
        received = [longest, *(min(quota, longest) for quota in quotas[:-1])]
        return float(self.by_quota[np.arange(len(received)), received].sum())

    def of_recalls(self, leading: Integers) -> Floats:
        """Return the mean cost of all vectors of quotas, of the shape of the recalls.

        Args:
            leading: ``[vectors, stages - 2]`` quotas, as in
                :class:`~cascaderank.evaluation.quotas.QuotaRecalls`.
        """
        fixed = self.by_quota[0, -1]
        for stage, quotas in enumerate(leading.T, start=1):
            fixed = fixed + self.by_quota[stage, quotas]
        return np.asarray(np.reshape(fixed, (-1, 1)) + self.by_quota[-1], dtype=np.float64)
