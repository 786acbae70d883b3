"""What can be at a path instead of a file or a folder, and paths that no system accepts."""

import contextlib
import os
import socket


def _socket(path):
    """Bind a socket; the path of a socket is at most a hundred bytes, so it is a relative one."""
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path.name)


NOT_REGULAR = {
    "pipe": os.mkfifo,
    "socket": _socket,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "empty device": lambda path: path.symlink_to(os.devnull),
    "folder": lambda path: path.mkdir(),
    "link to itself": lambda path: path.symlink_to(path),
    "link to nothing": lambda path: path.symlink_to(path.with_name("nowhere")),
}
"""Function that makes something at a free path that is no regular file, by its description."""

NOT_REGULAR_MESSAGE = (
    "expected a regular file, found a (pipe|socket|device); write its content to a file"
    "|expected a file, found a folder|found no such file|no such file|found no file named|cannot be read: No such file"
    "|No such file or directory|Too many levels of symbolic links"
)

IMPOSSIBLE = {
    "too long a name": lambda folder: folder / ("x" * 300),
    "too long a path": lambda folder: folder.joinpath(*["y" * 200] * 25),
    "bytes": lambda folder: os.fsdecode(os.fsencode(folder) + b"/\xff"),
    "NUL byte": lambda folder: f"{folder}/a\0b",
    "a circle of links": lambda folder: _circle(folder / "circle"),
    "empty": lambda _: "",
}
"""Function of a folder that returns a path that cannot be looked up, by its description."""

IMPOSSIBLE_MESSAGE = (
    "File name too long|expected a path in UTF-8|has a NUL byte|Too many levels|found an empty"
)


def _circle(path):
    if not path.is_symlink():
        path.symlink_to(path)
    return path
