"""``cascaderank ls``: what can be named in a config."""

from typing import Annotated, Literal

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, user_errors

Shelf = Literal["losses", "metrics", "stages", "objectives", "operators", "sources"]


@user_errors
def ls(
    what: Annotated[
        Shelf | None, typer.Argument(help="One kind; all of them if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List losses, metrics, stages, objectives, sorting operators and sources."""
    from rich.table import Table

    from cascaderank.catalogue import catalogue

    shelves = catalogue()
    if what is not None:
        shelves = {what: shelves[what]}
    if as_json:
        emit_json(shelves)
        return
    for shelf, things in shelves.items():
        table = Table(title=shelf, title_justify="left", box=None, width=100, show_header=False)
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for name, summary in things.items():
            table.add_row(name, summary)
        emit(table)
