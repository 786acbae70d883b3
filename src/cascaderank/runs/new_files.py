"""Files that are written completely or not at all, block by block."""

import glob
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cascaderank.errors import ConfigError, RunError

try:
    import fcntl
except ImportError:  # Windows has no fcntl: files of killed processes stay
    fcntl = None  # type: ignore[assignment]


def check_free(paths: Iterable[str | os.PathLike[str]], *, overwrite: bool) -> None:
    """Check, before hours of work, that no file is replaced unless requested.

    Args:
        paths: files to write.
        overwrite: whether existing files may be replaced.

    Raises:
        ConfigError: if a file exists and may not be replaced, or is a folder.
    """
    for path in map(Path, paths):
        if path.is_dir():
            raise ConfigError(f"{path}: expected a file, found a folder; choose another name")
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists; choose another name, or replace it with --overwrite")


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a hidden path in the same folder, which is renamed to ``path`` at exit.

    After an error, or an interrupt, the hidden file is removed and ``path`` is unchanged. A hidden
    file of a process that was killed is removed by the next writer of the same file. The folder is
    created if it does not exist.

    Args:
        path: file to write, a string or a path; a file of that name is replaced.

    Raises:
        RunError: if the file cannot be written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with new_file(Path(folder) / "scores.txt") as hidden:
        ...         _ = hidden.write_text("complete")
        ...     (Path(folder) / "scores.txt").read_text()
        'complete'
    """
    path = Path(path)
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
            with leftover.open("rb") as file:
                if _locked(file):
                    leftover.unlink(missing_ok=True)
        with hidden.open("xb") as file:  # with the permissions of the user's umask
            _locked(file)
            yield hidden
            os.fsync(file.fileno())
            hidden.replace(path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {error.strerror or error}; choose another place"
        ) from None
    finally:
        with suppress(OSError):  # such as a parent that is no folder
            hidden.unlink(missing_ok=True)


def _locked(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; return whether no other process holds the lock."""
    held = False
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = True
    return held
