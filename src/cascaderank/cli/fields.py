"""``cascaderank fields``: the weight of each field, and the config of a second phase."""

import functools
from pathlib import Path
from typing import Annotated, Any

import typer

from cascaderank.cli.shell import AsJson, emit, emit_json, finite, notify, user_errors
from cascaderank.limits import LARGEST


@user_errors
def fields(
    run: Annotated[
        Path, typer.Argument(help="Folder of a complete run with a `cold` or `fscd` stage.")
    ],
    to: Annotated[Path, typer.Option(help="Config file of the second phase, to be written.")],
    keep: Annotated[
        float,
        typer.Option(
            min=0,
            max=LARGEST,
            callback=finite,
            help="Fields to keep per stage: fraction of the fields in (0, 1), or their number.",
        ),
    ] = 0.5,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file of --to if it exists.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Select the most important fields of a run, and write the config of a second phase.

    The second phase trains the same stages on the selected fields, without gates: `cold` from
    scratch, `fscd` from the weights of the run (`train.start`).
    """
    from cascaderank.reports.run_tables import fields_table
    from cascaderank.runs.new_files import check_free, new_file
    from cascaderank.training.field_selection import select_fields

    check_free([to], overwrite=overwrite)
    number = int(keep) if keep >= 1 and keep % 1 == 0 else keep
    selected, settings = select_fields(run, keep=number)
    with new_file(to) as hidden:
        hidden.write_text(settings.to_toml(), encoding="utf-8")
    if as_json:
        stages = {
            name: {"importance": dict(chosen.importance), "kept": list(chosen.kept)}
            for name, chosen in selected.items()
        }
        emit_json({"run": str(run), "to": str(to), "stages": stages})
        return
    emit(fields_table(selected))
    notify(f"wrote the second phase to {to}; train it with: cascaderank train {to}")


@functools.wraps(fields)
def select(*args: Any, **kwargs: Any) -> None:
    """Run ``fields`` under its name in version 0.1."""
    notify("`cascaderank select` is `cascaderank fields` now; the old name goes in version 0.3")
    fields(*args, **kwargs)
