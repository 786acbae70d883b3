"""What all commands share: how errors, results and progress reach the user."""

import functools
import json
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, ParamSpec, Self, TypeVar, final

import typer

from cascaderank.errors import CascadeRankError, ConfigError

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


def numbers(option: str, text: str) -> list[int]:
    """Read whole numbers with commas between them.

    Raises:
        ConfigError: if the text is something else; names the option.
    """
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(
            f"{option} takes numbers with commas, such as 10,20; got '{text}'"
        ) from None


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
    """Progress bars on stderr, one inside the other; quiet unless it is a terminal.

    Of the outermost work that is done, one line stays.
    """

    def __init__(self) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        self._console: Console = Console(stderr=True)
        self._bars = progress.Progress(
            progress.TextColumn("{task.description:<12}"),
            progress.BarColumn(bar_width=20),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn(
                "{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis")
            ),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tasks: list[progress.TaskID] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()  # whatever happened, the terminal is the user's again

    def start(self, what: str, total: int) -> None:
        """Begin a bar, inside the one that is there."""
        if not self._tasks:
            self._bars.start()
        self._tasks.append(self._bars.add_task(what, total=total, note=""))

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the innermost bar on; an empty note leaves the last one."""
        if self._tasks:
            task = self._tasks[-1]
            self._bars.advance(task, steps)
            if note:
                self._bars.update(task, note=note)

    def grow(self, steps: int) -> None:
        """Make the innermost bar longer."""
        if self._tasks:
            bar = next(t for t in self._bars.tasks if t.id == self._tasks[-1])
            self._bars.update(bar.id, total=(bar.total or 0) + steps)

    def stop(self, note: str = "") -> None:
        """Take the innermost bar away; of the outermost, leave the note."""
        if not self._tasks:
            return
        task = self._tasks.pop()
        what = next((t.description for t in self._bars.tasks if t.id == task), "")
        self._bars.remove_task(task)
        if not self._tasks:
            self._bars.stop()
            if note and self._console.is_terminal:
                self._console.print(f"{what}: {note}", highlight=False)
