"""Table of the findings of a check, at most 80 characters wide."""

from rich.markup import escape
from rich.table import Table

from cascaderank.errors import counted
from cascaderank.reports.table_width import WIDTH
from cascaderank.training.check.check_data import DataCheck


def check_table(check: DataCheck) -> Table:
    """Return the findings of a check, the most severe first; without findings, only a title.

    Args:
        check: result of :func:`~cascaderank.training.check.check_data.check_data`.
    """
    of = "all" if check.read == check.requests else f"{check.read:,} of"
    table = Table(
        title=escape(
            f"{check.dataset}: {counted(len(check.findings), 'finding')}; read {of} "
            f"{counted(check.requests, 'request')}"
        ),
        title_justify="left",
        box=None,
        header_style="bold",
        pad_edge=False,
        width=WIDTH,
    )
    table.show_header = bool(check.findings)
    table.add_column("severity", no_wrap=True)
    table.add_column("about", no_wrap=True)
    table.add_column("finding", overflow="fold", ratio=1)
    for finding in check.findings:
        table.add_row(finding.severity.value, escape(finding.check), escape(finding.message))
    return table
