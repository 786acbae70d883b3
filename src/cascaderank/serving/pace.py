"""Expected time of a stage by the number of its candidates, from measured times."""

from typing import final

_WEIGHT = 1 / 16  # of the latest measurement in the moving averages
_DECAY = 0.95  # of the expectation after each request without the stage


@final
class Pace:
    """Moving averages of times and numbers of candidates, and the line that fits them best.

    An update is one assignment, so that threads can share a pace; of two simultaneous updates one
    may be lost.

    Examples:
        >>> pace = Pace()
        >>> pace.expected(100)
        0.0
        >>> for candidates in 400 * [10, 30]:
        ...     pace.took(2.0 + 0.1 * candidates, candidates)
        >>> round(pace.expected(100), 3)
        12.0
    """

    def __init__(self) -> None:
        self._means: tuple[float, float, float, float] | None = None

    def took(self, milliseconds: float, candidates: int) -> None:
        """Add a measured time."""
        n, ms = float(candidates), milliseconds
        new = (n, ms, n * n, n * ms)
        means = self._means or new
        first, second, third, fourth = (
            old + (value - old) * _WEIGHT for old, value in zip(means, new, strict=True)
        )
        self._means = first, second, third, fourth

    def expected(self, candidates: int) -> float:
        """Return the expected milliseconds; 0 before the first measurement.

        If all measurements had nearly the same number of candidates, time is proportional to it.
        """
        if self._means is None:
            return 0.0
        n, ms, nn, nms = self._means
        variance = nn - n * n
        if variance <= 1e-4 * n * n:
            return ms * max(1.0, candidates / max(n, 1.0))
        slope = max(0.0, (nms - n * ms) / variance)
        return max(ms + slope * (candidates - n), 0.0)

    def left_out(self) -> None:
        """Lower the expectation a little: a stage that never runs would never be measured again."""
        if self._means is not None:
            n, ms, nn, nms = self._means
            self._means = n, ms * _DECAY, nn, nms * _DECAY
