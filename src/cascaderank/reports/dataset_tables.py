"""What is in a data set, as a table."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from cascaderank.schema import abridged


def dataset_table(summary: Mapping[str, Any]) -> Table:
    """Return what is in a data set, as a table."""
    table = Table(title=summary["name"], title_justify="left", box=None, width=100)
    table.show_header = False
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, text in _rows(summary):
        table.add_row(name, text)
    return table


def _rows(summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "requests", f"{summary['requests']:,}"
    lengths = summary["list_length"]
    yield (
        "candidates",
        f"{summary['candidates']:,}; {lengths['mean']:.1f} per request, "
        f"from {lengths['min']:,} to {lengths['max']:,}",
    )
    for role, kinds in summary["features"].items():
        if any(kinds.values()):
            text = ", ".join(f"{count} {kind}" for kind, count in kinds.items() if count)
            yield f"{role} features", text
    if several := summary["several_values"]:
        yield "several values", abridged(several)
    for what in ("levels", "label", "feedback"):
        if counts := summary[what]:
            yield what, ", ".join(f"{key}: {count:,}" for key, count in counts.items())
    if times := summary["time_range"]:
        yield "time", f"{times[0]} to {times[1]}, {summary['days']} days with requests"
    for note, value in (summary["notes"] or {}).items():
        yield note.replace("_", " "), _text(value)
    yield "on disk", f"{summary['bytes'] / 2**20:,.1f} MiB, written in {summary['seconds']:.1f} s"


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
