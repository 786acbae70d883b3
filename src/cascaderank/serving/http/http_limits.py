"""Limits of requests over HTTP."""

from dataclasses import dataclass, fields
from typing import final

from cascaderank.errors import ConfigError, shown


@final
@dataclass(frozen=True, kw_only=True)
class HttpLimits:
    """What a request may contain, and how long it may take to arrive.

    Raises:
        ConfigError: if a limit is not positive.
    """

    body_bytes: int = 8 * 2**20
    """Bytes of a body."""
    candidates: int = 50_000
    """Candidates of a request, conditions and keys of filters, and candidates of a trace."""
    list_length: int = 10_000
    """Values of one list in a request, such as a history."""
    quota_factor: int = 10
    """Largest quota that a request may set, in multiples of that of the bundle."""
    header_bytes: int = 16 * 2**10
    """Bytes of the request line and all headers."""
    send_seconds: float = 10.0
    """Time to send a request, and time without progress in receiving an answer."""
    idle_seconds: float = 15.0
    """Time that a connection without a request stays open."""
    connections: int = 256
    """Connections at the same time; further ones are answered with 503."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if not 0 < value < float("inf"):
                raise ConfigError(f"{each.name} must be positive; got {shown(value)}")
