"""``cascaderank select``: which fields a model that weighs them keeps."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, say, user_errors


@user_errors
def select(
    run: Annotated[Path, typer.Argument(help="Folder that `train` wrote, with `cold` or `fscd`.")],
    to: Annotated[Path, typer.Option(help="Config to write, for the second phase.")],
    keep: Annotated[float, typer.Option(help="Of the fields: a share below 1, or how many.")] = 0.5,
    as_json: AsJson = False,
) -> None:
    """Tell what each field weighs, and write the config of a second phase on those that weigh most.

    `cold` is trained anew on them, `fscd` from the weights it has (`train.start`).
    """
    from rich.table import Table

    from cascaderank.errors import ConfigError
    from cascaderank.training.field_selection import select_run

    if to.exists():
        raise ConfigError(f"{to}: is there already; name another file")
    found, settings = select_run(run, keep=int(keep) if keep >= 1 and keep % 1 == 0 else keep)
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(settings.to_toml())
    if as_json:
        stages = {
            name: {"importance": dict(of.importance), "kept": list(of.kept)}
            for name, of in found.items()
        }
        emit_json({"run": str(run), "to": str(to), "stages": stages})
        return
    table = Table(title="Fields", title_justify="left", box=None, header_style="bold")
    for column in ("stage", "field", "weight", "kept"):
        table.add_column(column, justify="right" if column == "weight" else "left")
    for name, of in found.items():
        for field, weight in sorted(of.importance.items(), key=lambda item: -item[1]):
            table.add_row(name, field, f"{weight:.3f}", "yes" if field in of.kept else "")
    emit(table)
    say(f"the second phase is in {to}: cascaderank train {to}")
