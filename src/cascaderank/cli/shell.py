"""What all commands share: how errors, results and progress reach the user."""

import functools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar, final

import typer

from cascaderank.errors import CascadeRankError

if TYPE_CHECKING:
    from rich.console import RenderableType

P = ParamSpec("P")
R = TypeVar("R")

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Replace a setting, such as train.seed=3; may be given again."),
]
"""The option that replaces settings of a config."""

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, no table.")]
"""The option that asks for a result that programs read."""


def user_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the errors of the library into one line on stderr and exit code 2."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except CascadeRankError as error:
            told = " ".join(str(error).split())  # one line, whatever is quoted in it
            typer.echo(f"cascaderank {command.__name__}: {told}", err=True)
            raise typer.Exit(code=2) from None
        except KeyboardInterrupt:
            typer.echo(
                f"cascaderank {command.__name__}: stopped; what was finished is kept", err=True
            )
            raise typer.Exit(code=130) from None

    return wrapped


def say(text: str) -> None:
    """Tell the user something that is not a result."""
    typer.echo(text, err=True)


def emit_json(value: object) -> None:
    """Print one JSON object as the result."""
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


def emit(*renderables: "RenderableType") -> None:
    """Print tables and text as the result."""
    from rich.console import Console

    # Where output is not a terminal, its width is the one that tables promise to fit.
    console = Console() if sys.stdout.isatty() else Console(width=100)
    for renderable in renderables:
        console.print(renderable)


@final
class Bars:
    """Progress bars on stderr; of work that is done, one line stays. Quiet unless a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._console: Console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description:<14}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: int | None = None
        self._what = ""

    def start(self, what: str, total: int) -> None:
        """Begin a bar."""
        self._what = what
        self._bars.start()
        self._task = self._bars.add_task(what, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar on; an empty note leaves the last one."""
        if self._task is None:
            return
        from rich.progress import TaskID

        if note:
            self._bars.update(TaskID(self._task), advance=steps, note=note)
        else:
            self._bars.update(TaskID(self._task), advance=steps)

    def stop(self, note: str = "") -> None:
        """Take the bar away and leave the note."""
        if self._task is None:
            return
        from rich.progress import TaskID

        self._bars.remove_task(TaskID(self._task))
        self._task = None
        self._bars.stop()
        if note and self._console.is_terminal:
            self._console.print(f"{self._what}: {note}", highlight=False)
