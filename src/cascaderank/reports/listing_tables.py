"""Table of runs with their main figures, at most 80 characters wide."""

from rich.markup import escape
from rich.table import Table

from cascaderank.errors import counted
from cascaderank.reports.cells import interval, share
from cascaderank.reports.noted_table import noted_table
from cascaderank.runs.listing import Listing


def runs_table(listing: Listing) -> Table:
    """Return the runs of a listing, and below it those that could not be read.

    Args:
        listing: result of :func:`~cascaderank.runs.listing.list_runs`.
    """
    notes = [f"{name}: damaged: {reason}" for name, reason in listing.damaged.items()]
    if any(not run.complete for run in listing.runs):
        notes.insert(0, "-: not complete; to resume, repeat the command that trains it")
    table = noted_table(counted(len(listing.runs), "run"), notes)
    table.add_column("run", overflow="fold", min_width=12)
    table.add_column("data", overflow="fold", max_width=12)
    table.add_column("objective", overflow="fold", max_width=12)
    table.add_column("val.", justify="right", no_wrap=True)
    table.add_column("test", justify="right", no_wrap=True)
    table.add_column("interval", no_wrap=True)
    table.add_column("steps", justify="right", no_wrap=True)
    table.add_column("started", no_wrap=True)
    for run in listing.runs:
        table.add_row(
            escape(run.name),
            escape(run.data or ""),
            escape(run.objective or ""),
            share(run.validation, places=3),
            "-" if run.recall is None else share(run.recall, places=3),
            interval(run.low, run.high),
            "" if run.steps is None else str(run.steps),
            "" if run.date is None else run.date[5:16].replace("T", " "),
        )
    return table
