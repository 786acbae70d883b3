"""``cascaderank train``: train and evaluate the run of a config."""

import warnings
from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.interrupts import after_interrupt, kept_runs
from cascaderank.cli.shell import (
    AsJson,
    Bars,
    Changes,
    emit,
    emit_json,
    notify,
    notify_defaults,
    notify_wrapped,
    user_errors,
)


@user_errors
def train(
    config: Annotated[Path, typer.Argument(help="TOML file with the settings of the run.")],
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run. Default: runs/NAME for NAME.toml.")
    ] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Train a cascade as one network, and evaluate it on the test requests.

    To resume an interrupted run, repeat the command.
    """
    from cascaderank.reports.evaluation_tables import report_tables
    from cascaderank.runs.folder import RunFolder, read_json
    from cascaderank.settings.run import read_settings
    from cascaderank.training.train_run import train_run

    settings = read_settings(config, changes or [])
    notify_defaults(settings)
    folder = run or Path("runs") / config.stem
    complete = folder.is_dir() and RunFolder(folder).complete
    after_interrupt(lambda: kept_runs(folder))
    with Bars() as bars, warnings.catch_warnings(record=True) as caught:
        result = train_run(settings, folder, progress=bars)
    for one in caught:
        notify_wrapped(str(one.message), "warning: ")
    if as_json:
        emit_json(read_json(folder / "report.json"))
        return
    emit(*report_tables(result.test))
    for warning in result.warnings:
        notify_wrapped(warning, "warning: ")
    if complete:
        notify(f"the run in {folder} was complete; to train again, choose another --run")
    else:
        notify(f"wrote the run to {folder}")
