"""What is in a data set, as a table."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

from cascaderank.reports.table_width import WIDTH
from cascaderank.schema import abridged


def dataset_table(summary: Mapping[str, Any]) -> Table:
    """Return what is in a data set, as a table."""
    table = Table(title=escape(summary["name"]), title_justify="left", box=None, width=WIDTH)
    table.show_header = False
    table.add_column(max_width=24, overflow="fold", style="bold")
    table.add_column(overflow="fold")
    for name, text in _rows(summary):
        table.add_row(escape(name), escape(text))
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
    for what in ("levels", "label", "feedback", "request_weight", "candidate_weight"):
        if counts := summary.get(what):
            yield (
                what.replace("_", " "),
                ", ".join(f"{key}: {count:,}" for key, count in counts.items()),
            )
    if times := summary["time_range"]:
        yield "time", f"{times[0]} to {times[1]}, {summary['days']} days with requests"
    for note, value in (summary["notes"] or {}).items():
        yield note.replace("_", " "), _text(value)
    yield "on disk", f"{summary['bytes'] / 2**20:,.1f} MiB, written in {summary['seconds']:.1f} s"


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {inner}" for name, inner in value.items())
    return f"{value:,}" if isinstance(value, int | float) else str(value)
