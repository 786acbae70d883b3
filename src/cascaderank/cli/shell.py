"""Shared by all commands: output of errors, results, messages and progress."""

import errno
import functools
import json
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, ParamSpec, Self, TypeVar, final

import typer

from cascaderank.cli.interrupts import forget, interrupted_by, outcome
from cascaderank.errors import CascadeRankError, ConfigError, printable, shown
from cascaderank.limits import LARGEST, LARGEST_FLOAT32
from cascaderank.regular_files import check_path

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from cascaderank.settings.run import RunSettings

_OF_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
"""Parts of the messages of PyTorch's errors of memory, which have no type of their own."""

P = ParamSpec("P")
R = TypeVar("R")

Changes = Annotated[
    list[str] | None,
    typer.Option("--set", help="Replace a setting, such as train.seed=3; can be repeated."),
]
"""Option that replaces settings of a config."""

PartOption = Annotated[
    Literal["auto", "all", "train", "validation", "test"],
    typer.Option(
        "--part",
        help="Requests to use. auto: the test requests of the data set that the run was "
        "trained on, or all requests of another data set.",
    ),
]
"""Option that selects the requests of a data set."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]
"""Option to print the result as JSON."""


def user_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Report errors of the library and of the system in one line on stderr, with exit code 2.

    An interrupt is reported with what the command keeps, and exit code 128 + number of the signal.
    The working folder and all paths are checked before the command runs, see
    :func:`~cascaderank.regular_files.check_path`.
    """

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        forget()
        try:
            _check_working_folder()
            for value in kwargs.values():
                for path in value if isinstance(value, list) else [value]:
                    if isinstance(path, Path):
                        check_path(path, ConfigError)
            return command(*args, **kwargs)
        except BaseException as error:
            signal = interrupted_by(error)
            if signal is not None:
                typer.echo(f"cascaderank {command.__name__}: interrupted; {outcome()}", err=True)
                raise typer.Exit(code=128 + signal) from None
            message = _one_line(error)
            if not message:  # a bug
                raise
            typer.echo(f"cascaderank {command.__name__}: {message}", err=True)
            raise typer.Exit(code=2) from None

    return wrapped


def _check_working_folder() -> None:
    try:
        Path.cwd()
    except OSError as error:
        raise ConfigError(
            f"the working folder cannot be found: {error.strerror}; change to another folder"
        ) from None


def _one_line(error: BaseException) -> str:
    """Return the message of an error that is no bug; empty for a bug."""
    if isinstance(error, MemoryError | OverflowError | RuntimeError | OSError):
        error = CascadeRankError(limit_message(error))
    if isinstance(error, CascadeRankError):
        return " ".join(str(error).split())  # quoted input may have line breaks
    return ""


def limit_message(error: Exception) -> str:
    """Return one line on a limit of the machine that was reached, and what to do.

    Args:
        error: error that is not of this library.

    Returns:
        The message; empty if the error is a bug.

    Examples:
        >>> limit_message(OSError(28, "No space left on device", "runs/a/model.pt"))
        'runs/a/model.pt: No space left on device; free space there, and repeat the command'
        >>> limit_message(RuntimeError("expected a tensor"))
        ''
    """
    text = str(error).partition("\n")[0]
    if isinstance(error, MemoryError) or any(part in text for part in _OF_MEMORY):
        return (
            f"the memory is not enough ({text or 'nothing is left'}); reduce batch sizes, lengths "
            "of lists or histories, or the sizes of the model, or use a larger machine"
        )
    if isinstance(error, RecursionError):
        return "a file, a setting or an option is nested too deeply; expected a few levels"
    if isinstance(error, OverflowError):
        return f"a number is too large ({text}); reduce the numbers of the options and settings"
    if isinstance(error, OSError):
        remedy = (
            "free space there, and repeat the command"
            if error.errno in (errno.ENOSPC, errno.EDQUOT)
            else "check the path and its permissions"
        )
        return f"{error.filename or 'a file'}: {error.strerror or text}; {remedy}"
    return ""


def numbers(option: str, text: str) -> list[int]:
    """Parse positive integers that are separated by commas.

    Args:
        option: name of the option, for the message.
        text: value of the option.

    Raises:
        ConfigError: if a part of the text is no integer, or out of range.

    Examples:
        >>> numbers("--lists", "10,20")
        [10, 20]
    """
    try:
        found = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ConfigError(
            f"{option} takes integers separated by commas, such as 10,20; got {shown(text)}"
        ) from None
    wrong = [number for number in found if not 1 <= number <= LARGEST]
    if wrong:
        raise ConfigError(f"{option} takes integers from 1 to {LARGEST}; got {shown(wrong[0])}")
    return found


def finite(value: float | None) -> float | None:
    """Return the value of an option; for ``callback`` of an option that takes a number.

    Raises:
        typer.BadParameter: if it is NaN, infinite, or beyond the range of float32.
    """
    if value is not None and not abs(value) <= LARGEST_FLOAT32:
        raise typer.BadParameter(f"{value} is not a finite number in the range of float32.")
    return value


def notify(text: str) -> None:
    """Print a message that is not a result, on stderr."""
    typer.echo(text, err=True)


def notify_wrapped(text: str, prefix: str = "") -> None:
    """Print a message of one or more sentences on stderr, wrapped to the width of the terminal.

    Args:
        text: message, without line breaks.
        prefix: word before it, such as ``"warning: "``; further lines are indented by its length.
    """
    from rich.console import Console

    from cascaderank.reports.table_width import WIDTH

    width = Console(stderr=True).width if sys.stderr.isatty() else WIDTH
    lines = textwrap.wrap(
        f"{prefix}{text}",
        width,
        subsequent_indent=" " * (len(prefix) or 2),
        break_long_words=False,
        break_on_hyphens=False,
    )
    notify("\n".join(lines))


def notify_defaults(settings: "RunSettings") -> None:
    """Print what the settings of a run do not define and its request log does, on stderr.

    Raises:
        DataError: if the request log cannot be opened.
    """
    from cascaderank.data.log.request_log import RequestLog
    from cascaderank.runs.log_defaults import notices

    for notice in notices(settings, RequestLog.open(settings.data.path)):
        notify_wrapped(notice)


def emit_json(value: object) -> None:
    """Print a result as one JSON object, on stdout."""
    typer.echo(json.dumps(value, indent=1, allow_nan=False))


def emit(*renderables: "RenderableType") -> None:
    """Print a result as tables and text, on stdout; control characters in ids are escaped."""
    from rich.console import Console
    from rich.segment import Segment, Segments

    from cascaderank.reports.table_width import WIDTH

    console = Console() if sys.stdout.isatty() else Console(width=WIDTH)
    for renderable in renderables:
        parts = [Segment(printable(s.text), s.style) for s in console.render(renderable)]
        console.print(Segments(parts))


@final
class Bars:
    """Nested progress bars on stderr; no output if stderr is not a terminal.

    A bar takes one line: the note is shortened to the width that bar, count and remaining time
    leave. When the outermost task stops, its note is printed.

    Args:
        console: where to draw. Default: a console on stderr.
    """

    def __init__(self, console: "Console | None" = None) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column

        self._console: Console = Console(stderr=True) if console is None else console
        fixed, rest = Column(no_wrap=True), Column(ratio=1, no_wrap=True, overflow="ellipsis")
        self._bars = progress.Progress(
            progress.TextColumn("{task.description:<12}", table_column=fixed),
            progress.BarColumn(bar_width=20, table_column=fixed),
            progress.MofNCompleteColumn(table_column=fixed),
            progress.TimeRemainingColumn(compact=True, table_column=fixed),
            progress.TextColumn("{task.fields[note]}", markup=False, table_column=rest),
            expand=True,
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._tasks: list[progress.TaskID] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()  # restores the terminal, also after an error

    def start(self, what: str, total: int) -> None:
        """Add a bar below the current ones."""
        if not self._tasks:
            self._bars.start()
        self._tasks.append(self._bars.add_task(what, total=total, note=""))

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Advance the innermost bar; an empty note keeps the last one."""
        if self._tasks:
            task = self._tasks[-1]
            self._bars.advance(task, steps)
            if note:
                self._bars.update(task, note=note)

    def grow(self, steps: int) -> None:
        """Increase the total number of steps of the innermost bar."""
        if self._tasks:
            bar = next(t for t in self._bars.tasks if t.id == self._tasks[-1])
            self._bars.update(bar.id, total=(bar.total or 0) + steps)

    def stop(self, note: str = "") -> None:
        """Remove the innermost bar; if it is the outermost, print its note."""
        if not self._tasks:
            return
        task = self._tasks.pop()
        what = next((t.description for t in self._bars.tasks if t.id == task), "")
        self._bars.remove_task(task)
        if not self._tasks:
            self._bars.stop()
            if note and self._console.is_terminal:
                self._console.print(f"{what}: {note}", highlight=False, markup=False)
