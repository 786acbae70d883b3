"""``cascaderank verify``: compare a bundle with the code of training."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, emit_json, notify, user_errors
from cascaderank.errors import counted


@user_errors
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    as_json: AsJson = False,
) -> None:
    """Verify that a bundle serves what was trained; exit code 1 with the first difference.

    The golden requests pass through the modules of training and through the ranker: each stage must
    keep the same candidates, and scores must be equal to 1e-5. All items are encoded anew.
    """
    from cascaderank.serving.verify import verify_bundle

    with Bars() as bars:
        result = verify_bundle(bundle, progress=bars)
    if as_json:
        emit_json({"bundle": str(bundle), **result.to_json()})
    elif result.difference is not None:
        notify(f"{bundle}: {result.difference}")
    else:
        parts = [
            counted(result.requests, "golden request"),
            counted(result.candidates, "candidate"),
        ]
        parts += [counted(result.items, "item")] if result.items else []
        typer.echo(f"{bundle}: equal for {', '.join(parts)}; {', '.join(result.ways)}")
        typer.echo(f"largest difference of a score: {result.largest:.2g}")
        if result.near_ties:
            typer.echo(f"cuts between scores equal within 1e-5: {result.near_ties}")
    if not result.equal:
        raise typer.Exit(code=1)
