"""Parts of a file of scores that survive a kill: the same command continues after the last one."""

import hashlib
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, final

import polars as pl
import pyarrow as pa

from cascaderank import __version__
from cascaderank.atomic import lock_folder, parents_of, partial_file, remove_all_partials, writing
from cascaderank.errors import RunError
from cascaderank.regular_files import open_file

_ROWS = 65_536  # a part ends with the block that reaches this number of rows
_KEY: Final = "key"
_NAME: Final = re.compile(r"\d{8}-\d{8}\.arrow")  # numbers of blocks: the first, and after the last


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRows:
    """ScoredRows of a file of scores."""

    frame: pl.DataFrame
    """One row per candidate."""
    unknown: int = 0
    """Number of candidates left out, because the catalogue does not have their key."""


Block = Callable[[], ScoredRows]
"""Computes the rows of some requests; called only if no part has them."""


def folder_of(path: str | os.PathLike[str]) -> Path:
    """Return the hidden folder of the parts of a file; a link stands for what it points to.

    Examples:
        >>> folder_of("/runs/scores.parquet").name
        '.scores.parquet.unfinished'
    """
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.unfinished")


def key_of(*files: str | os.PathLike[str], options: Iterable[object] = ()) -> str:
    """Return a checksum of the contents of files, of options, and of the version of this library.

    Args:
        files: files that the result depends on.
        options: what else it depends on.

    Raises:
        RunError: if a file cannot be read.
    """
    total = hashlib.sha256(repr((__version__, *options)).encode())
    for path in files:
        try:
            with open_file(path) as file:
                total.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None
    return total.hexdigest()


@contextmanager
def saved_parts(path: str | os.PathLike[str], key: str) -> Iterator["SavedParts"]:
    """Open the parts of a file; they are removed at exit, after an error only if there are none.

    Args:
        path: file to write; its parts are in :func:`folder_of`.
        key: checksum of everything that the rows depend on. Parts with another one are removed.

    Raises:
        RunError: if another process writes the same file, the folder cannot be written, or it has
            files that are no parts.

    Examples:
        >>> import tempfile
        >>> block = lambda: ScoredRows(frame=pl.DataFrame({"rank": [1, None]}))
        >>> with tempfile.TemporaryDirectory() as name:
        ...     with saved_parts(Path(name) / "scores.parquet", "key") as parts:
        ...         [rows.frame.height for rows in parts.completed([block, block])]
        [4]
    """
    folder = folder_of(path)
    with writing(folder), ExitStack() as opened:
        opened.enter_context(parents_of(folder))
        folder.mkdir(exist_ok=True)
        opened.callback(_remove_if_empty, folder)
        try:
            handle = lock_folder(folder)
        except BlockingIOError:
            raise RunError(
                f"{path}: another process writes this file; wait for it, or choose another name"
            ) from None
        if handle is not None:
            opened.callback(os.close, handle)
        yield SavedParts(folder, key)
        shutil.rmtree(folder, ignore_errors=True)


def _remove_if_empty(folder: Path) -> None:
    if not any(folder.glob("*.arrow")):
        (folder / _KEY).unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()


@final
class SavedParts:
    """Complete parts in the hidden folder of a file; see :func:`saved_parts`."""

    def __init__(self, folder: str | os.PathLike[str], key: str) -> None:
        self._folder = folder = Path(folder)
        remove_all_partials(folder)
        names = sorted(p.name for p in folder.iterdir() if p.name != _KEY)
        strange = [name for name in names if not _NAME.fullmatch(name)]
        if strange:
            raise RunError(
                f"{folder}: expected parts of an unfinished file, found {strange[0]}; move it to "
                "another folder"
            )
        record = folder / _KEY
        if not record.is_file() or record.read_bytes() != key.encode():
            for name in names:
                (folder / name).unlink()
            with partial_file(record) as hidden:
                hidden.write_text(key, encoding="utf-8")
            names = []
        self._ends = {int(first): int(last) for first, last in map(_numbers, names)}

    def completed(self, blocks: Iterable[Block]) -> Iterator[ScoredRows]:
        """Yield the rows of blocks part by part: read where a part is complete, else computed.

        Parts end at the same blocks whether or not the command was interrupted.

        Args:
            blocks: blocks in order, the same in every call.
        """
        iterator, first = iter(blocks), 0
        while True:
            rows, last = None, self._ends.get(first)
            if last is not None:
                rows = _read(self._path(first, last))
            if rows is not None and last is not None:
                deque(islice(iterator, last - first), maxlen=0)
            else:
                computed = list[ScoredRows]()
                for block in iterator:
                    computed.append(block())
                    if sum(each.frame.height for each in computed) >= _ROWS:
                        break
                if not computed:
                    return
                rows, last = _joined(computed), first + len(computed)
                if rows.frame.height >= _ROWS:  # otherwise the file is complete at once
                    with partial_file(self._path(first, last)) as hidden:
                        _write(hidden, rows)
            yield rows
            first = last

    def _path(self, first: int, last: int) -> Path:
        return self._folder / f"{first:08}-{last:08}.arrow"


def _numbers(name: str) -> tuple[str, str]:
    first, _, last = name.removesuffix(".arrow").partition("-")
    return first, last


def _joined(blocks: list[ScoredRows]) -> ScoredRows:
    frames = [each.frame for each in blocks]
    return ScoredRows(
        frame=pl.concat(frames, how="vertical_relaxed", rechunk=True),
        unknown=sum(each.unknown for each in blocks),
    )


def _write(path: Path, rows: ScoredRows) -> None:
    table = rows.frame.to_arrow(compat_level=pl.CompatLevel.oldest()).replace_schema_metadata(
        {"unknown": str(rows.unknown)}
    )
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table)


def _read(path: Path) -> ScoredRows | None:
    """Return the rows of a part; ``None`` if it is damaged."""
    try:
        with pa.ipc.open_file(str(path)) as file:
            table = file.read_all().combine_chunks()
        frame = pl.from_arrow(table)
        unknown = int(table.schema.metadata[b"unknown"])
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError):
        return None
    return ScoredRows(frame=frame, unknown=unknown) if isinstance(frame, pl.DataFrame) else None
