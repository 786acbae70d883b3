"""The command line: one command per file, registered here.

Results go to stdout, talk and progress bars to stderr. Exit code 0 is done, 2 is the user's
mistake told in one line, 1 is a bug. Nothing heavy is imported before a command runs.
"""

import os
import sys

import typer

from cascaderank.cli.compare import compare
from cascaderank.cli.demo import demo
from cascaderank.cli.evaluate import evaluate
from cascaderank.cli.fields import fields
from cascaderank.cli.heatmap import heatmap
from cascaderank.cli.ls import ls
from cascaderank.cli.prepare import prepare
from cascaderank.cli.profile import profile
from cascaderank.cli.prune import prune
from cascaderank.cli.simulate import simulate
from cascaderank.cli.train import train

# Threads of torch that wait by spinning slow a busy machine down twentyfold, those that sleep at
# once an idle one by a fifth (docs/decisions/0002): spin for some microseconds, then sleep.
# Read when torch is loaded, which no command does before it runs.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

app = typer.Typer(
    name="cascaderank",
    help="Train, judge and explain a cascade ranking system as one network.",
    add_completion=False,
    rich_markup_mode="markdown",  # brackets in help are names of tables
    pretty_exceptions_show_locals=False,
)
for command in (
    demo,
    prepare,
    simulate,
    train,
    evaluate,
    compare,
    heatmap,
    profile,
    prune,
    fields,
    ls,
):
    app.command()(command)
app.command("select", hidden=True, deprecated=True)(fields)  # what `fields` was called in 0.1


def main() -> None:
    """Run the command line; words that it does not take are told in one line too."""
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], standalone_mode=False))
    except typer.Abort:
        sys.exit(130)
    except typer.TyperException as mistake:
        command = getattr(getattr(mistake, "ctx", None), "command_path", "cascaderank")
        told = " ".join(mistake.format_message().split())
        typer.echo(f"{command}: {told.rstrip('.')}; see {command} --help", err=True)
        sys.exit(mistake.exit_code)
