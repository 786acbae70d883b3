"""Steps of a data set that is being written, so that what was finished outlives a kill."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from cascaderank.data.manifest import Part
from cascaderank.errors import ConfigError, DataError

try:
    import fcntl
except ImportError:  # not on Windows, where two processes that write one data set are not told
    fcntl = None  # type: ignore[assignment]


class Step(BaseModel):
    """A step that was finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mark: str
    """What it was made from."""
    parts: tuple[Part, ...]
    told: dict[str, JsonValue]


class _State(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: dict[str, Step]


@final
class Unfinished:
    """The hidden folder of a data set that is written in steps, and which of them are finished.

    The folder is called ``.NAME.unfinished``; which steps it holds is in ``.NAME.unfinished.json``
    beside it, which is replaced as a whole after every step.

    Args:
        path: of the data set.
        marks: of all steps, by name.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     first = Unfinished(Path(name) / "log", {"monday": "a", "tuesday": "b"})
        ...     parts = list(first.open())
        ...     first.finish("monday", (), {"requests": 0})
        ...     first.leave()
        ...     second = Unfinished(Path(name) / "log", {"monday": "a", "tuesday": "c"})
        ...     parts = list(second.open())
        ...     second.leave()
        ...     list(second.steps)
        ['monday']
    """

    def __init__(self, path: Path, marks: Mapping[str, str]) -> None:
        self.folder = path.with_name(f".{path.name}.unfinished")
        self.steps: dict[str, Step] = {}
        self._state = path.with_name(f".{path.name}.unfinished.json")
        self._marks = dict(marks)
        self._handle: int | None = None

    def open(self) -> Iterator[tuple[Part, bytes]]:
        """Take the folder for this process, and find what was finished in it.

        Steps of another mark and those that are damaged count as not finished, and files that
        belong to no finished step are removed.

        Yields:
            The parts of the finished steps, and what is in them.

        Raises:
            DataError: if another process writes this data set, or the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock()
        except OSError as error:
            raise DataError(
                f"{self.folder}: cannot be written: {error.strerror or error}"
            ) from None
        kept = set()
        for name, step in self._finished_before().items():
            contents = [self._content(part) for part in step.parts]
            if step.mark != self._marks.get(name) or None in contents:
                continue
            self.steps[name] = step
            for part, content in zip(step.parts, contents, strict=True):
                kept.add(self.folder / part.path)
                if content is not None:
                    yield part, content
        for file in [p for p in self.folder.rglob("*") if p.is_file() and p not in kept]:
            file.unlink()

    def finish(self, step: str, parts: Sequence[Part], told: Mapping[str, JsonValue]) -> None:
        """Note a step whose parts are on disk.

        Raises:
            ConfigError: if there is no such step, or it is finished already.
            DataError: if it cannot be written.
        """
        if step not in self._marks or step in self.steps:
            told_of = "finished already" if step in self.steps else "none of the steps"
            raise ConfigError(f"step '{step}' is {told_of}")
        self.steps[step] = Step(mark=self._marks[step], parts=tuple(parts), told=dict(told))
        beside = self._state.with_suffix(".new")
        try:
            with beside.open("wb") as file:
                file.write(_State(steps=self.steps).model_dump_json().encode())
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._state)
        except OSError as error:
            raise DataError(f"{beside}: cannot be written: {error.strerror or error}") from None

    def leave(self) -> None:
        """Let other processes in; leaves nothing if the data set is whole or no step finished."""
        whole = not self.folder.exists()
        if whole or not self.steps:
            shutil.rmtree(self.folder, ignore_errors=True)
            self._state.unlink(missing_ok=True)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _lock(self) -> None:
        if fcntl is not None:
            self._handle = os.open(self.folder, os.O_RDONLY)
            try:
                fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._handle)
                self._handle = None
                raise DataError(
                    f"{self.folder}: another process writes this data set; wait for it, or choose "
                    "another folder"
                ) from None

    def _finished_before(self) -> dict[str, Step]:
        try:
            return _State.model_validate_json(self._state.read_bytes()).steps
        except (OSError, ValidationError):  # nothing was finished that could be gone on with
            return {}

    def _content(self, part: Part) -> bytes | None:
        try:
            content = (self.folder / part.path).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == part.sha256 else None
