"""Paths that users give: which ones the system can look up, and reading of regular files only.

A pipe would block a reader for ever, and a device such as ``/dev/zero`` has no end.
"""

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cascaderank.errors import CascadeRankError

_INVALID_NAME = 123  # Windows has no path with a * or a ?
_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def check_path(path: str | os.PathLike[str], error: type[CascadeRankError]) -> Path:
    """Return a path, after checking that the system can look it up; it need not exist.

    Args:
        path: path that a user gave.
        error: class of the error to raise.

    Raises:
        CascadeRankError: of the class ``error``, if the path is empty, is too long, has a NUL byte,
            is not UTF-8, leads through a circle of links or through a folder without permission.

    Examples:
        >>> from cascaderank.errors import DataError
        >>> check_path("x" * 300, DataError)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        cascaderank.errors.DataError: xxx...: cannot be used: File name too long
    """
    text = os.fspath(path)
    if not text:
        raise error("expected a path, found an empty text; name a file or a folder")
    try:
        text.encode()
    except UnicodeEncodeError:  # files, tables and Polars need text
        shown = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        raise error(f"{shown}: expected a path in UTF-8, found other bytes; rename it") from None
    try:
        Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as mistake:
        if getattr(mistake, "winerror", None) != _INVALID_NAME:  # that of a glob
            raise error(f"{text}: cannot be used: {mistake.strerror or mistake}") from None
    except ValueError:
        raise error(f"{text!r}: cannot be used: it has a NUL byte; correct the path") from None
    return Path(path)


def check_regular(path: str | os.PathLike[str]) -> None:
    """Check that a path is a regular file, or a link to one.

    Args:
        path: file to check.

    Raises:
        OSError: if it is not; the message states what it is and what to do.

    Examples:
        >>> check_regular(os.devnull)
        Traceback (most recent call last):
            ...
        OSError: [Errno 22] expected a regular file, found a device; write its content to a file: \
'/dev/null'
    """
    try:
        mode = Path(path).stat().st_mode
    except ValueError:
        raise OSError(errno.EINVAL, "the path has a NUL byte", os.fspath(path)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "expected a file, found a folder", os.fspath(path))
    if not stat.S_ISREG(mode):
        found = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise OSError(
            errno.EINVAL,
            f"expected a regular file, found {found}; write its content to a file",
            os.fspath(path),
        )


def open_file(path: str | os.PathLike[str]) -> io.BufferedReader:
    """Open a regular file for reading.

    Args:
        path: file to read.

    Raises:
        OSError: if it cannot be read, or is no regular file.
    """
    check_regular(path)
    return Path(path).open("rb")


def read_file(path: str | os.PathLike[str], most: int | None = None) -> bytes:
    """Return the content of a regular file.

    Args:
        path: file to read.
        most: largest number of bytes; default: no limit.

    Raises:
        OSError: if it cannot be read, is no regular file, or is too large.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if most is not None and size > most:
            raise OSError(
                errno.EFBIG, f"expected at most {most:,} bytes, found {size:,}", os.fspath(path)
            )
        return file.read()


@contextmanager
def system_errors(error: type[CascadeRankError]) -> Iterator[None]:
    """Raise errors of the system about a file as errors of this library, which name the file.

    Args:
        error: class of the error to raise.

    Raises:
        CascadeRankError: of the class ``error``, for each :class:`OSError` with the name of a file.
    """
    try:
        yield
    except OSError as mistake:
        if mistake.filename is None:
            raise
        raise error(f"{mistake.filename}: {mistake.strerror or mistake}") from None
