"""Tables of a run for a terminal of 100 columns, for the documentation page, and as JSON."""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from textwrap import wrap

from floor import Floor, Rates
from growth import Series
from measuring import Row

MEASURED = ("<!-- measured: make bench writes this part -->", "<!-- end of what is measured -->")
SERVED = ("<!-- served: make bench-serving writes this part -->", "<!-- end of what is served -->")
"""First and last line of each part of the page."""


@dataclass(frozen=True)
class Table:
    title: str
    header: tuple[str, ...]
    lines: list[tuple[str, ...]]
    words: int = 2
    """Number of text columns, from the left; the others are numeric."""
    note: str = ""


def row_table(title: str, rows: Iterable[Row]) -> Table:
    header = ("what", "size", "type", "th", "beside", "ours ms", "theirs", "ratio", "MiB")
    return Table(title, header, [_row_cells(row) for row in rows], words=5)


def _row_cells(row: Row) -> tuple[str, ...]:
    about = (row.what, row.size, row.dtype.replace("float", "f"), str(row.threads), row.beside)
    if math.isnan(row.ours):
        return (*about, "not installed")
    memory = "-"
    if not math.isnan(row.memory):
        memory = f"{number(row.memory)}/{number(row.other_memory)}"
    ratio = f"{row.ratio:,.{0 if row.ratio >= 100 else 1 if row.ratio >= 10 else 2}f}x"
    return (*about, number(row.ours), number(row.other), ratio, memory)


def growth_table(all_series: Iterable[Series]) -> Table:
    header = ("measurement and variable", "size", "one, ms", "ns each", "AdamW ms", "MiB")
    lines: list[tuple[str, ...]] = []
    for series in all_series:
        claim = f"to the power {series.exponent:.2f}, claimed {series.claim}"
        texts = [f"{series.what}:", f"  with the {series.grows_with}", f"  {claim}"]
        for i in range(max(len(series.points), len(texts))):
            text = texts[i] if i < len(texts) else ""
            if i >= len(series.points):
                lines.append((text, *[""] * 5))
                continue
            point = series.points[i]
            lines.append(
                (
                    text,
                    f"{point.size:,}",
                    number(point.each),
                    number(1e6 * point.each / point.size),
                    number(point.row.other) if point.row.other == point.row.other else "",
                    number(point.row.memory) if point.row.memory == point.row.memory else "",
                )
            )
    return Table("Growth", header, lines, words=1)


def floor_table(rows: Iterable[Floor], rates: Rates) -> Table:
    header = (
        "what",
        "size",
        "MB",
        "M exps",
        "M sorted",
        "M mult.-adds",
        "floor ms",
        "ours",
        "times",
    )
    lines = [
        (
            row.what,
            row.size,
            number(row.bytes / 1e6),
            *(
                number(amount / 1e6) if amount else "-"
                for amount in (row.exponentials, row.sorted, row.multiply_adds)
            ),
            number(row.milliseconds(rates)),
            number(row.ours),
            f"{number(row.ours / row.milliseconds(rates))}x",
        )
        for row in rows
    ]
    note = (
        f"Rates: {rates.copied / 1e6:.1f} GB/s copied, {rates.exponentials / 1e6:.2f} G exp/s, "
        f"{rates.sorted / 1e3:.0f} M candidates/s sorted in lists of 40, "
        f"{rates.multiply_adds / 1e6:.0f} G multiply-adds/s."
    )
    return Table("Floor", header, lines, note=note)


def text(table: Table) -> str:
    """Return the table in aligned columns; the last cell of a short line may be of any width."""
    whole = [line for line in (table.header, *table.lines) if len(line) == len(table.header)]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    out = [table.title, ""]
    for line in (table.header, *table.lines):
        cells = (
            f"{cell:<{w}}" if i < table.words else f"{cell:>{w}}"
            for i, (cell, w) in enumerate(zip(line, widths, strict=False))
        )
        out.append("  ".join(cells).rstrip())
    return "\n".join([*out, *(["", table.note] if table.note else [])])


def markdown(table: Table) -> str:
    def line(cells: Sequence[str]) -> str:
        missing = [""] * (len(table.header) - len(cells))
        return f"| {' | '.join([*(cell.strip() for cell in cells), *missing])} |"

    bars = ["---" if i < table.words else "---:" for i in range(len(table.header))]
    body = [f"### {table.title}", "", *map(line, (table.header, bars, *table.lines))]
    return "\n".join([*body, *(["", table.note] if table.note else [])])


def write(page: Path, part: tuple[str, str], head: str, tables: Iterable[str]) -> None:
    """Replace one part of a page, and keep all others.

    Args:
        page: the page.
        part: its first and last line.
        head: first paragraph.
        tables: tables in Markdown.
    """
    begin, end = part
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        sys.exit(f"{page} must have the lines '{begin}' and '{end}'")
    body = "\n\n".join([head, *tables])
    page.write_text(f"{before}{begin}\n\n{body}\n\n{end}{after}", encoding="utf-8")


def heading(machine: dict[str, object], how: str = "") -> str:
    """Describe date, machine, load and versions in a few lines.

    Args:
        machine: of :func:`measuring.machine`.
        how: threads and clock of the measurements; default: those of this process.
    """
    how = how or (
        f"{machine['threads']} threads, OpenMP wait policy {machine['waiting']}, {machine['clock']}"
    )
    packages = machine["packages"]
    assert isinstance(packages, dict)
    versions = [f"{name} {v or '(not installed)'}" for name, v in packages.items()]
    listed = "\n".join(wrap(f"Python {machine['python']}, {', '.join(versions)}", width=100))
    return (
        f"{machine['date']}; {machine['processor']}, {machine['cores']} cores, load "
        f"{machine['load']} at the start;\n{how}\n{listed}"
    )


def as_json(item: Row | Series | Floor | Rates) -> dict[str, object]:
    """Return JSON-compatible values, with ``None`` for NaN."""

    def plain(value: object) -> object:
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    values = plain(asdict(item))
    assert isinstance(values, dict)
    if isinstance(item, Series):
        values["exponent"] = item.exponent
    return values


def number(value: float) -> str:
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3}f}"
