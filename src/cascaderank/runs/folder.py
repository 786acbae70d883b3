"""The folder of a run: its files, its lock, and atomic writing.

::

    config.toml          all settings, defaults included
    schema.json          fitted schema: features, vocabularies, means; encodes requests
    environment.json     versions, seed, device, data set, and the git commit if there is one
    metrics.jsonl        one line per epoch; the same bytes if the run was interrupted and resumed
    checkpoint.pt        state to resume from; removed when the run is complete
    weights.safetensors  weights with the best validation value
    per_request.parquet  metrics of each test request
    report.json          evaluation on the test requests; written last, when the run is complete

Every file is written under another name first and then renamed, so that an interrupted process
leaves no partial file.
"""

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from cascaderank.errors import RunError

try:
    import fcntl
except ImportError:  # Windows has no fcntl: two processes in one folder are not detected
    fcntl = None  # type: ignore[assignment]

_SCRATCH = ".cascaderank-"


@final
class RunFolder:
    """Paths of the files of a run; the module documentation describes their content.

    Args:
        path: folder of the run; created if it does not exist.

    Raises:
        RunError: if the path is a file, is a folder with other files, or cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path = Path(path)
        self.config = path / "config.toml"
        self.schema = path / "schema.json"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.pt"
        self.weights = path / "weights.safetensors"
        self.per_request = path / "per_request.parquet"
        self.report = path / "report.json"
        if path.exists() and not path.is_dir():
            raise RunError(f"{path}: expected the folder of a run, found a file; choose another")
        if path.is_dir() and any(path.iterdir()) and not self.config.exists():
            raise RunError(
                f"{path}: expected the folder of a run, found files and no config.toml; "
                "choose another folder"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{path}: cannot be created: {error.strerror or error}; choose another folder"
            ) from None

    @property
    def begun(self) -> bool:
        """Whether training has written a checkpoint, weights or a report."""
        return self.checkpoint.exists() or self.weights.exists() or self.complete

    @property
    def complete(self) -> bool:
        """Whether the run has been trained and evaluated."""
        return self.report.exists()


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Hold the exclusive lock of a folder; create the folder if it does not exist.

    Raises:
        RunError: if another process holds the lock, or the folder is not writable.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(
            f"{folder}: not writable: {error.strerror or error}; choose another folder with --run"
        ) from None
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(
                    f"{folder}: in use by another process; wait for it or choose another folder"
                ) from None
        yield


@contextmanager
def scratch(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Create a temporary folder for files as large as the data, and remove it at exit.

    Args:
        folder: parent folder, which must be :func:`locked`: temporary folders that a killed
            process left in it are removed first. ``None`` for the system's temporary folder.
    """
    for leftover in Path(folder).glob(f"{_SCRATCH}*") if folder else ():
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as path:
        yield Path(path)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file atomically: to a temporary file in the same folder, which then replaces it.

    The permissions are those of any new file of the user (the umask applies), so that the files of
    a run can be shared. Files of :mod:`tempfile` can be read by their owner only.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write a JSON file atomically.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON cannot represent.
    """
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object from the folder of a run.

    Raises:
        RunError: if the file is missing or not JSON.
    """
    path = Path(path)
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RunError(
            f"{path}: missing; expected {path.parent} to be the folder of a complete run; "
            "finish it with `cascaderank train`"
        ) from None
    except json.JSONDecodeError as error:
        raise RunError(f"{path}: not JSON: {error}; restore the file or train again") from None
    return value
