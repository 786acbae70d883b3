"""Table of runs with their main figures, at most 80 characters wide."""

from collections.abc import Sequence

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from cascaderank.errors import counted
from cascaderank.reports.cells import interval, share
from cascaderank.reports.noted_table import noted_table
from cascaderank.reports.table_width import WIDTH
from cascaderank.runs.listing import Listing

_HEADINGS = ("data", "objective", "val.", "test", "interval", "steps", "started")
_WIDTHS = (12, 20, 4, 4, 12, 8, 11)
_NUMBERS = ("val.", "test", "steps")
_RECALL = (
    "val., test: joint recall of the validation and the test requests; val. is the metric of "
    "catalogue.decides if that is set"
)


def runs_table(listing: Listing) -> Table:
    """Return the runs of a listing, and below it those that could not be read.

    The path of a run has a line of its own, above its figures.

    Args:
        listing: result of :func:`~cascaderank.runs.listing.list_runs`.
    """
    notes = [f"{name}: damaged: {reason}" for name, reason in listing.damaged.items()]
    if any(not run.complete for run in listing.runs):
        notes.insert(0, "-: not complete; to resume, repeat the command that trains it")
    notes.insert(0, _RECALL)
    table = noted_table(counted(len(listing.runs), "run"), notes)
    table.add_column(Group("run", _figures(_HEADINGS)), overflow="fold")
    for run in listing.runs:
        figures = (
            run.data or "",
            run.objective or "",
            share(run.validation, places=3),
            "-" if run.recall is None else share(run.recall, places=3),
            interval(run.low, run.high),
            "" if run.steps is None else str(run.steps),
            "" if run.date is None else run.date[5:16].replace("T", " "),
        )
        table.add_row(Group(Text(folded(run.name)), _figures(figures)))
    return table


def folded(path: str, width: int = WIDTH) -> str:
    """Return a path with line breaks behind slashes, where it is longer than a line.

    Examples:
        >>> print(folded("runs/lcron/seed-0", width=11))
        runs/lcron/
        seed-0
    """
    lines = [""]
    for part in path.replace("/", "/\0").split("\0"):
        if lines[-1] and len(lines[-1] + part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _figures(cells: Sequence[str]) -> Padding:
    """Return a line of figures below the path of a run, or of their headings."""
    line = Table.grid(padding=(0, 1, 0, 0))
    for heading, width in zip(_HEADINGS, _WIDTHS, strict=True):
        line.add_column(
            width=width, overflow="fold", justify="right" if heading in _NUMBERS else "left"
        )
    line.add_row(*map(Text, cells))
    return Padding(line, (0, 0, 0, 2))
