"""Settings and counts of a log of served requests."""

from dataclasses import asdict, dataclass, field
from typing import Any, final

from cascaderank.errors import ConfigError
from cascaderank.serving.exploration import Exploration
from cascaderank.serving.logged_candidates import Sampling


@final
@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """Settings of a log of served requests.

    Args:
        sampling: number of candidates to log of those that each stage dropped.
        exploration: noise on the request vector of the first stage; ``None`` for none.
        propensity_draws: number of draws of the noise from which the probability of each logged
            candidate to be served is estimated; 0 for no probabilities.
        requests_per_part: number of requests after which a part is written.
        seconds_per_part: seconds after which a part is written. A kill loses what is newer.
        queue: number of requests and responses that may wait; others are dropped, and counted.

    Raises:
        ConfigError: if a number is out of range.
    """

    sampling: Sampling = field(default_factory=Sampling)
    exploration: Exploration | None = None
    propensity_draws: int = 0
    requests_per_part: int = 10_000
    seconds_per_part: float = 60.0
    queue: int = 10_000

    def __post_init__(self) -> None:
        for name, least in (("propensity_draws", 0), ("requests_per_part", 1), ("queue", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}; got {getattr(self, name)}")
        if not 0 < self.seconds_per_part < float("inf"):
            raise ConfigError(f"seconds_per_part must be positive; got {self.seconds_per_part}")


@final
@dataclass(kw_only=True)
class LogStatus:
    """Counts of a log of served requests since it was opened."""

    recorded: int = 0
    """Requests that were accepted."""
    written: int = 0
    """Requests in parts on the disk."""
    overflowed: int = 0
    """Requests that were lost, since the queue was full."""
    dropped: int = 0
    """Requests that were lost, since the disk could not be written."""
    refused: int = 0
    """Requests that do not fit the log, such as one with a null in a feature that has none."""
    repeated: int = 0
    """Requests with an id that the log has already."""
    empty: int = 0
    """Requests without a candidate to log, such as one whose filters left all items out."""
    feedback: int = 0
    """Responses that were accepted."""
    joined: int = 0
    """Responses that were written."""
    lost_feedback: int = 0
    """Responses that were lost, since the queue was full."""
    unmatched: int = 0
    """Responses to requests or items that the log does not have, or too many that wait for them."""
    problem: str | None = None
    """The latest problem in words; ``None`` without one."""

    @property
    def lost(self) -> int:
        """Requests that were served and are not in the log, other than repeated and empty ones."""
        return self.overflowed + self.dropped + self.refused

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        return asdict(self)
