"""``cascaderank init``: write a config for a data set, or a copy of a recipe."""

import tomllib
from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, notify, user_errors
from cascaderank.errors import ConfigError


@user_errors
def init(
    dataset: Annotated[
        Path | None, typer.Argument(help="Folder of the data set that the config is for.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            help="File to write. Default: configs/NAME.toml, by the data set or the recipe."
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--recipe", help="Copy this recipe; with DATASET, for that data set."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the recipes and exit.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file if it exists.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a commented config for a data set, to train without changes and to edit.

    Stages, quotas, ground truth, target and split follow rules from the data set; each is explained
    beside its setting. `cascaderank init --recipe funnel_two_stage` copies a config that comes with
    the package.
    """
    from cascaderank.data.log.request_log import RequestLog
    from cascaderank.reports.component_tables import component_table
    from cascaderank.runs.data import check_log
    from cascaderank.runs.new_files import check_free, new_file
    from cascaderank.settings.first_config import first_config
    from cascaderank.settings.recipes import recipe, recipes
    from cascaderank.settings.run import check_settings

    if list_:
        if as_json:
            emit_json(recipes())
        else:
            emit(component_table("recipes", recipes()))
        return
    if name is None and dataset is None:
        raise ConfigError(
            "expected the folder of a data set, --recipe NAME or --list, found none; "
            "`cascaderank prepare` makes a data set"
        )
    log = None if dataset is None else RequestLog.open(dataset)
    path = to or Path("configs") / f"{name or (dataset or Path()).resolve().name}.toml"
    check_free([path], overwrite=overwrite)
    if name is None and log is not None:
        text = first_config(log, to=path)
    else:
        text = recipe(str(name), to=path, dataset=dataset)
        if log is not None:
            check_log(check_settings(tomllib.loads(text)), log)
    with new_file(path) as hidden:
        hidden.write_text(text, encoding="utf-8")
    if as_json:
        emit_json({"config": str(path), "recipe": name})
    else:
        notify(f"wrote {path}")
