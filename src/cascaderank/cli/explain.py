"""``cascaderank explain``: why candidates of a request were kept or cut, and what was lost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from cascaderank.errors import ConfigError, counted

if TYPE_CHECKING:
    from cascaderank.runs.parts import Part


@user_errors
def explain(
    run: Annotated[Path, typer.Argument(help="Folder of a complete run.")],
    dataset: Annotated[
        Path | None,
        typer.Argument(help="Folder of a data set. Default: the data set of the run."),
    ] = None,
    request: Annotated[
        str | None, typer.Option(help="Id of the request: the fate of each of its candidates.")
    ] = None,
    item: Annotated[
        str | None,
        typer.Option(
            help="With --request: key of one candidate, and what would have changed its fate. The "
            "effects of its features need the extra explain."
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            help="With --item: stage to explain. Default: the one that cut the candidate, or the "
            "last that cut any."
        ),
    ] = None,
    lost: Annotated[
        bool,
        typer.Option("--lost", help="List the ground truth that each stage cut, worst first."),
    ] = False,
    part: PartOption = "auto",
    top: Annotated[
        int,
        typer.Option(
            min=1,
            max=1_000_000,
            help="Rows: of each stage with --lost; otherwise of each fate, beside ground truth.",
        ),
    ] = 10,
    key: Annotated[
        str | None,
        typer.Option(
            help="Feature that identifies items. Default: item_key of the data set, else "
            "catalogue.item of the run, else what the source recorded, else the position."
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Parquet file of all rows, with all columns.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a file that exists.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Explain a request: the rank and the distance to the cut of each candidate in each stage.

    With --item: the features that decided, and the smallest quota or score that would have kept the
    candidate. With --lost instead of --request: the ground truth that the stages cut.
    """
    if lost == (request is not None):
        if item is not None and not lost:
            raise ConfigError("--item needs --request ID, the request of the candidate; give both")
        given = "both" if lost else "neither"
        raise ConfigError(f"expected either --request ID or --lost; found {given}; give one")
    if request is None:
        if item is not None or stage is not None:
            raise ConfigError("--item and --stage need --request ID; leave them out with --lost")
        _lost(run, dataset, part, key, top, to, overwrite=overwrite, as_json=as_json)
        return
    if part != "auto":
        raise ConfigError("--part needs --lost; leave it out with --request")
    if stage is not None and item is None:
        raise ConfigError("--stage needs --item KEY; give both, or leave it out")
    from cascaderank.evaluation import explain as explained
    from cascaderank.reports.explanation_tables import candidate_tables, item_tables
    from cascaderank.runs.new_files import new_file
    from cascaderank.runs.row_files import RowWriter, check_parquet

    if to is not None:
        check_parquet(to, overwrite=overwrite)
    found = explained(run, dataset, request=request, item=item, stage=stage, key=key)
    if to is not None:
        with new_file(to) as hidden, RowWriter(hidden) as writer:
            writer.write(found.candidates)
    if as_json:
        paths = {"dataset": None if dataset is None else str(dataset)}
        paths["to"] = None if to is None else str(to)
        emit_json({"run": str(run), **paths, **found.to_json()})
        return
    notify(f"item key: {found.key}")
    if to is not None:
        notify(f"{to}: {counted(found.candidates.height, 'row')}")
    if item is None:
        emit(*candidate_tables(found, top=top))
    else:
        emit(*item_tables(found))


def _lost(
    run: Path,
    dataset: Path | None,
    part: "Part",
    key: str | None,
    top: int,
    to: Path | None,
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """List the lost ground truth."""
    from cascaderank.evaluation import lost_ground_truth
    from cascaderank.reports.explanation_tables import lost_tables

    with Bars() as bars:
        found = lost_ground_truth(
            run,
            dataset,
            part=part,
            key=key,
            worst=top,
            to=to,
            overwrite=overwrite,
            progress=bars,
        )
    if as_json:
        paths = {"dataset": None if dataset is None else str(dataset)}
        paths["to"] = None if to is None else str(to)
        emit_json({"run": str(run), **paths, **found.to_json()})
        return
    notify(f"requests: {found.part} of {dataset or 'the data set of the run'}")
    notify(f"item key: {found.key}")
    emit(*lost_tables(found))
    if to is not None:
        rows = sum(stage.candidates for stage in found.stages)
        typer.echo(f"{to}: {counted(rows, 'row')}")
