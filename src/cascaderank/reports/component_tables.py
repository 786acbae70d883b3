"""The registered components of the library: tables of one kind, and the text about one."""

import re
import textwrap
from collections.abc import Iterator, Mapping

from rich.markup import escape
from rich.table import Table

from cascaderank.reports.table_width import WIDTH

_ROLE = re.compile(r":(?:func|class|meth|data|mod|attr|exc|math):`(?:~(?:\w+\.)*)?([^`]+)`")
_ENTRY = re.compile(r"(?:[\w*, ]+|- .*): \S")


def component_table(kind: str, components: Mapping[str, str]) -> Table:
    """Return the components of one kind by name, each with its first line of documentation."""
    table = Table(title=kind, title_justify="left", box=None, width=WIDTH, show_header=False)
    table.add_column(max_width=28, overflow="fold", style="bold")
    table.add_column(overflow="fold")
    for name, summary in components.items():
        table.add_row(name, escape(_plain(summary)))
    return table


def documentation_text(documentation: str, options: Mapping[str, str]) -> str:
    """Return the docstring of a component and its options as plain text of the width of tables.

    Paragraphs are filled anew; formulas and examples keep their lines.

    Args:
        documentation: docstring without common indentation.
        options: declared types and defaults by option.

    Examples:
        >>> print(documentation_text("Score by :func:`~a.b.c`.", {"dim": "int = 8"}))
        Score by c.
        <BLANKLINE>
        Options
          dim: int = 8
    """
    lines = list(_filled(_plain(documentation).splitlines()))
    if options:
        lines.append("Options")
        for option, declared in options.items():
            lines += _wrapped(f"{option}: {declared}", indent=2, hanging=6)
    return "\n".join(lines).rstrip()


def _plain(text: str) -> str:
    """Return the text without the roles of reStructuredText and without double backquotes."""
    return _ROLE.sub(r"\1", text).replace("``", "`")


def _filled(lines: list[str]) -> Iterator[str]:
    """Yield the lines of a docstring, with its paragraphs filled to the width of tables."""
    literal, section = -1, ""  # indentation of a literal block's first line; heading of a section
    paragraph: list[str] = []
    for line in [*lines, ""]:  # the last one ends the last paragraph
        indent = len(line) - len(line.lstrip())
        begins = not paragraph or indent < _indent(paragraph[0])
        entry = section in ("Args:", "Raises:") and indent == 4
        if not line.strip() or begins or entry or literal >= 0:
            if paragraph:
                hanging = _indent(paragraph[0]) + 4 * bool(_ENTRY.match(paragraph[0].strip()))
                yield from _wrapped(
                    " ".join(part.strip() for part in paragraph), _indent(paragraph[0]), hanging
                )
            paragraph = []
        if line.strip() and literal >= 0 and indent <= literal:
            literal = -1
        if not line.strip() or literal >= 0:
            yield line
        elif line.strip().startswith((".. math::", ">>>")) or line.rstrip().endswith("::"):
            literal = indent - line.strip().startswith(">>>")
            yield line
        elif re.fullmatch(r"[A-Z]\w+:", line):
            section = line
            yield line
        else:
            paragraph.append(line)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _wrapped(text: str, indent: int, hanging: int) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=" " * indent,
        subsequent_indent=" " * hanging,
        break_on_hyphens=False,
    )
