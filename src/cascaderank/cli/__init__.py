"""The command line: one command per file, registered here.

Results go to stdout, messages and progress bars to stderr. Exit code 0 means success, 2 a user
error or output that cannot be written, reported in one line, 130 an interrupt, 143 a termination,
141 a closed pipe, and 1 a bug, or findings of ``check --strict``. Heavy modules are imported only
when a command runs.
"""

import os
import signal
import sys
from itertools import pairwise
from typing import Annotated

import typer

from cascaderank import __version__
from cascaderank.cli.check import check
from cascaderank.cli.compare import compare
from cascaderank.cli.demo import demo
from cascaderank.cli.evaluate import evaluate
from cascaderank.cli.explain import explain
from cascaderank.cli.export import export
from cascaderank.cli.fields import fields, select
from cascaderank.cli.heatmap import heatmap
from cascaderank.cli.importance import importance
from cascaderank.cli.init import init
from cascaderank.cli.interrupts import interruptible, received
from cascaderank.cli.ls import ls
from cascaderank.cli.output import checked_output
from cascaderank.cli.prepare import prepare
from cascaderank.cli.profile import profile
from cascaderank.cli.prune import prune
from cascaderank.cli.quotas import quotas
from cascaderank.cli.report import report
from cascaderank.cli.score import score
from cascaderank.cli.serve import serve
from cascaderank.cli.simulate import simulate
from cascaderank.cli.train import train
from cascaderank.cli.verify import verify

# Idle threads of torch that spin slow a busy machine down twentyfold; threads that sleep at once
# slow an idle machine down by a fifth (docs/decisions/0002). Hence: spin for some microseconds,
# then sleep. These variables are read when torch is loaded, which happens only in commands.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

app = typer.Typer(
    name="cascaderank",
    add_completion=False,
    rich_markup_mode="markdown",  # rich markup would remove [table] names
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"cascaderank {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and exit."
        ),
    ] = False,
) -> None:
    """Train, evaluate and explain cascade ranking systems as one network."""


for command in (
    demo,
    prepare,
    init,
    check,
    simulate,
    train,
    evaluate,
    score,
    compare,
    heatmap,
    profile,
    quotas,
    report,
    prune,
    fields,
    importance,
    explain,
    export,
    verify,
    serve,
    ls,
):
    app.command()(command)
app.command("select", hidden=True)(select)  # the name of `fields` in version 0.1


def main() -> None:
    """Run the command line; invalid commands and options are reported in one line, too."""
    with interruptible():
        code = checked_output(_run)
    sys.exit(code)


def _run() -> object:
    if mistake := _mistake(sys.argv[1:]):
        typer.echo(f"cascaderank: {mistake}; see cascaderank --help", err=True)
        sys.exit(2)
    interrupted = 128 + signal.SIGINT
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code != interrupted:
            return code
    except (typer.Abort, KeyboardInterrupt):
        pass
    except typer.TyperException as error:
        command = getattr(getattr(error, "ctx", None), "command_path", "cascaderank")
        message = " ".join(error.format_message().replace("Value error, ", "").split())
        typer.echo(f"{command}: {message.rstrip('.')}; see {command} --help", err=True)
        sys.exit(error.exit_code)
    # Before a command runs, typer returns 130 for all signals.
    sys.exit(128 + (received() or signal.SIGINT))


def _mistake(words: list[str]) -> str:
    """Return what is wrong with any command in this place or with these words, or ``""``."""
    for before, word in pairwise(["", *words]):
        if not word or (word.startswith("-") and word.partition("=")[1:] == ("=", "")):
            place = f" after {before}" if not word and before else f": {word}" * bool(word)
            return f"expected a value, found an empty one{place}; write one, or leave it out"
        try:
            word.encode()
        except UnicodeEncodeError:
            return f"expected words in UTF-8, found {os.fsencode(word)!r}; rename the file"
    return ""
