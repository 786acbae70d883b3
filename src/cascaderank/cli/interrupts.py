"""Signals that end a command: it removes what is not complete, and reports what is kept."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from cascaderank.errors import counted

_SIGNALS = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
_SECONDS = 3.0  # tools such as timeout(1) send a signal twice: to the process and to its group

_ALARM: int | None = getattr(signal, "SIGALRM", None)
_DELAY, _DELAYS = 0.05, 600  # seconds between two attempts, and their number

_received: list[tuple[int, float]] = []
_delayed: list[int] = []
_descriptions: list[Callable[[], str]] = []


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise :class:`KeyboardInterrupt` in the block for SIGINT, SIGTERM, SIGHUP and SIGALRM.

    So ``with`` blocks and ``finally`` clauses remove what is not complete. A signal within three
    seconds after another is ignored, since it would interrupt them. During an import, the exception
    is raised when the import has ended: some libraries abort the process if it passes through them.
    Signals that the parent process ignores, as ``nohup`` does, remain ignored.
    """
    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, _interrupt)
        if _ALARM is not None and signal.getsignal(_ALARM) == signal.SIG_DFL:
            before[_ALARM] = signal.signal(_ALARM, _interrupt)
    try:
        yield
    finally:
        if _ALARM in before:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()
        _delayed.clear()


def _interrupt(number: int, frame: FrameType | None) -> None:
    again = _received and time.monotonic() - _received[-1][1] < _SECONDS
    if again:
        return
    if number == _ALARM and _delayed:  # else another process has sent it
        number = _delayed[0]
    can_wait = _ALARM is not None and signal.getsignal(_ALARM) == _interrupt
    if can_wait and len(_delayed) < _DELAYS and _imports(frame):
        _delayed.append(number)
        signal.setitimer(signal.ITIMER_REAL, _DELAY)
        return
    _received.append((number, time.monotonic()))
    raise _Interrupt


def _imports(frame: FrameType | None) -> bool:
    """Whether an import is running."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


class _Interrupt(KeyboardInterrupt):
    """Not KeyboardInterrupt itself: if one passes C code, Python ends with SIGINT at its exit."""


def received() -> int | None:
    """Return the number of the first signal that interrupted the block of :func:`interruptible`."""
    return _received[0][0] if _received else None


def interrupted_by(error: BaseException) -> int | None:
    """Return the number of the signal that interrupted a command, ``None`` for another error.

    Args:
        error: what the command raised. A library may have raised it in place of the
            :class:`KeyboardInterrupt`.
    """
    return received() or (int(signal.SIGINT) if isinstance(error, KeyboardInterrupt) else None)


def after_interrupt(kept: Callable[[], str]) -> None:
    """Set the message of an interrupt.

    Args:
        kept: function that describes what is kept at that time; an empty string for nothing.
    """
    _descriptions.append(kept)


def forget() -> None:
    """Remove what :func:`after_interrupt` has set, before another command."""
    _descriptions.clear()


def outcome() -> str:
    """Describe what an interrupted command leaves on the disk."""
    if not _descriptions:
        return "no incomplete file is left"
    kept = "; ".join(text for describe in _descriptions if (text := describe()))
    return f"kept: {kept}" if kept else "nothing is kept"


def kept_runs(folder: str | os.PathLike[str]) -> str:
    """Describe the runs in a folder that the same command resumes.

    Args:
        folder: folder of a run, or of folders with runs.
    """
    from cascaderank.runs.folder import CHECKPOINTS, REPORT

    folder = Path(folder)
    complete = {file.parent for file in folder.rglob(REPORT)}
    begun = {file.parent for name in CHECKPOINTS for file in folder.rglob(name)} - complete
    what = [f"{counted(len(complete), 'complete run')}"] * bool(complete)
    what += [f"the checkpoint of {counted(len(begun), 'run')}"] * bool(begun)
    return f"{' and '.join(what)} in {folder}; repeat the command to resume" if what else ""


def kept_data_set(path: str | os.PathLike[str]) -> Callable[[], str]:
    """Return a function that describes what a command has written of a data set.

    Args:
        path: folder of the data set, before the command writes it.
    """
    from cascaderank.data.log.manifest import MANIFEST
    from cascaderank.data.log.steps import Unfinished

    target = Path(os.path.realpath(path))  # a link stands for the folder that it points to
    unfinished, before = Unfinished(target, {}), _identity(target / MANIFEST)

    def describe() -> str:
        if _identity(target / MANIFEST) != before:
            return f"the data set in {path}, which is complete"
        if unfinished.record.exists():
            return f"the finished steps in {unfinished.folder}; repeat the command to resume"
        return ""

    return describe


def kept_parts(path: str | os.PathLike[str]) -> Callable[[], str]:
    """Return a function that describes what a command has finished of a file of scores.

    Args:
        path: file that the command writes.
    """
    from cascaderank.runs.saved_parts import folder_of

    folder = folder_of(path)

    def describe() -> str:
        if any(folder.glob("*.arrow")):
            return f"the finished parts in {folder}; repeat the command to resume"
        return ""

    return describe


def _identity(file: Path) -> tuple[int, int] | None:
    with contextlib.suppress(OSError):
        found = file.stat()
        return found.st_ino, found.st_mtime_ns
    return None
