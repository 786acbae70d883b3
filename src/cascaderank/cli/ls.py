"""``cascaderank ls``: list the components that a config can name."""

from typing import Annotated, Literal

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, user_errors

Shelf = Literal["losses", "metrics", "stages", "objectives", "operators", "sources"]


@user_errors
def ls(
    what: Annotated[Shelf | None, typer.Argument(help="Kind to list. Default: all kinds.")] = None,
    name: Annotated[str | None, typer.Argument(help="Component to describe.")] = None,
    as_json: AsJson = False,
) -> None:
    """List losses, metrics, stages, objectives, operators and sources, or describe one.

    `cascaderank ls stages mlp` prints the documentation and the options of the stage `mlp`.
    """
    from rich.markup import escape

    from cascaderank.components import components, documentation, options
    from cascaderank.reports.component_tables import component_table

    if what is not None and name is not None:
        text, declared = documentation(what, name), options(what, name)
        if as_json:
            emit_json({"name": name, "options": declared, "documentation": text})
        else:
            emit(escape(text), "", "Options", *(escape(f"  {o}: {t}") for o, t in declared.items()))
        return
    shelves = components()
    if what is not None:
        shelves = {what: shelves[what]}
    if as_json:
        emit_json(shelves)
        return
    emit(*(component_table(shelf, listed) for shelf, listed in shelves.items()))
