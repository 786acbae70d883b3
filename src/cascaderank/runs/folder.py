"""The folder of a run: what is in it, and how it is written so that no kill can damage it.

::

    config.toml          all settings, defaults included
    schema.json          features, vocabularies, means: what encodes a request for these weights
    environment.json     versions, seed, device, state of the git checkout if there is one
    metrics.jsonl        one line per epoch; the same bytes whether or not the run was killed
    checkpoint.pt        all that resuming takes; gone once the run is complete
    weights.safetensors  the weights that did best on the validation requests
    per_request.parquet  what each test request scored
    report.json          the verdict on the test requests; there only when the run is complete
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from cascaderank.errors import RunError

try:
    import fcntl
except ImportError:  # not on Windows, where two runs in one folder are not told apart
    fcntl = None  # type: ignore[assignment]

_SCRATCH = ".cascaderank-"


@final
class RunFolder:
    """Where the files of one run are; the head of this module says what is in them.

    Args:
        path: the folder; made if it is not there.

    Raises:
        RunError: if the path is a file, or a folder that holds something else.
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
            raise RunError(f"{path}: a run needs a folder, and this is a file")
        if path.is_dir() and any(path.iterdir()) and not self.config.exists():
            raise RunError(
                f"{path}: holds files and no config.toml, so it is not the folder of a run; "
                "choose another"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(
                f"{path}: cannot be made: {error.strerror or error}; choose another"
            ) from None

    @property
    def begun(self) -> bool:
        """Whether anything that was learnt is there."""
        return self.checkpoint.exists() or self.weights.exists() or self.complete

    @property
    def complete(self) -> bool:
        """Whether the run came to its end."""
        return self.report.exists()


@contextmanager
def locked(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Keep other processes from training in a folder, which is made if it is not there.

    Raises:
        RunError: if one does already, or nothing can be written there.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written to: {error.strerror or error}; choose another with --run"
        ) from None
    with lock:
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise RunError(
                    f"{folder}: another process trains here; wait for it or choose another"
                ) from None
        yield


@contextmanager
def scratch(folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Give a place for files that are as large as the data, and take them away again.

    Args:
        folder: a folder that is :func:`locked`, where a killed process may have left such files:
            they go first. ``None`` for one in the system's temporary folder.
    """
    for left in Path(folder).glob(f"{_SCRATCH}*") if folder else ():
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as path:
        yield Path(path)


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all: beside it first, then moved over it."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: str | os.PathLike[str], value: object) -> None:
    """Write JSON whole or not at all; what is not a number becomes null."""
    write_atomically(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a JSON object of a run folder.

    Raises:
        RunError: if the file is missing or not JSON.
    """
    path = Path(path)
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RunError(f"{path}: missing; is {path.parent} the folder of a complete run?") from None
    except json.JSONDecodeError as error:
        raise RunError(f"{path}: not JSON: {error}") from None
    return value
