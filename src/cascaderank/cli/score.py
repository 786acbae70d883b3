"""``cascaderank score``: write scores, final lists and vectors of a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from cascaderank.cli.interrupts import after_interrupt, kept_parts
from cascaderank.cli.shell import AsJson, Bars, PartOption, emit_json, notify, user_errors
from cascaderank.errors import ConfigError, counted


@user_errors
def score(
    run: Annotated[Path, typer.Argument(help="Folder of a complete run, or of a bundle.")],
    dataset: Annotated[
        Path,
        typer.Argument(
            help="Folder of a data set; labels are not needed. With a bundle also Parquet or JSON "
            "lines with one request per row."
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(
            help="File of scores: .parquet, .jsonl, or .run or .trec for a TREC run file of the "
            "final lists."
        ),
    ] = None,
    vectors: Annotated[
        Path | None,
        typer.Option(help="Folder for the item vectors and request vectors of a stage."),
    ] = None,
    part: PartOption = "auto",
    kind: Annotated[
        Literal["parquet", "jsonl", "trec"] | None,
        typer.Option("--format", help="Format of --to. Default: by the suffix of the file."),
    ] = None,
    item: Annotated[
        str | None,
        typer.Option(
            help="Feature that identifies items. Default: item_key of the data set, else "
            "catalogue.item of the run, else what the source recorded, else the position."
        ),
    ] = None,
    stage: Annotated[
        str | None,
        typer.Option(
            help="Stage of --vectors. Default: the first whose score is the dot product of two "
            "vectors."
        ),
    ] = None,
    vectors_format: Annotated[
        Literal["numpy", "parquet"],
        typer.Option(
            help="Format of --vectors: numpy, arrays with a file of ids each; or parquet, files "
            "with an id and a list of numbers in each row."
        ),
    ] = "numpy",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write what a run computes: the scores of all stages, final lists, and vectors.

    Per candidate: the score of every stage, the final rank, and the last stage reached. A bundle
    serves each request: a stage scores the candidates that it receives. To resume after an
    interrupt or a kill, repeat the command.
    """
    from cascaderank.runs.score_run import score_run

    if to is not None:
        after_interrupt(kept_parts(to))
    # A bundle that was copied without its manifest is refused as a bundle.
    if any((run / name).exists() for name in ("bundle.json", "golden.parquet")):
        chosen = {"--vectors": vectors, "--item": item, "--stage": stage}
        chosen["--part"] = None if part == "auto" else part
        _of_bundle(run, dataset, to, kind, chosen, overwrite=overwrite, as_json=as_json)
        return
    with Bars() as bars:
        done = score_run(
            run,
            dataset,
            to=to,
            vectors=vectors,
            part=part,
            kind=kind,
            item=item,
            stage=stage,
            vectors_kind=vectors_format,
            overwrite=overwrite,
            progress=bars,
        )
    files = {n: str(p) for n, p in (("to", to), ("vectors", vectors)) if p is not None}
    if as_json:
        emit_json({"run": str(run), "dataset": str(dataset), **files, **done.to_json()})
        return
    notify(f"requests: {done.part} of {dataset}")
    notify(f"item key: {done.item_key}")
    if done.repeated:
        notify(
            f"left out: {counted(done.repeated, 'candidate')} of final lists, because the request "
            "has a better one with the same key, and TREC allows a document once"
        )
    if to is not None:
        sizes = f"{counted(done.written, 'row')}, {counted(done.requests, 'request')}"
        typer.echo(f"{to}: {sizes}")
    if vectors is not None:
        typer.echo(
            f"{vectors}: vectors of '{done.stage}', {counted(done.items, 'item')}, "
            f"{counted(done.requests, 'request')}, length {done.dim}"
        )


def _of_bundle(
    bundle: Path,
    requests: Path,
    to: Path | None,
    kind: str | None,
    of_runs: Mapping[str, object],
    *,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write what a bundle serves for each request."""
    from cascaderank.serving.score_bundle import score_bundle

    if to is None:
        raise ConfigError("nothing to write; set --to FILE")
    for option, value in of_runs.items():
        if value is not None:
            raise ConfigError(f"{option} needs a run, and {bundle} is a bundle; leave it out")
    with Bars() as bars:
        done = score_bundle(bundle, requests, to=to, kind=kind, overwrite=overwrite, progress=bars)
    if as_json:
        emit_json(
            {"bundle": str(bundle), "requests_of": str(requests), "to": str(to), **done.to_json()}
        )
        return
    notify(f"item key: '{done.item_key}'")
    if done.unknown:
        notify(f"left out: {counted(done.unknown, 'candidate')} with a key outside the catalogue")
    if done.repeated:
        notify(f"left out: {counted(done.repeated, 'candidate')} that a list has twice")
    typer.echo(f"{to}: {counted(done.written, 'row')}, {counted(done.requests, 'request')}")
