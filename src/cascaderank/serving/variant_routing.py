"""Which bundle answers a request: the main one, or another of an experiment."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from cascaderank.errors import ConfigError, did_you_mean

MAIN: Final = "main"
"""Variant of the bundle that a server is started with."""


@final
@dataclass(frozen=True, kw_only=True)
class Routing:
    """Shares of requests of each variant, and how else variants are compared.

    Args:
        variants: names of the variants, of which ``main`` is one.

    Raises:
        ConfigError: if a variant does not exist or has no use, shares are not between 0 and 1 or
            sum to more, or interleaving is combined with shares.

    Examples:
        >>> routing = Routing(variants=("main", "other"), ab={"other": 0.5})
        >>> [routing.variant_of(f"user {i}") for i in range(4)]
        ['other', 'main', 'other', 'other']
    """

    variants: Sequence[str]
    ab: Mapping[str, float] = field(default_factory=dict)
    """Share of the requests that another variant answers, by variant."""
    shadow: Sequence[str] = ()
    """Variants that rank every request, too, for metrics and the log only."""
    interleave: str | None = None
    """Variant whose list is interleaved with that of the main one, in every answer."""
    key: str | None = None
    """Feature of the request whose value selects the variant, such as a user; default: the id of
    the request. Requests without a value are selected by their id."""

    def __post_init__(self) -> None:
        others = [name for name in self.variants if name != MAIN]
        used = [*self.ab, *self.shadow, *([self.interleave] if self.interleave else [])]
        for name in used:
            if name not in others:
                raise ConfigError(
                    f"expected the name of a further bundle, found '{name}'"
                    f"{did_you_mean(name, others)}; give its folder with --bundle {name}=FOLDER"
                )
        idle = [name for name in others if name not in used]
        if idle:
            raise ConfigError(
                f"bundle '{idle[0]}' is not used; add --ab {idle[0]}=SHARE, --shadow {idle[0]} or "
                f"--interleave {idle[0]}"
            )
        if any(not 0 < share < 1 for share in self.ab.values()) or sum(self.ab.values()) > 1:
            raise ConfigError(
                f"shares must be between 0 and 1 and sum to at most 1; got {dict(self.ab)}"
            )
        if self.interleave and self.ab:
            raise ConfigError(
                "expected shares or interleaving, found both: a list that is interleaved has items "
                "of both bundles; leave --ab or --interleave out"
            )

    def key_of(self, request: Mapping[str, Any], request_id: str) -> str:
        """Return the text that selects the variant of a request."""
        value = request.get(self.key) if self.key is not None else None
        return request_id if value is None else str(value)

    def variant_of(self, key: str) -> str:
        """Return the variant that answers requests of this key, the same in every process."""
        point, low = number_of(key) / 2**64, 0.0
        for name, share in self.ab.items():
            low += share
            if point < low:
                return name
        return MAIN


def number_of(key: str) -> int:
    """Return a number of 64 bits, uniform over keys."""
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")
