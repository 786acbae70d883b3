"""``cascaderank evaluate``: judge a run on a data set."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cascaderank.cli.shell import AsJson, Bars, emit, emit_json, say, user_errors
from cascaderank.errors import ConfigError


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
    target: Annotated[
        str | None,
        typer.Option(help="What is judged by, such as label; what was trained on if not given."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Ground truth is every label of at least this; that of the run if not."),
    ] = None,
    catalogue: Annotated[
        bool, typer.Option("--catalogue", help="Search all items instead of the logged ones.")
    ] = False,
    stage: Annotated[
        str | None, typer.Option(help="With --catalogue: which stage searches; else the first.")
    ] = None,
    index: Annotated[
        str, typer.Option(help="With --catalogue: an index of faiss, such as HNSW32.")
    ] = "exact",
    as_json: AsJson = False,
) -> None:
    """Print how much of the ground truth survives the cascade, and which stage lost the rest."""
    from cascaderank.reports.evaluation_tables import catalogue_table, report_tables
    from cascaderank.training.evaluate_run import evaluate_run, evaluate_run_catalogue

    about = {"run": str(run), "dataset": str(dataset)}
    if catalogue:
        if target is not None or threshold is not None:
            raise ConfigError(
                "--catalogue is judged by the ground truth of the run; leave out --target and "
                "--threshold"
            )
        with Bars() as bars:
            judged, found = evaluate_run_catalogue(
                run, dataset, part=part, stage=stage, index=index, progress=bars
            )
        if as_json:
            emit_json({**about, "part": judged, **found.to_json()})
            return
        say(f"{judged} requests of {dataset}")
        emit(catalogue_table(found))
        return
    if stage is not None or index != "exact":
        raise ConfigError("--stage and --index are about the search of all items; add --catalogue")
    with Bars() as bars:
        judged, report = evaluate_run(
            run, dataset, part=part, target=target, threshold=threshold, progress=bars
        )
    if as_json:
        emit_json({**about, "part": judged, **report.to_json()})
        return
    say(f"{judged} requests of {dataset}")
    emit(*report_tables(report))
