"""Input files of sources: selection of files, and lines of plain or gzipped files."""

import filecmp
import gzip
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from cascaderank.data.sources import Inputs, Progress, paths_of
from cascaderank.errors import DataError
from cascaderank.expansion import decompressed
from cascaderank.regular_files import check_path, check_regular, open_file
from cascaderank.text_files import BYTE_ORDER_MARK, other_encoding

_GZIP_MAGIC = b"\x1f\x8b"
_LINES_PER_CALL = 4096
_END = 4096
_MOST_BYTES = 1 << 26
"""Largest size of a line."""


def input_files(
    from_: Inputs,
    patterns: Sequence[str],
    *,
    what: str,
    recursive: bool = False,
    also: Callable[[Path], bool] = lambda _: False,
) -> list[Path]:
    """Return the given files, and the matching files of the given folders.

    Args:
        from_: files, folders and globs. A file is accepted under any name. From a folder, the files
            directly inside it that match a pattern are returned, sorted by name and without
            hidden files. A path that does not exist and has wildcards, such as ``logs/*.csv`` or
            ``logs/**/*.csv``, is a glob: it stands for its matches in sorted order. Folders of it
            that exist by their whole names, such as ``a[1]`` of ``a[1]/*.csv``, are not patterns.
        patterns: shell patterns of file names, in lower case; each also matches with ``.gz``.
        what: description of the files for messages, such as ``"LETOR files"``.
        recursive: whether to include the folders inside a folder, sorted by path. Hidden folders
            and those that begin with ``_``, such as ``_temporary``, are skipped.
        also: whether a file of a folder is returned that matches no pattern.

    Returns:
        At least one file, in the order of ``from_``, without duplicates.

    Raises:
        DataError: if ``from_`` is empty, a path does not exist, a glob matches nothing, a folder
            has no matching file, a file is empty, or a file is given twice.
        OSError: if a file cannot be looked up, or is no regular file.
    """
    paths = paths_of(from_)
    if not paths:
        raise DataError(f"expected {what}, found no file or folder; give one with --from")
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _inside(path, patterns, what=what, recursive=recursive, also=also)
        elif path.exists():
            files.append(path)
        elif any(c in str(path) for c in "*?["):
            files += _matched(path, patterns, what=what, recursive=recursive, also=also)
        else:
            raise DataError(f"{path}: expected {what}, found no such file or folder")
    given: set[tuple[int, int]] = set()
    for path in files:
        check_regular(check_path(path, DataError))
        stat = path.stat()
        if (stat.st_dev, stat.st_ino) in given:  # also by a link
            raise DataError(f"{path}: this file was given twice; give it once")
        if not stat.st_size:
            raise DataError(f"{path}: expected {what}, found an empty file; fetch it again")
        given.add((stat.st_dev, stat.st_ino))
    return files


def check_no_copies(files: Sequence[Path], facts: Mapping[Path, object]) -> None:
    """Check that no file has the content of another one.

    Args:
        files: files of rows.
        facts: what else belongs to the rows of a file, such as the names of its folders; files with
            different facts are not compared.

    Raises:
        DataError: if two files are equal; the message names both.
    """
    alike: dict[tuple[int, bytes, str], list[Path]] = {}
    for path in files:
        with open_file(path) as file:
            size = file.seek(0, 2)
            file.seek(-min(size, _END), 2)
            end = file.read(_END)  # that of a Parquet file has statistics of its values
        others = alike.setdefault((size, end, repr(facts.get(path))), [])
        for other in others:
            if filecmp.cmp(path, other, shallow=False):
                raise DataError(
                    f"{path}: expected rows of its own, found the same content as in {other}; "
                    "remove one of both"
                )
        others.append(path)


def _inside(
    folder: Path,
    patterns: Sequence[str],
    *,
    what: str,
    recursive: bool,
    also: Callable[[Path], bool],
    must: bool = True,
) -> list[Path]:
    """Return the matching files of a folder, at least one if there ``must`` be."""
    files = [p for p in sorted(folder.iterdir()) if _matches(p, patterns) or also(p)]
    files = [p for p in files if not p.is_dir()]
    if recursive:
        files += [p for p in _below(folder) if _matches(p, patterns)]
        files.sort()
    if not files and must:
        raise DataError(
            f"{folder}: expected {what} in this folder{' or below it' * recursive}, found no file "
            f"named {' or '.join(patterns)} (optionally with .gz); give the files themselves"
        )
    return files


def _below(folder: Path) -> Iterator[Path]:
    """Yield the files of the folders inside a folder, at any depth."""

    def refuse(error: OSError) -> None:
        raise error  # Path.rglob would leave out what a folder without permission holds

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith((".", "_"))]
        if Path(root) != folder:
            yield from (Path(root) / name for name in names)


def _matched(
    pattern: Path,
    patterns: Sequence[str],
    *,
    what: str,
    recursive: bool,
    also: Callable[[Path], bool],
) -> list[Path]:
    """Return the files that a glob matches, and those of the folders that it matches."""
    folder = next(p for p in pattern.parents if p.exists())  # a folder such as a[1] is no pattern
    found = sorted(folder.glob(str(pattern.relative_to(folder))))
    found = [p for p in found if not p.name.startswith((".", "_"))]  # such as _SUCCESS
    if not found:
        raise DataError(f"{pattern}: expected {what}, found no path that matches")
    files: dict[Path, None] = {}
    for path in found:
        if not path.is_dir():
            files[path] = None
        else:
            inside = _inside(path, patterns, what=what, recursive=recursive, also=also, must=False)
            files |= dict.fromkeys(inside)
    if not files:
        raise DataError(
            f"{pattern}: expected {what} in the folders that match, found no file named "
            f"{' or '.join(patterns)} (optionally with .gz)"
        )
    return list(files)


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return not name.startswith(".") and any(fnmatchcase(name, p) for p in patterns)


def byte_counter(files: Sequence[Path], progress: Progress | None) -> Callable[[int], None]:
    """Return a callback that adds bytes read to a total and reports it to ``progress``."""
    total, done = sum(p.stat().st_size for p in files), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return advance


def read_lines(
    path: Path, advance: Callable[[int], None] = lambda _: None, *, quotes: bool = False
) -> Iterator[bytes]:
    r"""Yield the lines of a file, decompressed if it starts with the magic number of gzip.

    A byte-order mark of UTF-8 is not part of the first line.

    Args:
        path: the file; its name is not used.
        advance: callback that receives the number of bytes read from the file since its last call.
        quotes: whether a line may contain carriage returns, in quotes. Otherwise they are only
            allowed at its end.

    Raises:
        DataError: if the file cannot be read, is a damaged or truncated gzip file, is UTF-16, or
            has a carriage return inside a line, a line of more than 64 MiB, or a content that
            is far larger than the compressed file.
    """
    number = position = 0
    try:
        with open_file(path) as raw:
            is_gzip = raw.read(2) == _GZIP_MAGIC
            raw.seek(0)
            next_line = partial((decompressed(raw) if is_gzip else raw).readline, _MOST_BYTES + 1)
            for number, content in enumerate(iter(next_line, b""), 1):
                line = content
                if len(line) > _MOST_BYTES:
                    raise DataError(
                        f"{path}, line {number}: expected a line of at most {_MOST_BYTES:,} bytes, "
                        "found a longer one; correct the file"
                    )
                if number % _LINES_PER_CALL == 0:
                    advance(raw.tell() - position)
                    position = raw.tell()
                if number == 1:
                    if encoding := other_encoding(line):
                        raise DataError(
                            f"{path}: expected UTF-8 text, found {encoding}; convert the file to "
                            "UTF-8"
                        )
                    line = line.removeprefix(BYTE_ORDER_MARK)
                if not quotes and b"\r" in line.rstrip():
                    raise DataError(
                        f"{path}, line {number}: expected lines that end with \\n or \\r\\n, found "
                        "a carriage return inside the line; convert the line ends"
                    )
                yield line
            advance(raw.tell() - position)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: damaged gzip file, unreadable after line {number} ({error}); fetch it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def shown(text: bytes | str, most: int = 60) -> str:
    """Return text for a message, quoted and printable; text beyond ``most`` becomes an ellipsis.

    Examples:
        >>> shown(b"0 qid:1 1:0.5 2:0.25", most=10)
        "'0 qid:1 1:...'"
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = text.strip()
    return repr(text if len(text) <= most else text[:most] + "...")
