"""``cascaderank compare``: methods beside one another."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, Changes, emit, emit_json, say, user_errors


@user_errors
def compare(
    config: Annotated[Path, typer.Argument(help="Settings of the runs, a TOML file.")],
    objectives: Annotated[
        str | None,
        typer.Option(
            help="Names of objectives or of [compare.variants], with commas; those of the config "
            "if not given."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Runs per method; that of the config if not given.")
    ] = None,
    streaming: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Of a split by day: test each of the last N days alone, by models that were "
            "trained on the days before it.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that train at the same time. They share the threads, whose number may "
            "change the last digits of a sum; results depend on it in no other way.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of all runs; runs/NAME-compare of the config if not given."),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Method that gains are over; compare.reference otherwise.")
    ] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Tune and train methods with equal budgets and seeds; print them beside the baselines.

    The config says what is tried ([compare.grid], [compare.tuning]); recall of the validation
    requests decides. A comparison that was killed goes on where it stopped when the same command
    is given again.
    """
    from cascaderank.errors import MissingExtraError
    from cascaderank.experiments.compare import compare as run_comparison
    from cascaderank.reports.comparison_files import write_comparison, write_plot
    from cascaderank.reports.comparison_tables import comparison_tables
    from cascaderank.settings.run import read_settings

    settings = read_settings(config, changes or [])
    if against is not None:
        settings = settings.changed({"compare.reference": against})
    folder = run or Path("runs") / f"{config.stem}-compare"
    names = [n.strip() for n in objectives.split(",") if n.strip()] if objectives else None
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
    write_comparison(result, folder)
    files = "comparison.json, .md and .tex"
    try:
        write_plot(result, folder)
        files = "comparison.json, .md, .tex, .png and .svg"
    except MissingExtraError as error:
        say(f"no plot: {error}")
    say(f"the runs are in {folder}, and with them {files}")
