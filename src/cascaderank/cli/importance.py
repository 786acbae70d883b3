"""``cascaderank importance``: the recall that each feature of a run is worth, by permutation."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import (
    AsJson,
    Bars,
    PartOption,
    emit,
    emit_json,
    notify,
    user_errors,
)


@user_errors
def importance(
    run: Annotated[Path, typer.Argument(help="Folder of a complete run.")],
    dataset: Annotated[Path, typer.Argument(help="Folder of a data set.")],
    stage: Annotated[str | None, typer.Option(help="Stage to measure. Default: all.")] = None,
    part: PartOption = "auto",
    repeats: Annotated[
        int, typer.Option(min=1, max=10_000, help="Number of permutations of each feature.")
    ] = 5,
    seed: Annotated[
        int, typer.Option(min=0, max=2**63 - 1, help="Random seed of the permutations.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Measure feature importance: the recall lost if a stage receives permuted values.

    Values of an item feature are permuted among the candidates of a request, those of a request or
    history feature among the requests. The other stages receive the true values. Correlated
    features share their importance.
    """
    from cascaderank.reports.importance_tables import importance_tables
    from cascaderank.training.evaluate_run import run_importance

    with Bars() as bars:
        evaluated, found = run_importance(
            run, dataset, part=part, stage=stage, repeats=repeats, seed=seed, progress=bars
        )
    if as_json:
        emit_json({"run": str(run), "dataset": str(dataset), "part": evaluated, **found.to_json()})
        return
    notify(f"requests: {evaluated} of {dataset}")
    emit(*importance_tables(found))
