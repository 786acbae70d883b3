"""``cascaderank ls``: what can be named in a config."""

from typing import Annotated, Literal

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, user_errors

Shelf = Literal["losses", "metrics", "stages", "objectives", "operators", "sources"]


@user_errors
def ls(
    what: Annotated[Shelf | None, typer.Argument(help="One kind; all if not given.")] = None,
    name: Annotated[str | None, typer.Argument(help="One of the kind, to read about it.")] = None,
    as_json: AsJson = False,
) -> None:
    """List losses, metrics, stages, objectives, operators and sources, or tell about one."""
    from rich.markup import escape

    from cascaderank.components import catalogue, documentation, options
    from cascaderank.reports.component_tables import component_table

    if what is not None and name is not None:
        text, taken = documentation(what, name), options(what, name)
        if as_json:
            emit_json({"name": name, "options": taken, "documentation": text})
        else:
            emit(escape(text), "", "Options", *(escape(f"  {o}: {t}") for o, t in taken.items()))
        return
    shelves = catalogue()
    if what is not None:
        shelves = {what: shelves[what]}
    if as_json:
        emit_json(shelves)
        return
    emit(*(component_table(shelf, things) for shelf, things in shelves.items()))
