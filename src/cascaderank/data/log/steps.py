"""Resumable steps of an unfinished data set: finished steps survive an error or a kill."""

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import final

from pydantic import AliasChoices, Field, JsonValue, ValidationError

from cascaderank.atomic import lock_folder, partial_file, writing
from cascaderank.data.log.destination import files_in, is_written_file
from cascaderank.data.log.manifest import Part
from cascaderank.errors import ConfigError, DataError
from cascaderank.schema import abridged
from cascaderank.settings.base import Settings


class Step(Settings):
    """A finished step.

    The record on disk has the names of earlier versions, so that their unfinished data sets can be
    resumed.
    """

    key: str = Field(validation_alias=AliasChoices("key", "mark"), serialization_alias="mark")
    """Identifies the inputs of the step, such as a checksum of its options and files."""
    parts: tuple[Part, ...]
    """Files of the step."""
    notes: dict[str, JsonValue] = Field(
        validation_alias=AliasChoices("notes", "told"), serialization_alias="told"
    )
    """Facts about the step, for :attr:`RequestLogWriter.finished`."""


class _State(Settings):
    steps: dict[str, Step]


@final
class Unfinished:
    """Hidden folder of a data set that is written in steps, and the record of its finished steps.

    The folder is named ``.NAME.unfinished``. The record ``.NAME.unfinished.json`` next to it lists
    the finished steps; it is replaced atomically after every step.

    Args:
        path: folder of the finished data set, a string or a path.
        keys: key of each step by its name; a finished step is reused only if its key is
            unchanged.

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

    def __init__(self, path: str | os.PathLike[str], keys: Mapping[str, str]) -> None:
        path = Path(path)
        self.folder = path.parent / f".{path.name}.unfinished"
        self.record = path.parent / f".{path.name}.unfinished.json"
        self.steps: dict[str, Step] = {}
        self._keys = dict(keys)
        self._handle: int | None = None
        self._opened = False

    def open(self) -> Iterator[tuple[Part, bytes]]:
        """Lock the folder for this process and read its finished steps.

        A step whose key has changed, or whose files are missing or damaged, is not finished. Files
        that belong to no finished step are removed.

        Yields:
            Each part of the finished steps and the contents of its file.

        Raises:
            DataError: if another process writes this data set, or the folder cannot be created, is
                a link, or has files that no writer made.
        """
        if self.folder.is_symlink() or (self.folder.exists() and not self.folder.is_dir()):
            raise DataError(
                f"{self.folder}: expected the folder of an unfinished data set, found a link or a "
                "file; remove it, or choose another folder"
            )
        with writing(self.folder, DataError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock()
        found = list(files_in(self.folder))
        foreign = sorted(name for name in found if not is_written_file(name))
        if foreign:
            raise DataError(
                f"{self.folder}: expected the folder of an unfinished data set, found other files: "
                f"{abridged(foreign)}; move them to another folder"
            )
        self._opened = True
        kept = set()
        for name, step in self._recorded_steps().items():
            contents = [self._content(part) for part in step.parts]
            if step.key != self._keys.get(name) or None in contents:
                continue
            self.steps[name] = step
            for part, content in zip(step.parts, contents, strict=True):
                kept.add(self.folder / part.path)
                if content is not None:
                    yield part, content
        for file in [file for name in found if (file := self.folder / name) not in kept]:
            file.unlink()

    def finish(self, step: str, parts: Sequence[Part], notes: Mapping[str, JsonValue]) -> None:
        """Record a step whose parts are on disk as finished.

        Args:
            step: name of the step.
            parts: files of the step.
            notes: facts about the step.

        Raises:
            ConfigError: if the step does not exist or is already finished.
            DataError: if the record cannot be written.
        """
        if step not in self._keys or step in self.steps:
            status = "already finished" if step in self.steps else "not one of the steps"
            raise ConfigError(f"step '{step}' is {status}")
        finished = Step(key=self._keys[step], parts=tuple(parts), notes=dict(notes))
        steps = {**self.steps, step: finished}
        with writing(self.record, DataError), partial_file(self.record) as hidden:
            hidden.write_text(_State(steps=steps).model_dump_json(by_alias=True), encoding="utf-8")
        self.steps = steps

    def complete(self) -> None:
        """Remove the record: the folder was renamed to its final path."""
        self.steps.clear()
        self.record.unlink(missing_ok=True)

    def leave(self) -> None:
        """Release the lock; remove folder and record if there is no folder or no finished step."""
        if self._opened and not (self.steps and self.folder.exists()):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.record.unlink(missing_ok=True)
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _lock(self) -> None:
        try:
            self._handle = lock_folder(self.folder)
        except BlockingIOError:
            raise DataError(
                f"{self.folder}: another process writes this data set; wait for it, or choose "
                "another folder"
            ) from None

    def _recorded_steps(self) -> dict[str, Step]:
        try:
            return _State.model_validate_json(self.record.read_bytes()).steps
        except (OSError, ValidationError):  # no record, or one that cannot be read: start anew
            return {}

    def _content(self, part: Part) -> bytes | None:
        """Return the contents of a file; ``None`` if it is missing or its checksum differs."""
        try:
            content = (self.folder / part.path).read_bytes()
        except OSError:
            return None
        return content if hashlib.sha256(content).hexdigest() == part.sha256 else None
