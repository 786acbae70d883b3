"""``cascaderank prune``: a run without what its closed gates made useless."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, say, user_errors


@user_errors
def prune(
    run: Annotated[Path, typer.Argument(help="Folder that `train` wrote.")],
    to: Annotated[Path, typer.Option(help="Folder of the smaller run.")],
    as_json: AsJson = False,
) -> None:
    """Leave out of a run what its closed gates made useless; its answers stay the same.

    What is written is a run like any other, which `evaluate` and `profile` take.
    """
    from rich.table import Table

    from cascaderank.training.pruning import prune_run, told

    found = prune_run(run, to)
    if as_json:
        stages = {name: told(pruned) for name, pruned in found.items()}
        emit_json({"run": str(run), "to": str(to), "stages": stages})
        return
    table = Table(title="Pruned", title_justify="left", box=None, header_style="bold")
    for column in ("stage", "", "before", "after"):
        table.add_column(column, justify="right" if column in ("before", "after") else "left")
    for name, pruned in found.items():
        for what, (before, after) in told(pruned).items():
            table.add_row(name, what.replace("_", " "), f"{before:,}", f"{after:,}")
    emit(table)
    say(f"the smaller run is in {to}")
