"""``cascaderank heatmap``: losses trained for one (m, k) and judged at all of a grid."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, Changes, emit_json, numbers, say, user_errors


@user_errors
def heatmap(
    config: Annotated[Path, typer.Argument(help="Settings of a run with one stage, a TOML file.")],
    losses: Annotated[
        str, typer.Option(help="Names of objectives, with commas.")
    ] = "relaxed_recall,lambda_recall",
    m: Annotated[str, typer.Option(help="How many the stage passes on, with commas.")] = "10,30",
    k: Annotated[str, typer.Option(help="Sizes of the ground truth, with commas.")] = "5,15",
    seeds: Annotated[int, typer.Option(min=1, help="Runs per loss, (m, k) and fold.")] = 1,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of all runs; runs/NAME-heatmap of the config if not given."),
    ] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Train every loss for every (m, k) and judge every model at all of them.

    A loss that is about Recall@m@k should do best where it was trained for: its consistency says
    how far it does. Runs that are complete are not run again.
    """
    from cascaderank.errors import MissingExtraError
    from cascaderank.experiments.heatmap import heatmap as run_heatmap
    from cascaderank.reports.heatmap_plot import heatmap_png
    from cascaderank.reports.heatmap_tables import heatmap_markdown
    from cascaderank.runs.folder import write_atomically
    from cascaderank.settings.run import read_settings

    settings = read_settings(config, changes or [])
    folder = run or Path("runs") / f"{config.stem}-heatmap"
    with Bars() as bars:
        found = run_heatmap(
            settings,
            folder,
            losses=[name.strip() for name in losses.split(",") if name.strip()],
            m=numbers("--m", m),
            k=numbers("--k", k),
            seeds=seeds,
            progress=bars,
        )
    if as_json:
        emit_json(found.to_json())
    else:
        typer.echo(heatmap_markdown(found))
    write_atomically(folder / "heatmap.md", heatmap_markdown(found).encode())
    files = "heatmap.json and .md"
    try:
        write_atomically(folder / "heatmap.png", heatmap_png(found))
        files = "heatmap.json, .md and .png"
    except MissingExtraError as error:
        say(f"no plot: {error}")
    say(f"the runs are in {folder}, and with them {files}")
