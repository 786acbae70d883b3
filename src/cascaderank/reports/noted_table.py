"""Tables with a title and notes below, and intervals in them."""

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from cascaderank.evaluation.statistics.bootstrap import Summary
from cascaderank.reports.table_width import WIDTH

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import TextType


class _NotedTable(Table):
    """Table whose title and caption may be wider than its columns, up to 80 characters."""

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        wide = options.update(width=min(WIDTH, options.max_width), justify="left")
        columns = copy.copy(self)
        columns.title = columns.caption = None
        yield from _wide(self.title, "table.title", console, wide)
        yield from Table.__rich_console__(columns, console, options)
        yield from _wide(self.caption, "table.caption", console, wide)


def _wide(
    text: "TextType | None", style: str, console: "Console", options: "ConsoleOptions"
) -> "RenderResult":
    if text:
        line = (
            console.render_str(text, style=style, highlight=False)
            if isinstance(text, str)
            else text
        )
        yield from console.render(line, options)


def noted_table(title: str, notes: Sequence[str] = ()) -> Table:
    """Return a table without columns, with a title above and notes below, one a line."""
    from rich.markup import escape

    return _NotedTable(
        title=title,
        box=None,
        header_style="bold",
        pad_edge=False,
        caption=escape("\n".join(notes)) or None,
    )


def interval_of(summary: Summary, form: str = ".4f") -> str:
    """Format the ends of an interval; a dash if there is none.

    Examples:
        >>> summary = Summary(mean=0.5, low=0.25, high=0.75, requests=4, undefined=0)
        >>> interval_of(summary), interval_of(summary, ".4g")
        ('0.2500 to 0.7500', '0.25 to 0.75')
    """
    return "-" if math.isnan(summary.low) else f"{summary.low:{form}} to {summary.high:{form}}"
