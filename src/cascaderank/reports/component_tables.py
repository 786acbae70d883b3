"""The registered components of the library as tables, one per kind."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table


def component_table(kind: str, components: Mapping[str, str]) -> Table:
    """Return the components of one kind by name, each with its first line of documentation."""
    table = Table(title=kind, title_justify="left", box=None, width=100, show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column()
    for name, summary in components.items():
        table.add_row(name, escape(summary))
    return table
