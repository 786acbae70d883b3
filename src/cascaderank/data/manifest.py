"""What a request log says about itself: schema, level names, counts and checksums."""

import json
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from cascaderank.errors import DataError
from cascaderank.schema import Schema

FORMAT = 1
"""Version of the folder format that this library writes and reads."""

MANIFEST = "manifest.json"
"""Name of the file that makes a folder a request log."""


class Part(BaseModel):
    """One Parquet file of a request log.

    Examples:
        >>> part = Part(path="a.parquet", requests=1, candidates=2, bytes=3, sha256="0" * 64)
        >>> part.day is None
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Relative to the folder of the log, with forward slashes."""
    requests: int = Field(ge=1)
    candidates: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    day: date | None = None
    """The day of its requests, in UTC unless the source has days of its own; none without time."""
    given: str | None = Field(None, pattern="^[a-z0-9_-]+$")
    """Which part of the split that came with the data its requests are in; none if none did."""

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"'{path}' leads out of the folder")
        return path


class Catalogue(BaseModel):
    """The Parquet file of all items, one row each.

    Examples:
        >>> Catalogue(path="items.parquet", items=1, bytes=3, sha256="0" * 64).items
        1
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    """Relative to the folder of the log."""
    items: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """The contents of ``manifest.json``.

    Examples:
        >>> none = {"columns": (), "requests": 0, "candidates": 0, "parts": ()}
        >>> Manifest(name="none", schema_=Schema(features=()), **none).format
        1
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    format: int = FORMAT
    name: str
    """What the data set is called in tables."""
    schema_: Schema = Field(alias="schema")
    level_names: tuple[str, ...] = ()
    """How far a candidate can get, lowest first; empty if the log has no levels."""
    columns: tuple[str, ...]
    """Of the Parquet files, in order."""
    requests: int = Field(ge=0)
    candidates: int = Field(ge=0)
    time_range: tuple[datetime, datetime] | None = None
    """Of the first and of the last request (UTC), if they have timestamps."""
    parts: tuple[Part, ...]
    catalogue: Catalogue | None = None
    """All items that could have been candidates, if the source knows them."""
    extra: dict[str, JsonValue] = {}
    """What a source wants remembered, such as the truth that a simulation planted."""


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a request log, and check that its parts are there and whole.

    Sizes are looked at, contents are not: checksums are compared when a part is read.

    Args:
        folder: of the request log.

    Raises:
        DataError: if the folder or its manifest is missing or unreadable, of another version, if a
            part is missing or of another size, or if there are no requests.

    Examples:
        >>> read_manifest(Path("nowhere"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        cascaderank.errors.DataError: nowhere: no such folder; make a data set there with ...
    """
    manifest = _parsed(folder)
    if not manifest.requests or not manifest.parts:
        raise DataError(f"{folder}: the data set is empty; prepare it again from its source")
    for part in manifest.parts:
        file = folder / part.path
        if not file.is_file():
            raise DataError(
                f"{file}: missing, though {MANIFEST} lists it; copy the data set again, or "
                "prepare it again from its source"
            )
        found = file.stat().st_size
        if found != part.bytes:
            raise DataError(
                f"{file}: {'truncated' if found < part.bytes else 'changed'}: expected "
                f"{part.bytes} bytes, found {found}; copy the data set again, or prepare it again "
                "from its source"
            )
    for what in ("requests", "candidates"):
        told, summed = getattr(manifest, what), sum(getattr(p, what) for p in manifest.parts)
        if told != summed:
            raise DataError(
                f"{folder / MANIFEST}: tells of {told} {what}, its parts of {summed}; "
                "prepare the data set again from its source"
            )
    return manifest


def _parsed(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.exists():
        raise DataError(
            f"{folder}: no such folder; make a data set there with "
            f"`cascaderank prepare SOURCE --from PATH --to {folder}`"
        )
    if not path.is_file():
        raise DataError(
            f"{folder}: not a data set: there is no {MANIFEST} in it; make one with "
            "`cascaderank prepare SOURCE --from PATH --to DIR`"
        )
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read as JSON: {error}; prepare the data set again"
        ) from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise DataError(
            f"{path}: expected a data set of format {FORMAT}, found {version!r}; prepare it "
            "again with this version of cascaderank"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: not a manifest: {told}; prepare the data set again") from None
