"""``cascaderank verify``: compare a bundle with the code of training."""

from pathlib import Path
from typing import Annotated

import typer

from cascaderank.cli.shell import AsJson, Bars, emit_json, notify, user_errors
from cascaderank.errors import counted


@user_errors
def verify(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle.")],
    url: Annotated[
        str | None,
        typer.Option(help="Address of a server of this bundle, which is compared, too."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token of the server. Default: CASCADERANK_TOKEN, if set."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Verify that a bundle serves what was trained; exit code 1 with the first difference.

    The golden requests pass through the modules of training and through the ranker: each stage must
    keep the same candidates, and scores must be equal to 1e-5. All items are encoded anew. With
    --url, the requests also pass through a server.
    """
    from contextlib import ExitStack, closing

    from cascaderank.serving.http.access import token_of
    from cascaderank.serving.http.remote import RemoteRanker
    from cascaderank.serving.verify import AnswerOf, verify_bundle

    with Bars() as bars, ExitStack() as opened:
        ways: list[tuple[str, AnswerOf]] = []
        if url is not None:
            remote = opened.enter_context(closing(RemoteRanker(url, token=token_of(token_file))))
            remote.check_same(bundle)
            ways.append(("HTTP", remote.answer))
        result = verify_bundle(bundle, ways=ways, progress=bars)
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
