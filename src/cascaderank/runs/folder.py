"""The folder of a run: its files, its lock, and atomic writing.

::

    config.toml          all settings, defaults included
    schema.json          fitted schema: features, vocabularies, means; encodes requests
    environment.json     versions, seed, device, data set, and the git commit if there is one
    metrics.jsonl        one line per epoch; the same bytes if the run was interrupted and resumed
    checkpoint.pt        state to resume from; removed when the run is complete
    checkpoint-previous.pt  the checkpoint before it, used if it is damaged
    weights.safetensors  weights with the best validation value
    per_request.parquet  metrics of each test request
    checksums.sha256     SHA-256 of the files of a complete run, as ``sha256sum`` writes them
    report.json          evaluation on the test requests; written last, when the run is complete

Every file is written under another name first and then renamed, so that an interrupted process
leaves no partial file.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, final

from pydantic import BaseModel, ValidationError

from cascaderank.atomic import is_partial, partial_file, partial_folder, writing
from cascaderank.errors import RunError
from cascaderank.regular_files import check_path, open_file, read_file, system_errors
from cascaderank.text_files import parsed_json

try:
    import fcntl
except ImportError:  # Windows has no fcntl: two processes in one folder are not detected
    fcntl = None  # type: ignore[assignment]

REPORT = "report.json"
"""File of a complete run."""

CHECKPOINTS = ("checkpoint.pt", "checkpoint-previous.pt")
"""Files of a run that has begun: the checkpoint, and the one before it."""

_LOCK, _MARK = ".lock", b"cascaderank\n"
_SCRATCH = "cascaderank-scratch"
_RESULTS = ("comparison.json", "heatmap.json")
_IN_RESULTS = {"dataset", "requests", "folds", "seeds"}

M = TypeVar("M", bound=BaseModel)


@final
class RunFolder:
    """Paths of the files of a run; the module documentation describes their content.

    Args:
        path: folder of the run; created if it does not exist.

    Raises:
        RunError: if the path is a file, is a folder with other files, or cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path = check_path(path, RunError)
        self.config = path / "config.toml"
        self.schema = path / "schema.json"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint, self.previous_checkpoint = (path / name for name in CHECKPOINTS)
        self.weights = path / "weights.safetensors"
        self.per_request = path / "per_request.parquet"
        self.checksums = path / "checksums.sha256"
        self.report = path / REPORT
        with system_errors(RunError):
            if path.exists() and not path.is_dir():
                raise RunError(
                    f"{path}: expected the folder of a run, found a file; choose another"
                )
            if path.is_dir() and not self.config.exists() and any(_of_others(path)):
                raise RunError(
                    f"{path}: expected the folder of a run, found files and no config.toml; "
                    "choose another folder"
                )
        with writing(path):
            path.mkdir(parents=True, exist_ok=True)

    @property
    def begun(self) -> bool:
        """Whether training has written a checkpoint, weights or a report."""
        return self.resumable or self.weights.exists() or self.complete

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self.checkpoint.exists() or self.previous_checkpoint.exists()

    @property
    def complete(self) -> bool:
        """Whether the run has been trained and evaluated."""
        return os.path.lexists(self.report)

    @property
    def new_files(self) -> tuple[str, ...]:
        """Names of the files that a new run writes; none if training has begun."""
        return () if self.begun else tuple(file.name for file in (*self._written, self.checksums))

    def write_report(self, report: object) -> None:
        """Write the checksums of all files and then the report, which completes the run.

        Args:
            report: JSON value.

        Raises:
            RunError: if a file cannot be written.
            ValueError: if a number is NaN or infinite, which JSON cannot represent.
        """
        content = _json(report)
        digests = {file: _sha256(file) for file in self._written if file.exists()}
        digests[self.report] = hashlib.sha256(content).hexdigest()
        lines = "".join(f"{digest}  {file.name}\n" for file, digest in digests.items())
        write_atomically(self.checksums, lines.encode())
        write_atomically(self.report, content)

    def check_files(self) -> None:
        """Compare the files of a complete run with their checksums.

        Files that are missing are left to their readers; files that the run did not write are not
        checked, and runs of version 0.3 and earlier have no checksums.

        Raises:
            RunError: if a file differs from its checksum, or the checksums cannot be read.
        """
        if not os.path.lexists(self.checksums):  # a link to nothing is damage
            return
        files = {file.name: file for file in (*self._written, self.report)}
        try:
            lines = read_file(self.checksums).decode().removesuffix("\n").split("\n")
            digests = {match["name"]: match["sha256"] for match in map(_checksum_of, lines)}
            unknown = [name for name in digests if name not in files]
            if unknown:
                raise ValueError(f"'{unknown[0]}' is no file of a run")
        except OSError as error:
            raise RunError(
                f"{self.checksums}: cannot be read: {error.strerror or error}; restore it from "
                "a copy, or remove it to use the run without these checks"
            ) from None
        except ValueError as error:
            raise RunError(
                f"{self.checksums}: expected a SHA-256 and the name of a file of the run in each "
                f"line; {error}; restore the file from a copy, or remove it to use the run without "
                "these checks"
            ) from None
        for name, expected in digests.items():
            if os.path.lexists(files[name]) and (found := _sha256(files[name])) != expected:
                raise RunError(
                    f"{files[name]}: changed since the run was completed: expected sha256 "
                    f"{expected}, found {found}; restore the file from a copy, or train again in "
                    f"another folder; after a change of your own, remove its line from "
                    f"{self.checksums.name}"
                )

    @property
    def _written(self) -> tuple[Path, ...]:
        """Files of a complete run other than the report."""
        return (
            self.config,
            self.schema,
            self.environment,
            self.metrics,
            self.weights,
            self.per_request,
        )


def _checksum_of(line: str) -> re.Match[str]:
    match = re.fullmatch(r"(?P<sha256>[0-9a-f]{64})  (?P<name>.+)", line)
    if match is None:
        raise ValueError(f"found {line[:80]!r}")
    return match


def _sha256(file: Path) -> str:
    try:
        with open_file(file) as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror or error}") from None


@contextmanager
def locked(folder: str | os.PathLike[str], *, writes: Iterable[str] = ()) -> Iterator[None]:
    """Hold the exclusive lock of a folder; create the folder if it does not exist.

    The lock is a file, ``.lock``, that stays: it identifies the folder as one of this program.

    Args:
        folder: folder to lock.
        writes: names of files that are written into it. In a folder without a lock, they must not
            exist.

    Raises:
        RunError: if another process holds the lock, the folder is not writable, or it has one of
            the files and is not one of this program.
    """
    folder = Path(folder)
    path = folder / _LOCK
    if not _is_own(folder):
        for name in (_LOCK, *writes):
            if os.path.lexists(folder / name):
                raise RunError(
                    f"{folder / name}: exists, and was not written by cascaderank; choose another "
                    "folder with --run, or move the file"
                )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = path.open("ab")
    except OSError as error:
        raise RunError(
            f"{folder}: not writable: {error.strerror or error}; choose another folder with --run"
        ) from None
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(
                    f"{folder}: in use by another process; wait for it or choose another folder"
                ) from None
            except OSError:  # a file system without locks
                pass
        if not path.stat().st_size:
            with writing(path):
                lock.write(_MARK)
                lock.flush()
        yield


def _is_own(folder: Path) -> bool:
    """Whether this program wrote a folder: it has its lock, or is the copy of a run or of several.

    Copies often have no hidden files, and thus no lock.
    """
    path = folder / _LOCK
    with suppress(OSError):
        if stat.S_ISREG(path.lstat().st_mode) and path.stat().st_size <= len(_MARK):
            return path.read_bytes() in (b"", _MARK)  # empty in version 0.3 and earlier
        return False
    is_run = all((folder / name).is_file() for name in ("schema.json", "environment.json"))
    return is_run or any(_has_results(folder / name) for name in _RESULTS)


def _has_results(file: Path) -> bool:
    """Whether a file has the results of a comparison or a heat map, of any version."""
    with suppress(RunError):
        return read_json(file).keys() >= _IN_RESULTS
    return False


def _of_others(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder other than the lock, temporary folders, and partial files."""
    ours = re.compile(r"\.lock|\.cascaderank-.*|\..+\.[0-9a-f]{8}")  # the last of version 0.3
    return (p for p in folder.iterdir() if not ours.fullmatch(p.name) and not is_partial(p.name))


@contextmanager
def scratch(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Create a temporary folder for files as large as the data, and remove it at exit.

    Temporary folders that killed processes left in the same place are removed first.

    Args:
        folder: parent folder, which must be :func:`locked`. ``None`` for the system's temporary
            folder.

    Raises:
        RunError: if the folder cannot be created.
    """
    for leftover in Path(folder).glob(".cascaderank-*") if folder else ():  # also of version 0.3
        shutil.rmtree(leftover, ignore_errors=True)
    with ExitStack() as opened:
        with writing(folder or "TMPDIR"):
            parent = folder or tempfile.gettempdir()
            place = opened.enter_context(partial_folder(Path(parent) / _SCRATCH, mode=0o700))
        yield place


def write_atomically(
    path: str | os.PathLike[str],
    *content: bytes | memoryview,
    keep: str | os.PathLike[str] | None = None,
) -> None:
    """Write a file atomically: to a temporary file in the same folder, which then replaces it.

    Args:
        path: file to write.
        content: contents of the file, concatenated.
        keep: new path of the file that is replaced; by default it is removed. A process that is
            killed between both renames leaves ``keep`` and no file at ``path``.

    Raises:
        RunError: if the file cannot be written; it is unchanged.

    The permissions are those of any new file of the user (the umask applies), so that the files of
    a run can be shared. Files of :mod:`tempfile` can be read by their owner only.
    """
    path = Path(path)
    with writing(path), partial_file(path) as hidden:
        with hidden.open("wb") as file:
            file.writelines(content)
        if keep is not None and path.exists():
            path.replace(keep)


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON cannot represent.
    """
    write_atomically(path, _json(value))


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object from the folder of a run.

    Raises:
        RunError: if the file is missing or not JSON.
    """
    path = Path(path)
    try:
        value = parsed_json(read_file(path).decode())
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, found {type(value).__name__}")
        return value
    except FileNotFoundError:
        raise RunError(
            f"{path}: missing; expected {path.parent} to be the folder of a complete run; "
            "finish it with `cascaderank train`"
        ) from None
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # also of bytes that are not UTF-8
        raise RunError(
            f"{path}: not JSON: {error}; restore the file from a copy, or train again in another "
            "folder"
        ) from None


def read_record(path: str | os.PathLike[str], model: type[M]) -> M:
    """Read a JSON file of a run as a record with types; other keys of the file are ignored.

    Args:
        path: file to read.
        model: class of the record.

    Raises:
        RunError: if the file is missing, not JSON, or does not have the entries of the record.
    """
    content = read_json(path)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RunError(
            f"{path}: not a file of a run: {mistakes}; restore the file from a copy, or train "
            "again in another folder"
        ) from None
