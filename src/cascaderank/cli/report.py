"""``cascaderank report``: one HTML file about runs, or about a comparison."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, emit_json, notify, user_errors
from cascaderank.errors import counted
from cascaderank.limits import LARGEST


@user_errors
def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of complete runs, or of a comparison."),
    ],
    to: Annotated[Path, typer.Option(help="HTML file to write.")],
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of the data set of the runs. Default: where it was in training."),
    ] = None,
    no_data: Annotated[
        bool,
        typer.Option(
            "--no-data",
            help="Do not read the data set; leave out quotas, distances, slices, agreement, "
            "calibration and drift.",
        ),
    ] = False,
    requests: Annotated[
        int, typer.Option(min=1, max=LARGEST, help="Largest number of test requests to score.")
    ] = 20_000,
    pictures: Annotated[
        Path | None, typer.Option(help="Folder for the pictures as PNG and SVG files.")
    ] = None,
    title: Annotated[str, typer.Option(help="Title of the page.")] = "cascaderank report",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that exist.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file about runs or a comparison: where good items are lost, and why.

    The file opens without a network and without JavaScript. Needs the extra `report`.
    """
    from cascaderank.reports.html_report import write_report

    with Bars() as bars:
        done = write_report(
            folders,
            to,
            dataset=data,
            with_data=not no_data,
            most_requests=requests,
            pictures=pictures,
            title=title,
            overwrite=overwrite,
            progress=bars,
        )
    if as_json:
        files = {"to": str(to), **({"pictures_in": str(pictures)} if pictures else {})}
        emit_json({**files, **done.to_json()})
        return
    for name, verdict in done.chapters.items():
        typer.echo(f"{name}: {verdict}")
    notify(f"wrote {to}, {done.bytes / 1e6:.1f} MB")
    if pictures is not None:
        notify(f"wrote {counted(2 * done.pictures, 'file')} of pictures to {pictures}")
