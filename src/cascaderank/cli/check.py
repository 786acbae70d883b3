"""``cascaderank check``: what is wrong with a data set or a config, before training."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, Changes, emit, emit_json, notify, user_errors


@user_errors
def check(
    dataset: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    config: Annotated[
        Path | None,
        typer.Argument(
            help="TOML file with the settings of a run. Default: what `cascaderank init` writes."
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="End with exit code 1 if a finding has severity error."),
    ] = False,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Check a data set, and a config for it, before training; with what to do about each finding.

    Findings have the severity error (training is refused, or its result has no meaning), warning
    or note. At most 6,500 requests are read in full, the same in each call.
    """
    from cascaderank.data.log.request_log import RequestLog
    from cascaderank.errors import ConfigError
    from cascaderank.reports.check_tables import check_table
    from cascaderank.settings.run import read_settings
    from cascaderank.training.check.check_data import check_data

    if config is None and changes:
        raise ConfigError("--set replaces settings of a config, and none is given; name it")
    log = RequestLog.open(dataset)
    settings = None if config is None else read_settings(config, changes or [])
    if settings is None:
        notify("no config: checked with the settings that `cascaderank init` would write")
    with Bars() as bars:
        result = check_data(log, settings, progress=bars)
    if as_json:
        emit_json({"path": str(dataset), "config": config and str(config), **result.to_json()})
    else:
        emit(check_table(result))
    if strict and result.failed:
        raise typer.Exit(code=1)
