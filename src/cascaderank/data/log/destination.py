"""Where a data set may be written: only files that this program wrote are replaced."""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from cascaderank.atomic import former_folders, remove_partials
from cascaderank.data.log.manifest import MANIFEST
from cascaderank.errors import DataError
from cascaderank.schema import abridged

ITEMS = "items.parquet"
"""File of all items of a data set."""


def destination_of(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a folder to write; a link stands for the folder it points to.

    Args:
        path: folder, which need not exist.

    Raises:
        DataError: if the path is invalid, is the working folder or contains it, or is inside a data
            set.
    """
    try:
        target = Path(path).resolve()
        working = Path.cwd().resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise DataError(f"{path}: not a path that can be written: {error}") from None
    if target == working or target in working.parents:
        raise DataError(
            f"{path}: expected a new folder, found the working folder or a folder that contains "
            f"it, which would be replaced; choose a folder in it, such as {Path(path) / 'log'}"
        )
    for parent in target.parents:
        if _listed(parent) is not None:
            raise DataError(
                f"{path}: inside the data set {parent}, whose files would no longer be those of "
                "its manifest; choose another folder"
            )
    return target


def check_inputs(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]]) -> None:
    """Check that a folder to write is no input, and contains none.

    Args:
        path: folder to write.
        inputs: files and folders that are read for it.

    Raises:
        DataError: if an input would be replaced, or for the reasons of :func:`destination_of`.
    """
    target = destination_of(path)
    for given in inputs:
        resolved = Path(os.path.realpath(given))
        if target in (resolved, *resolved.parents):
            raise DataError(
                f"{path}: is, or contains, the input {given}, which would be replaced; choose "
                "another folder"
            )


def check_destination(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Check that a path is free, or a data set that may be replaced and has no other files.

    Args:
        path: result of :func:`destination_of`.
        overwrite: whether a data set may be replaced.

    Raises:
        DataError: if it is anything else.
    """
    path = Path(path)
    try:
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror or error}; choose another folder"
        ) from None
    listed = _listed(path) if path.is_dir() else None
    if listed is None:
        what = f"has a {MANIFEST} that is not one of cascaderank and"
        if not (path / MANIFEST).is_file():
            what = "exists and"
        raise DataError(f"{path}: {what} is not a data set; choose another folder, or remove it")
    if not overwrite:
        raise DataError(
            f"{path}: a data set exists already; choose another folder, or set "
            "overwrite=True to replace it"
        )
    foreign = sorted(set(files_in(path)) - listed)
    if foreign:
        raise DataError(
            f"{path}: cannot be replaced, because it has files that do not belong to the data set: "
            f"{abridged(foreign)}; move them to another folder, or choose another one"
        )


def recover_destination(path: str | os.PathLike[str]) -> None:
    """Remove what killed writers of a data set left, and restore the data set if they moved it.

    Args:
        path: result of :func:`destination_of`.
    """
    path = Path(path)
    remove_partials(path)
    for former in former_folders(path):
        if not path.exists() and _listed(former) is not None:
            with suppress(OSError):
                former.rename(path)
        elif path.exists() and all(map(is_written_file, files_in(former))):
            shutil.rmtree(former, ignore_errors=True)


def is_written_file(name: str) -> bool:
    """Return whether a data set can have a file of this name, a path relative to its folder.

    Examples:
        >>> is_written_file("requests/day=2024-05-01/part-00000.parquet")
        True
        >>> is_written_file("notes.txt")
        False
    """
    path = PurePosixPath(name)
    part = path.parts[0] == "requests" and path.suffix == ".parquet"
    return part or name in (MANIFEST, ITEMS)


def files_in(folder: str | os.PathLike[str]) -> Iterator[str]:
    """Yield the files in a folder and in its folders, with links, as relative paths."""
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in (*files, *links):
            yield (here / name).relative_to(folder).as_posix()


def _listed(folder: Path) -> set[str] | None:
    """Return the files of a data set; ``None`` if the folder has no manifest of this program.

    The manifest need not be valid: a damaged data set can be prepared again.
    """
    if not (folder / MANIFEST).is_file():
        return None
    try:
        content: Any = json.loads((folder / MANIFEST).read_bytes())
        version, schema, parts = content["format"], content["schema"], content["parts"]
        if not isinstance(version, int) or not isinstance(schema["features"], list):
            return None
        files = [*parts, *([content["catalogue"]] if content.get("catalogue") else [])]
        return {MANIFEST, *(str(file["path"]) for file in files if file["sha256"])}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return None
