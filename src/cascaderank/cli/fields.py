"""``cascaderank fields``: the weight of each field, and the config of a second phase."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, say, user_errors


@user_errors
def fields(
    run: Annotated[Path, typer.Argument(help="Folder that `train` wrote, with `cold` or `fscd`.")],
    to: Annotated[Path, typer.Option(help="Config of the second phase to write.")],
    keep: Annotated[
        float, typer.Option(help="Fields to keep: a fraction below 1, or a number.")
    ] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Print the weight of each field, and write a config that keeps the fields that weigh most.

    In this second phase `cold` is trained from scratch, and `fscd` from its present weights
    (`train.start`).
    """
    from cascaderank.errors import ConfigError
    from cascaderank.reports.run_tables import fields_table
    from cascaderank.training.field_selection import select_fields

    if to.exists():
        raise ConfigError(f"{to}: already exists; choose another file")
    number = int(keep) if keep >= 1 and keep % 1 == 0 else keep
    selected, settings = select_fields(run, keep=number)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(settings.to_toml())
    if as_json:
        stages = {
            name: {"importance": dict(of.importance), "kept": list(of.kept)}
            for name, of in selected.items()
        }
        emit_json({"run": str(run), "to": str(to), "stages": stages})
        return
    emit(fields_table(selected))
    say(f"the second phase is in {to}: cascaderank train {to}")
