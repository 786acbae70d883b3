"""``cascaderank evaluate``: evaluate a run on a data set."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import (
    AsJson,
    Bars,
    PartOption,
    emit,
    emit_json,
    finite,
    notify,
    user_errors,
)
from cascaderank.errors import ConfigError


@user_errors
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a complete run.")],
    dataset: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    part: PartOption = "auto",
    target: Annotated[
        str | None,
        typer.Option(help="Target of the labels, such as label. Default: that of the run."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            callback=finite,
            help="Smallest label of the ground truth. Default: the ground truth of the run.",
        ),
    ] = None,
    catalogue: Annotated[
        bool,
        typer.Option(
            "--catalogue",
            help="Evaluate one stage by exhaustive or approximate search over all items.",
        ),
    ] = False,
    stage: Annotated[
        str | None, typer.Option(help="With --catalogue: stage to evaluate. Default: the first.")
    ] = None,
    index: Annotated[
        str,
        typer.Option(
            help="With --catalogue: exact, or a faiss index for approximate search, such as HNSW32."
        ),
    ] = "exact",
    as_json: AsJson = False,
) -> None:
    """Evaluate a run: the recall of the cascade, and the recall lost at each stage."""
    from cascaderank.reports.evaluation_tables import catalogue_table, report_tables
    from cascaderank.training.evaluate_run import evaluate_run, evaluate_run_catalogue

    paths = {"run": str(run), "dataset": str(dataset)}
    if catalogue:
        if target is not None or threshold is not None:
            raise ConfigError(
                "--catalogue uses the ground truth of the run; leave out --target and --threshold"
            )
        with Bars() as bars:
            evaluated, search = evaluate_run_catalogue(
                run, dataset, part=part, stage=stage, index=index, progress=bars
            )
        if as_json:
            emit_json({**paths, "part": evaluated, **search.to_json()})
            return
        notify(f"requests: {evaluated} of {dataset}")
        emit(catalogue_table(search))
        return
    if stage is not None or index != "exact":
        raise ConfigError("--stage and --index apply to the search of all items; add --catalogue")
    with Bars() as bars:
        evaluated, report = evaluate_run(
            run, dataset, part=part, target=target, threshold=threshold, progress=bars
        )
    if as_json:
        emit_json({**paths, "part": evaluated, **report.to_json()})
        return
    notify(f"requests: {evaluated} of {dataset}")
    emit(*report_tables(report))
