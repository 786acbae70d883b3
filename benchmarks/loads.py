"""What a client plans, and what it saw."""

from dataclasses import dataclass
from random import Random
from typing import Literal

Arrivals = Literal["even", "poisson"]
_TAIL = 1.0  # seconds for them without a backlog


@dataclass(frozen=True)
class Load:
    """What a client saw."""

    planned: int
    """Requests, without those of the warm-up."""
    answered: int
    """Answers of status 200."""
    refused: int
    """Answers of status 503."""
    failed: int
    """Other answers, broken connections, and requests without an answer at the end."""
    throughput: float
    """Answers of status 200 per second."""
    p50: float
    """Milliseconds from the planned time to the last byte of the answer; NaN without answers."""
    p99: float
    late: float
    """99th percentile of the milliseconds by which the client itself sent too late."""
    processor: float
    """Share of one core that the client took."""
    seconds: float
    total: int
    """Answers of status 200, with those of the warm-up."""
    tail: float
    """Seconds from the planned end to the last answer."""

    @property
    def held(self) -> bool:
        """Whether every request was answered, without a backlog at the end."""
        return self.answered == self.planned > 0 and self.tail <= _TAIL


def percentile(values: list[float], share: float) -> float:
    """Return the value that a share of the values does not exceed; NaN without values.

    >>> percentile([3.0, 1.0, 2.0, 4.0], 0.5), percentile([1.0, 2.0], 0.99)
    (2.0, 2.0)
    """
    if not values:
        return float("nan")
    return sorted(values)[max(0, -(-len(values) * round(1000 * share) // 1000) - 1)]


def planned_times(rate: float, seconds: float, arrivals: Arrivals, seed: int = 0) -> list[float]:
    """Return the times of requests in seconds from the start, ascending.

    >>> planned_times(4, 1, "even")
    [0.0, 0.25, 0.5, 0.75]
    """
    if arrivals == "even":
        return [number / rate for number in range(round(rate * seconds))]
    draws, times, now = Random(seed), [], 0.0
    while (now := now + draws.expovariate(rate)) < seconds:
        times.append(now)
    return times
