"""Output streams of the command line that may be closed, full, or a pipe without a reader."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO, final

_BROKEN_PIPE = 141  # 128 + SIGPIPE, the exit code of a Unix tool whose pipe was closed


def checked_output(run: Callable[[], Any]) -> Any:
    """Run a command, and return its exit code.

    If stdout or stderr is a pipe that was closed, the command ends without a message, with exit
    code 141. If they cannot be written for another reason, such as a full disk, it ends with one
    line on stderr and exit code 2. A stream that was closed from the beginning receives nothing.

    Args:
        run: function without arguments that returns an exit code or raises :class:`SystemExit`.

    Examples:
        >>> checked_output(lambda: sys.exit(3))
        3
    """
    streams = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = (_Stream(*of) for of in zip(streams, (1, 2), strict=True))
        try:
            code = run()
        except SystemExit as ended:
            code = ended.code
        sys.stdout.flush()
        sys.stderr.flush()
        return code
    except _OutputError as error:
        return error.exit_code()
    finally:
        sys.stdout, sys.stderr = streams


class _OutputError(Exception):
    """A stream of the process could not be written. No OSError: those are handled by libraries."""

    def __init__(self, descriptor: int, reason: OSError) -> None:
        super().__init__(str(reason))
        self.descriptor, self.reason = descriptor, reason

    def exit_code(self) -> int:
        """Report what is lost, unless it has no reader, and return the exit code."""
        _discard(self.descriptor)
        if isinstance(self.reason, BrokenPipeError):
            return _BROKEN_PIPE
        try:
            sys.stderr.write(
                f"cascaderank: the output is incomplete: stdout cannot be written: "
                f"{self.reason.strerror or self.reason}\n"
            )
            sys.stderr.flush()
        except _OutputError as error:
            _discard(error.descriptor)
        return 2


@final
class _Stream:
    """A text stream that raises one error of its own if it cannot be written."""

    def __init__(self, stream: TextIO | None, descriptor: int) -> None:
        if stream is None:
            _occupy(descriptor)
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
        self._stream, self._descriptor = stream, descriptor

    def write(self, text: str) -> int:
        with self._errors():
            return self._stream.write(text)

    def flush(self) -> None:
        with self._errors():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise _OutputError(self._descriptor, error) from None


def _occupy(descriptor: int) -> None:
    """Open a closed descriptor, so that no file is opened as the stdout of other processes."""
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != descriptor:
            os.dup2(opened, descriptor)
            os.close(opened)


def _discard(descriptor: int) -> None:
    """Discard what is still in the buffer of a stream, which Python writes when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)
