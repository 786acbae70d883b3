"""``cascaderank ls``: list the components that a config can name, recipes, and runs."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, user_errors

RECIPES, RUNS = "recipes", "runs"


@user_errors
def ls(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="losses, metrics, stages, objectives, operators, sources, recipes or runs. "
            "Default: all kinds of components.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="Component to describe; of runs, their folder.")
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            help="Of runs, column to sort by: name, data, objective, validation, recall, steps or "
            "date."
        ),
    ] = "date",
    where: Annotated[
        list[str] | None,
        typer.Option(
            help="Of runs, a text in name, data or objective, or COLUMN=TEXT; can be repeated."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List losses, metrics, stages, objectives, operators and sources, or describe one.

    `cascaderank ls stages mlp` prints the documentation and the options of the stage `mlp`;
    `cascaderank ls recipes` lists the configs that `cascaderank init --recipe` writes;
    `cascaderank ls runs` lists the runs below the folder runs, or another, with joint recall on
    validation and test requests.
    """
    from cascaderank.components import SHELVES, components, documentation, options
    from cascaderank.errors import ConfigError, did_you_mean
    from cascaderank.reports.component_tables import component_table, documentation_text
    from cascaderank.reports.listing_tables import runs_table
    from cascaderank.runs.listing import list_runs
    from cascaderank.settings.recipes import recipe, recipes

    if what == RECIPES:
        if name is not None:
            text = recipe(name)
            emit_json({"name": name, "config": text}) if as_json else typer.echo(text, nl=False)
        else:
            listed = {RECIPES: recipes()}
            emit_json(listed) if as_json else emit(component_table(RECIPES, listed[RECIPES]))
        return
    if what == RUNS:
        listing = list_runs(Path(name or RUNS), sort=sort, where=where or [])
        emit_json(listing.to_json()) if as_json else emit(runs_table(listing))
        return
    if where or sort != "date":
        raise ConfigError(f"--sort and --where apply to runs; write `cascaderank ls {RUNS}`")
    if what is not None and what not in SHELVES:
        kinds = [*SHELVES, RECIPES, RUNS]
        raise ConfigError(
            f"no kind of component called '{what}'{did_you_mean(what, kinds)}; "
            f"there are {', '.join(kinds)}"
        )

    if what is not None and name is not None:
        text, declared = documentation(what, name), options(what, name)
        if as_json:
            emit_json({"name": name, "options": declared, "documentation": text})
        else:
            typer.echo(documentation_text(text, declared))
        return
    shelves = components()
    if what is not None:
        shelves = {what: shelves[what]}
    if as_json:
        emit_json(shelves)
        return
    emit(*(component_table(shelf, listed) for shelf, listed in shelves.items()))
