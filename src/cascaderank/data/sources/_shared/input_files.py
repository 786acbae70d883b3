"""Input files of sources: which there are, and their lines, plain or gzipped."""

import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from cascaderank.data.sources import Inputs, Progress
from cascaderank.errors import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_LINES_PER_TICK = 4096


def input_files(from_: Inputs, patterns: Sequence[str], *, what: str) -> list[Path]:
    """Return the files that were named, and those in the folders that were named.

    Args:
        from_: files and folders. A file is taken whatever its name; of a folder, the files
            directly in it that match a pattern, sorted by name, hidden ones left out.
        patterns: shell patterns of file names, in lower case; each also matches with ``.gz``.
        what: what the files are called in messages, such as ``"LETOR files"``.

    Returns:
        At least one file, in the order of ``from_``, none twice.

    Raises:
        DataError: if nothing was named, something named does not exist, a folder holds no file
            of these patterns, or a file is named twice.
    """
    paths = [from_] if isinstance(from_, str | Path) else [*(from_ or ())]
    if not paths:
        raise DataError(f"expected {what}, found no file or folder; name one with --from")
    files: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [p for p in sorted(path.iterdir()) if p.is_file() and _matches(p, patterns)]
            if not inside:
                raise DataError(
                    f"{path}: expected {what} in this folder, found no file called "
                    f"{' or '.join(patterns)} (or that and .gz); name the files themselves"
                )
            files += inside
        elif path.exists():
            files.append(path)
        else:
            raise DataError(f"{path}: expected {what}, found no such file or folder")
    resolved = [p.resolve() for p in files]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise DataError(f"{files[i]}: this file was named twice; name it once")
    return files


def _matches(path: Path, patterns: Sequence[str]) -> bool:
    name = path.name.lower().removesuffix(".gz")
    return not name.startswith(".") and any(fnmatchcase(name, p) for p in patterns)


def byte_counter(files: Sequence[Path], progress: Progress | None) -> Callable[[int], None]:
    """Return what adds up the bytes that were read of all files, and tells ``progress``."""
    total, done = sum(p.stat().st_size for p in files), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    return advance


def read_lines(path: Path, advance: Callable[[int], None] = lambda _: None) -> Iterator[bytes]:
    """Yield the lines of a file, unpacked if it starts as gzip files do.

    Args:
        path: the file; its name does not matter.
        advance: called now and then with the bytes of the file that were newly read.

    Raises:
        DataError: if the file cannot be read, or is a damaged or truncated gzip file.
    """
    number = position = 0
    try:
        with path.open("rb") as raw:
            packed = raw.peek(2)[:2] == _GZIP_MAGIC
            for number, line in enumerate(gzip.GzipFile(fileobj=raw) if packed else raw, 1):
                if number % _LINES_PER_TICK == 0:
                    advance(raw.tell() - position)
                    position = raw.tell()
                yield line
            advance(raw.tell() - position)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}: damaged gzip file, broken after line {number} ({error}); fetch it again"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def shown(text: bytes | str, most: int = 60) -> str:
    """Return text for a message: quoted, printable, and not longer than ``most`` and an ellipsis.

    Examples:
        >>> shown(b"0 qid:1 1:0.5 2:0.25", most=10)
        "'0 qid:1 1:...'"
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    text = text.strip()
    return repr(text if len(text) <= most else text[:most] + "...")
