"""Small HTML tables, which notebooks show for results."""

from collections.abc import Iterable, Sequence
from html import escape


def html_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, notes: str = ""
) -> str:
    """Return a table as HTML; all text is escaped, and numbers are aligned right.

    Args:
        title: caption of the table.
        columns: heads of the columns.
        rows: cells of each row; floats are written with four decimals, ``None`` and NaN as
            nothing.
        notes: text below the table.

    Examples:
        >>> html_table("a < b", ["method"], [["x"]])[:50]
        '<table><caption>a &lt; b</caption><thead><tr><th>m'
    """
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    below = f"<p>{escape(notes)}</p>" if notes else ""
    return (
        f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table>{below}"
    )


def _cell(value: object) -> str:
    if isinstance(value, str):
        return f'<td style="text-align: left">{escape(value)}</td>'
    if value is None or value != value:
        return "<td></td>"
    text = f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
    return f'<td style="text-align: right">{escape(text)}</td>'
