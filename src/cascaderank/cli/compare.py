"""``cascaderank compare``: tune, train and compare methods."""

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
from cascaderank.limits import LARGEST, MOST_JOBS, MOST_SEEDS


@user_errors
def compare(
    config: Annotated[Path, typer.Argument(help="TOML file with the settings of the runs.")],
    objectives: Annotated[
        str | None,
        typer.Option(
            help="Methods to compare, separated by commas: names of objectives or of "
            "[compare.variants]. Default: compare.objectives of the config."
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_SEEDS, help="Runs per method. Default: compare.seeds of the config."
        ),
    ] = None,
    streaming: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=LARGEST,
            help="For a split by day: test each of the last N days separately, with models "
            "trained on the days before it.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_JOBS,
            help="Number of processes that train at the same time. They share the CPU threads; "
            "the number of threads can change the last digits of results, and nothing else.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of all runs. Default: runs/NAME-compare for NAME.toml."),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Method that gains are computed against. Default: compare.reference of the config."
        ),
    ] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Tune and train methods with equal budgets and seeds, and compare them with baselines.

    The tables [compare.grid] and [compare.tuning] of the config define the search space; the best
    settings are those with the highest validation recall. To resume an interrupted comparison,
    repeat the command.
    """
    from cascaderank.errors import MissingExtraError
    from cascaderank.experiments.compare import compare as run_comparison
    from cascaderank.reports.comparison_files import write_comparison, write_plot
    from cascaderank.reports.comparison_tables import comparison_tables
    from cascaderank.settings.run import read_settings

    settings = read_settings(config, changes or [])
    if against is not None:
        settings = settings.changed({"compare.reference": against})
    notify_defaults(settings)
    folder = run or Path("runs") / f"{config.stem}-compare"
    names = [n.strip() for n in objectives.split(",") if n.strip()] if objectives else None
    after_interrupt(lambda: kept_runs(folder))
    with Bars() as bars:
        result = run_comparison(
            settings,
            folder,
            objectives=names,
            seeds=seeds,
            streaming=streaming,
            jobs=jobs,
            progress=bars,
        )
    if as_json:
        emit_json(result.to_json())
    else:
        emit(*comparison_tables(result))
    for warning in result.warnings:
        notify_wrapped(warning, "warning: ")
    write_comparison(result, folder)
    files = "comparison.json, .md and .tex"
    try:
        write_plot(result, folder)
        files = "comparison.json, .md, .tex, .png and .svg"
    except MissingExtraError as error:
        notify(f"no plot: {error}")
    notify(f"wrote the runs, {files} to {folder}")
