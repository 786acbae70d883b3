"""Manifest of a request log: schema, level names, counts and checksums."""

import json
import os
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import ConfigDict, Field, JsonValue, ValidationError, field_validator

from cascaderank.errors import DataError
from cascaderank.schema import Schema
from cascaderank.settings.base import Settings

FORMAT = 1
"""Version of the folder format that is written and read."""

MANIFEST = "manifest.json"
"""Name of the manifest file in the folder of a request log."""


ITEM = "item"
"""Entry of ``extra`` with the name of the feature that identifies items, if a source records it.

Unlike a column ``item_key``, it does not change the fingerprint of the log."""


class Part(Settings):
    """One Parquet file of a request log.

    Examples:
        >>> part = Part(path="a.parquet", requests=1, candidates=2, bytes=3, sha256="0" * 64)
        >>> part.day is None
        True
    """

    path: str
    """Path relative to the folder of the log, with forward slashes."""
    requests: int = Field(ge=1)
    candidates: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    day: date | None = None
    """Day of the requests, in UTC unless the source defines its days; ``None`` without time."""
    given: str | None = Field(None, pattern="^[a-z0-9_-]+$")
    """Name of the part in the split published with the data; ``None`` without such a split."""

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, path: str) -> str:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts:
            raise ValueError(f"'{path}' must be a path inside the folder of the log")
        return path


class Catalogue(Settings):
    """Parquet file of all items, one row per item.

    Examples:
        >>> Catalogue(path="items.parquet", items=1, bytes=3, sha256="0" * 64).items
        1
    """

    path: str
    """Path relative to the folder of the log, with forward slashes."""
    items: int = Field(ge=1)
    bytes: int = Field(ge=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(Settings):
    """Contents of ``manifest.json``.

    Examples:
        >>> none = {"columns": (), "requests": 0, "candidates": 0, "parts": ()}
        >>> Manifest(name="none", schema_=Schema(features=()), **none).format
        1
    """

    model_config = ConfigDict(populate_by_name=True)

    format: int = FORMAT
    name: str
    """Name of the data set in tables."""
    schema_: Schema = Field(alias="schema")
    level_names: tuple[str, ...] = ()
    """Names of the funnel levels, lowest first; empty if the log has no levels."""
    columns: tuple[str, ...]
    """Columns of the Parquet files, in order."""
    requests: int = Field(ge=0)
    candidates: int = Field(ge=0)
    time_range: tuple[datetime, datetime] | None = None
    """Timestamps of the first and the last request (UTC); ``None`` without timestamps."""
    parts: tuple[Part, ...]
    catalogue: Catalogue | None = None
    """File of all items that could have been candidates; ``None`` if the source has no list."""
    extra: dict[str, JsonValue] = Field({})
    """Facts that a source adds, such as the parameters of a simulation."""


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Read the manifest of a request log and check that all its parts exist.

    Only the size of each file is checked. Checksums are compared when a part is read.

    Args:
        folder: folder of the request log.

    Returns:
        The validated manifest.

    Raises:
        DataError: if the folder or its manifest is missing or unreadable, if the manifest has
            another format version, if a part is missing or has another size, if the counts of the
            parts do not add up, or if the log has no requests.

    Examples:
        >>> read_manifest("nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        cascaderank.errors.DataError: nowhere: no such folder; make a data set there with ...
    """
    folder = Path(folder)
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
        size = file.stat().st_size
        if size != part.bytes:
            raise DataError(
                f"{file}: {'truncated' if size < part.bytes else 'changed'}: expected "
                f"{part.bytes} bytes, found {size}; copy the data set again, or prepare it again "
                "from its source"
            )
    for unit in ("requests", "candidates"):
        total, summed = getattr(manifest, unit), sum(getattr(p, unit) for p in manifest.parts)
        if total != summed:
            raise DataError(
                f"{folder / MANIFEST}: expected {total} {unit}, found {summed} in its parts; "
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
            f"{folder}: not a data set: it has no {MANIFEST}; make one with "
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
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: not a manifest: {mistakes}; prepare the data set again") from None
