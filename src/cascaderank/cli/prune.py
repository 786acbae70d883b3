"""``cascaderank prune``: remove the parts of a run whose gates are closed."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, notify, user_errors


@user_errors
def prune(
    run: Annotated[Path, typer.Argument(help="Folder of a complete run with gates.")],
    to: Annotated[Path, typer.Option(help="Folder of the smaller run, to be written.")],
    as_json: AsJson = False,
) -> None:
    """Remove the parts of a run whose gates are closed; its scores do not change.

    Gates are trained factors in [0, 1] that multiply the connections between the sub-networks of
    a stage, such as `ecmm`. A gate is closed if its value is 0. The result is a complete run:
    `evaluate` and `profile` accept it.
    """
    from cascaderank.reports.run_tables import pruning_table
    from cascaderank.training.pruning import prune_run, pruning_record

    pruned = prune_run(run, to)
    if as_json:
        stages = {name: pruning_record(stage) for name, stage in pruned.items()}
        emit_json({"run": str(run), "to": str(to), "stages": stages})
        return
    emit(pruning_table(pruned))
    notify(f"wrote the smaller run to {to}")
