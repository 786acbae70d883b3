"""Findings of a check: how severe, what it is about, what was found and what to do."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import final

MANY = 0.2
"""Fraction of requests or values from which a finding is reported, as in warnings of a run."""
MOST = 0.5
"""Fraction of requests or values that are most of them."""


class Severity(StrEnum):
    """Severity of a finding, the highest first."""

    ERROR = "error"
    """Training is refused, or its result has no meaning."""
    WARNING = "warning"
    """Training or its evaluation is probably worse for it."""
    NOTE = "note"
    """A fact that may be intended."""


@final
@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding of a check."""

    severity: Severity
    """How severe it is."""
    check: str
    """What it is about, in one or two words, such as ``"leak"``."""
    message: str
    """A sentence on what was found, with numbers, and one on what to do."""

    def to_json(self) -> dict[str, str]:
        """Return the finding as JSON values."""
        return {
            "severity": self.severity.value,
            "check": self.check,
            "message": self.message,
        }


def error(check: str, message: str) -> Finding:
    """Return a finding of severity ``error``."""
    return Finding(severity=Severity.ERROR, check=check, message=message)


def warning(check: str, message: str) -> Finding:
    """Return a finding of severity ``warning``."""
    return Finding(severity=Severity.WARNING, check=check, message=message)


def note(check: str, message: str) -> Finding:
    """Return a finding of severity ``note``."""
    return Finding(severity=Severity.NOTE, check=check, message=message)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return findings with the most severe first, otherwise in their order, each once.

    Examples:
        >>> [f.check for f in by_severity([note("a", ""), error("b", ""), note("c", "")])]
        ['b', 'a', 'c']
    """
    order = list(Severity)
    return tuple(sorted(dict.fromkeys(findings), key=lambda f: order.index(f.severity)))


def with_shares(shares: Sequence[tuple[str, float]], most: int = 8) -> str:
    """Return names with percentages, the largest first; beyond ``most``, the number of the others.

    Examples:
        >>> with_shares([("price", 0.25), ("age", 0.996)])
        'age (99 %), price (25 %)'
    """
    ordered = sorted(shares, key=lambda pair: -pair[1])
    shown = ", ".join(f"{name} ({percent(share)})" for name, share in ordered[:most])
    return shown if len(ordered) <= most else f"{shown} and {len(ordered) - most} more"


def percent(share: float) -> str:
    """Return a fraction in percent; below 1 % and above 99 %, never 0 or 100 unless it is.

    Examples:
        >>> percent(0.256), percent(0.996), percent(1.0), percent(0.002)
        ('26 %', '99 %', '100 %', '1 %')
    """
    rounded = round(100 * share)
    if 0 < share < 1:
        rounded = min(max(rounded, 1), 99)
    return f"{rounded} %"
