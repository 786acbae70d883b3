"""Files that are written completely or not at all, block by block."""

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cascaderank.errors import ConfigError, RunError


def check_free(paths: Iterable[Path], *, overwrite: bool) -> None:
    """Check, before hours of work, that no file is replaced unless requested.

    Args:
        paths: files to write.
        overwrite: whether existing files may be replaced.

    Raises:
        ConfigError: if a file exists and may not be replaced, or is a folder.
    """
    for path in paths:
        if path.is_dir():
            raise ConfigError(f"{path}: expected a file, found a folder; choose another name")
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists; choose another name, or replace it with --overwrite")


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a hidden path in the same folder, which is renamed to ``path`` at exit.

    After an error, or an interrupt, the hidden file is removed and ``path`` is unchanged. The
    folder is created if it does not exist.

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
        hidden.touch(exist_ok=False)  # with the permissions of the user's umask
        yield hidden
        with hidden.open("rb+") as file:
            os.fsync(file.fileno())
        hidden.replace(path)
    except OSError as error:
        raise RunError(
            f"{path}: cannot be written: {error.strerror or error}; choose another place"
        ) from None
    finally:
        with suppress(OSError):  # such as a parent that is no folder
            hidden.unlink(missing_ok=True)
