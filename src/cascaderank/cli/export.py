"""``cascaderank export``: write a run as a bundle to serve."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, emit_json, notify, user_errors
from cascaderank.errors import counted
from cascaderank.limits import LARGEST


@user_errors
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a complete run.")],
    to: Annotated[Path, typer.Option(help="Folder of the bundle; one that exists is replaced.")],
    dataset: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the data set with the items and the golden requests. Default: that of "
            "the run."
        ),
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="File with one row per item, .parquet or .jsonl, instead of the items of the data "
            "set."
        ),
    ] = None,
    item: Annotated[
        str | None,
        typer.Option(
            help="Feature that identifies items. Default: item_key of the data set, else "
            "catalogue.item of the run, else what the source recorded."
        ),
    ] = None,
    latest: Annotated[
        list[str] | None,
        typer.Option(
            help="Item features that change over time, such as price: the last value in the log "
            "counts. Others with several values for one item are of request and item together. A "
            "shell pattern; can be repeated."
        ),
    ] = None,
    golden: Annotated[
        int,
        typer.Option(
            min=1, max=LARGEST, help="Number of test requests that the bundle is verified with."
        ),
    ] = 200,
    name: Annotated[
        str | None, typer.Option(help="Name of the bundle. Default: that of the run.")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            help="Approximate index for requests that search all items: hnsw, or a description for "
            "faiss, such as IVF64,Flat. Default: exact search."
        ),
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write each stage as ONNX, too, except boosted_trees.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a run as a bundle to serve: one folder, which is verified before it has its name.

    The bundle has weights, schema, the catalogue of items with what can be computed in advance, and
    golden requests with the scores of the code of training.
    """
    from cascaderank.serving.export import export_run

    with Bars() as bars:
        manifest, verification = export_run(
            run,
            to,
            dataset=dataset,
            items=items,
            item=item,
            latest=latest or (),
            golden=golden,
            name=name,
            index=index,
            onnx=onnx,
            progress=bars,
        )
    if as_json:
        content = manifest.model_dump(mode="json", exclude={"files", "metrics"})
        emit_json({"bundle": str(to), **content, "verification": verification.to_json()})
        return
    if manifest.items is None:
        notify("no catalogue: the data set does not identify items; candidates must be raw rows")
    else:
        entry = manifest.items
        notify(f"items: {entry.count:,} by '{entry.key}', {entry.source}")
        for feature, count in entry.out_of_vocabulary.items():
            notify(f"out of vocabulary: {counted(count, 'value')} of '{feature}'")
    for stage in manifest.stages:
        if stage.pair_features and manifest.items is not None:
            notify(
                f"stage '{stage.name}' reads features of request and item together, so that "
                f"candidates must be rows with {', '.join(stage.pair_features)}"
            )
    if manifest.index is not None:
        of = manifest.index
        notify(
            f"index {of.description}: recall@{of.k} {of.recall:.4f} against exact search, over "
            f"{counted(of.requests, 'golden request')}; {of.milliseconds:.2f} ms per search, exact "
            f"{of.exact_milliseconds:.2f} ms"
        )
    for stage in manifest.stages:
        if onnx and stage.onnx is None:
            notify(f"stage '{stage.name}' ({stage.model}) is decision trees: not written as ONNX")
    verified = counted(verification.requests, "golden request")
    size = sum(entry.bytes for entry in manifest.files.values())
    typer.echo(f"{to}: {size / 2**20:,.1f} MiB, verified with {verified}")
