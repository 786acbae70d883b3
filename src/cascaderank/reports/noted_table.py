"""Tables with a title and notes below, and intervals in them."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from cascaderank.evaluation.statistics.bootstrap import Summary

if TYPE_CHECKING:
    from rich.table import Table


def noted_table(title: str, notes: Sequence[str] = ()) -> "Table":
    """Return a table without columns, with a title above and notes below, one a line."""
    from rich.markup import escape
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
        caption=escape("\n".join(notes)) or None,
        caption_justify="left",
    )


def interval_of(summary: Summary, form: str = ".4f") -> str:
    """Format the ends of an interval; a dash if there is none.

    Examples:
        >>> summary = Summary(mean=0.5, low=0.25, high=0.75, requests=4, undefined=0)
        >>> interval_of(summary), interval_of(summary, ".4g")
        ('0.2500 to 0.7500', '0.25 to 0.75')
    """
    return "-" if math.isnan(summary.low) else f"{summary.low:{form}} to {summary.high:{form}}"
