"""``cascaderank heatmap``: train losses for one (m, k), and evaluate them at a grid of (m, k)."""

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
    numbers,
    user_errors,
)
from cascaderank.limits import MOST_SEEDS


@user_errors
def heatmap(
    config: Annotated[
        Path, typer.Argument(help="TOML file with the settings of a run with one stage.")
    ],
    losses: Annotated[
        str, typer.Option(help="Names of objectives, separated by commas.")
    ] = "relaxed_recall,lambda_recall",
    m: Annotated[
        str, typer.Option(help="Numbers of candidates that the stage keeps, separated by commas.")
    ] = "10,30",
    k: Annotated[
        str, typer.Option(help="Sizes of the ground truth, separated by commas.")
    ] = "5,15",
    seeds: Annotated[
        int, typer.Option(min=1, max=MOST_SEEDS, help="Runs per loss, (m, k) and fold.")
    ] = 1,
    run: Annotated[
        Path | None,
        typer.Option(help="Folder of all runs. Default: runs/NAME-heatmap for NAME.toml."),
    ] = None,
    changes: Changes = None,
    as_json: AsJson = False,
) -> None:
    """Train each loss for each (m, k), and evaluate each model at all (m, k).

    A loss for Recall@m@k should have its best Recall@m@k when it is trained for this (m, k). The
    consistency of a loss measures this: it is the rank correlation, in [-1, 1], between the
    proximity of the (m, k) of training to the (m, k) of evaluation, and the recall. It is 1 if a
    model trained for a nearer (m, k) always has the higher recall. To resume, repeat the command:
    complete runs are not trained again.
    """
    from cascaderank.errors import MissingExtraError
    from cascaderank.experiments.heatmap import heatmap as run_heatmap
    from cascaderank.reports.heatmap_plot import heatmap_png
    from cascaderank.reports.heatmap_tables import heatmap_markdown, heatmap_tables
    from cascaderank.runs.folder import write_atomically
    from cascaderank.settings.run import read_settings

    settings = read_settings(config, changes or [])
    notify_defaults(settings)
    folder = run or Path("runs") / f"{config.stem}-heatmap"
    after_interrupt(lambda: kept_runs(folder))
    with Bars() as bars:
        result = run_heatmap(
            settings,
            folder,
            losses=[name.strip() for name in losses.split(",") if name.strip()],
            m=numbers("--m", m),
            k=numbers("--k", k),
            seeds=seeds,
            progress=bars,
        )
    if as_json:
        emit_json(result.to_json())
    else:
        emit(*heatmap_tables(result))
    write_atomically(folder / "heatmap.md", heatmap_markdown(result).encode())
    files = "heatmap.json and .md"
    try:
        write_atomically(folder / "heatmap.png", heatmap_png(result))
        files = "heatmap.json, .md and .png"
    except MissingExtraError as error:
        notify(f"no plot: {error}")
    notify(f"wrote the runs, {files} to {folder}")
