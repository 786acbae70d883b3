"""Numbers and lists in the sentences and tables of a report."""

import math
from collections.abc import Sequence

from cascaderank.evaluation.statistics.bootstrap import Summary
from cascaderank.reports.cells import share


def number(value: float | None, *, places: int = 3, sign: str = "") -> str:
    """Format a share; a dash if it is undefined.

    Examples:
        >>> number(0.0661), number(math.nan), number(0.02, sign="+")
        ('.066', '-', '+.020')
    """
    undefined = value is None or math.isnan(value)
    return "-" if undefined else share(value, places=places, sign=sign)


def span(summary: Summary, *, places: int = 3, sign: str = "") -> str:
    """Format an interval, ``".871 to .876"``; a dash if there is none.

    Examples:
        >>> span(Summary(mean=0.5, low=0.25, high=0.75, requests=4, undefined=0))
        '.250 to .750'
    """
    return ends(summary.low, summary.high, places=places, sign=sign)


def ends(low: float | None, high: float | None, *, places: int = 3, sign: str = "") -> str:
    """Format the ends of an interval; a dash if there is none."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return "-"
    return f"{share(low, places=places, sign=sign)} to {share(high, places=places, sign=sign)}"


def percent(value: float, *, places: int = 0) -> str:
    """Format a share as a percentage.

    Examples:
        >>> percent(0.287), percent(math.nan), percent(0.004, places=1)
        ('29 %', '-', '0.4 %')
    """
    return "-" if math.isnan(value) else f"{100 * value:.{places}f} %"


def size(value: float) -> str:
    """Format a count or a mean count, large ones with a unit.

    Examples:
        >>> size(40), size(2.5), size(12_345), size(1.2345e7), size(3.2e9)
        ('40', '2.5', '12,345', '12.3 M', '3.2 G')
    """
    for unit, factor in (("G", 1e9), ("M", 1e6)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value:,.0f}" if value == round(value) or value >= 100 else f"{value:,.1f}"


def listed(names: Sequence[str]) -> str:
    """Join names as a sentence does.

    Examples:
        >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])
        ('a', 'a and b', 'a, b and c')
    """
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
