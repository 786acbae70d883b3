"""``cascaderank simulate``: simulate a funnel of teacher models for the users of a data set."""

import time
from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.interrupts import after_interrupt, kept_data_set, kept_runs
from cascaderank.cli.shell import AsJson, Bars, Changes, emit, emit_json, notify, user_errors
from cascaderank.errors import DataError


@user_errors
def simulate(
    config: Annotated[Path, typer.Argument(help="TOML file with the settings of the simulation.")],
    to: Annotated[Path, typer.Option(help="Folder of the data set, to be written.")],
    runs: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the runs of the teachers. Default: runs/simulation/NAME for NAME.toml."
        ),
    ] = None,
    changes: Changes = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace the data set at --to when the new one is complete."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train teacher models on a data set, and simulate with them a funnel for its users.

    Each stage of the funnel ranks items by one teacher and passes on the best. The result is a
    data set with the logged candidates. If the command is repeated, teachers whose training is
    complete are not trained again.
    """
    from cascaderank.data.log.request_log import RequestLog
    from cascaderank.data.log.summary import summarise
    from cascaderank.reports.dataset_tables import dataset_table
    from cascaderank.settings.files import read_as
    from cascaderank.simulation.simulate import simulate as run
    from cascaderank.simulation.simulate import simulation_summary
    from cascaderank.simulation.simulation_settings import SimulationSettings

    settings = read_as(SimulationSettings, config, changes or [])
    if (to / "manifest.json").is_file() and not overwrite:
        raise DataError(
            f"--to: {to} already has a data set; choose another folder, or add --overwrite"
        )
    started = time.monotonic()
    folder = runs or Path("runs") / "simulation" / config.stem
    after_interrupt(kept_data_set(to))
    after_interrupt(lambda: kept_runs(folder))
    with Bars() as bars:
        run(settings, to, runs=folder, overwrite=overwrite, progress=bars)
    log = RequestLog.open(to)
    summary = {
        "path": str(to),
        **summarise(log),
        "simulation": simulation_summary(log),
        "seconds": round(time.monotonic() - started, 3),
    }
    if as_json:
        emit_json(summary)
        return
    emit(dataset_table(summary))
    notify(f"wrote the data set to {to} and the teachers to {folder}")
