"""``cascaderank train``: from a config to a run folder."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, Changes, emit, emit_json, say, user_errors


@user_errors
def train(
    config: Annotated[Path, typer.Argument(help="Settings of the run, a TOML file.")],
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run; runs/NAME of the config if not given.")
    ] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Train a cascade as one network, and judge it on the test requests.

    A run that was killed goes on where it stopped when the same command is given again.
    """
    from cascaderank.reports.evaluation_tables import report_tables
    from cascaderank.runs.folder import read_json
    from cascaderank.settings.run import read_settings
    from cascaderank.training.train_run import train_run

    settings = read_settings(config, changes or [])
    folder = run or Path("runs") / config.stem
    with Bars() as bars:
        result = train_run(settings, folder, progress=bars)
    if as_json:
        emit_json(read_json(folder / "report.json"))
        return
    emit(*report_tables(result.test))
    say(f"the run is in {folder}")
