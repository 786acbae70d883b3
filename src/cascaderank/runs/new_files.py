"""Files that are written completely or not at all, block by block."""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cascaderank.atomic import parents_of, partial_file, writing
from cascaderank.errors import ConfigError
from cascaderank.regular_files import check_path

_RECORDS = ("checksums.sha256", "manifest.json", "bundle.json")
"""Files that list those of a run, a data set and a bundle."""


def check_free(paths: Iterable[str | os.PathLike[str]], *, overwrite: bool) -> None:
    """Check, before hours of work, that no file is replaced unless requested.

    Args:
        paths: files to write.
        overwrite: whether existing files may be replaced.

    Raises:
        ConfigError: if a file exists and may not be replaced, belongs to a run, a data set or a
            bundle, is a folder, a device or a pipe, or its path cannot be looked up.
    """
    for path in (check_path(path, ConfigError) for path in paths):
        if path.exists() and not path.is_file():
            found = "a folder" if path.is_dir() else "a device or a pipe"
            raise ConfigError(f"{path}: expected a file, found {found}; choose another name")
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists; choose another file, or add --overwrite")
        record = _record_of(path)
        if record is not None:
            raise ConfigError(
                f"{path} belongs to the run, data set or bundle of {record}; choose another file"
            )


def _record_of(path: Path) -> Path | None:
    """Return the file that lists an existing file with its checksum, if there is one."""
    path = path.resolve()
    for name in _RECORDS if path.is_file() else ():
        record = path.with_name(name)
        with suppress(OSError, UnicodeDecodeError):
            if record.is_file() and (path == record or _lists(record, path.name)):
                return record
    return None


def _lists(record: Path, name: str) -> bool:
    return (
        re.search(rf'(^|[\s"]){re.escape(name)}("|$)', record.read_text(), re.MULTILINE) is not None
    )


@contextmanager
def new_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a hidden path in the same folder, which is renamed to ``path`` at exit.

    After an error, or an interrupt, the hidden file is removed and ``path`` is unchanged. A hidden
    file of a process that was killed is removed by the next writer of the same file. The folder is
    created if it does not exist.

    Args:
        path: file to write, a string or a path; a file of that name is replaced. A link stands for
            the file that it points to.

    Raises:
        ConfigError: if the path is a folder, a device or a pipe.
        RunError: if the file cannot be written.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with new_file(Path(folder) / "scores.txt") as hidden:
        ...         _ = hidden.write_text("complete")
        ...     (Path(folder) / "scores.txt").read_text()
        'complete'
    """
    check_free([path], overwrite=True)
    path = Path(path)
    with writing(path):
        if path.is_symlink():
            path = path.resolve()
        with parents_of(path), partial_file(path) as hidden:
            yield hidden
