"""``cascaderank evaluate``: judge a run on a data set."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cascaderank.cli.shell import AsJson, Bars, emit, emit_json, say, user_errors


@user_errors
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder that `train` wrote.")],
    dataset: Annotated[Path, typer.Argument(help="Folder that `prepare` wrote.")],
    part: Annotated[
        Literal["auto", "all", "train", "validation", "test"],
        typer.Option(
            help="Which requests; auto takes the test requests of the data set that the run was "
            "trained on, and all requests of any other."
        ),
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Print how much of the ground truth survives the cascade, and which stage lost the rest."""
    from cascaderank.evaluation.tables import report_tables
    from cascaderank.training.run import evaluate_run

    with Bars() as bars:
        judged, report = evaluate_run(run, dataset, part=part, progress=bars)
    if as_json:
        emit_json({"run": str(run), "dataset": str(dataset), "part": judged, **report.to_json()})
        return
    say(f"{judged} requests of {dataset}")
    emit(*report_tables(report))
