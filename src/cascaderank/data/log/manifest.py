"""Manifest of a request log: schema, level names, counts and checksums."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path, PurePosixPath

from pydantic import ConfigDict, Field, JsonValue, ValidationError, field_validator

from cascaderank.atomic import former_folders
from cascaderank.errors import DataError
from cascaderank.regular_files import check_path, read_file, system_errors
from cascaderank.schema import RESERVED, Kind, Schema, abridged
from cascaderank.settings.base import Settings
from cascaderank.text_files import parsed_json

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
    checksum: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    """:func:`checksum_of` the other entries; ``None`` in data sets of version 0.3 and earlier."""


def checksum_of(content: Mapping[str, object]) -> str:
    """Return the SHA-256 of the entries of a manifest other than ``checksum``.

    Args:
        content: the manifest as parsed from JSON. White space and the order of the entries in the
            file do not change the checksum.

    Examples:
        >>> checksum_of({"name": "shop", "checksum": "a"}) == checksum_of({"name": "shop"})
        True
    """
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(
        json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def signed(manifest: Manifest) -> bytes:
    """Return the contents of ``manifest.json``, with the checksum.

    Args:
        manifest: manifest; its own checksum is not used.
    """
    content = json.loads(manifest.model_dump_json(by_alias=True))
    content["checksum"] = checksum_of(content)
    return json.dumps(content, indent=1, ensure_ascii=False).encode()


def vocabulary_mistake(schema: Schema) -> str | None:
    """Return a message about the first vocabulary that only one feature names, or ``None``.

    A feature has the vocabulary of its own name, or shares that of another feature.

    Args:
        schema: schema of a data set.

    Examples:
        >>> shop = {"name": "seen", "role": "history", "kind": "categorical"}
        >>> vocabulary_mistake(Schema(features=({**shop, "vocabulary": "vdeo"},)))
        "feature 'seen': expected the vocabulary of a feature, found 'vdeo', which no other \
feature has; name the feature whose categories it shares"
    """
    categorical = [f for f in schema.features if f.kind is Kind.CATEGORICAL]
    used = Counter(f.vocabulary for f in categorical)
    for feature in categorical:
        if used[feature.vocabulary] == 1 and feature.vocabulary != feature.name:
            return (
                f"feature '{feature.name}': expected the vocabulary of a feature, found "
                f"'{feature.vocabulary}', which no other feature has; name the feature whose "
                "categories it shares"
            )
    return None


def read_manifest(folder: str | os.PathLike[str]) -> Manifest:
    """Read the manifest of a request log, and check it and that all its files exist.

    Of a file, only the size is checked. Its checksum is compared when it is read.

    Args:
        folder: folder of the request log.

    Returns:
        The validated manifest.

    Raises:
        DataError: if the folder or its manifest is missing or unreadable, if the manifest has
            another format version or another checksum, if its entries contradict each other, if a
            file is missing or has another size, if the counts of the parts do not add up, or if
            the log has no requests.

    Examples:
        >>> read_manifest("nowhere")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        cascaderank.errors.DataError: nowhere: no such folder; make a data set there with ...
    """
    folder = check_path(folder, DataError)
    with system_errors(DataError):
        return _checked(folder)


def _checked(folder: Path) -> Manifest:
    manifest = _parsed(folder)
    if not manifest.requests or not manifest.parts:
        raise DataError(f"{folder}: the data set is empty; prepare it again from its source")
    for mistake in _mistakes(manifest):
        raise DataError(
            f"{folder / MANIFEST}: {mistake}; copy the data set again, or prepare it again from "
            "its source"
        )
    files: list[Part | Catalogue] = list(manifest.parts)
    if manifest.catalogue is not None:
        files.append(manifest.catalogue)
    for part in files:
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


def _mistakes(manifest: Manifest) -> Iterator[str]:
    """Yield the contradictions between the entries of a manifest."""
    paths: dict[str, int] = {}
    contents: dict[str, str] = {}
    for number, part in enumerate(manifest.parts):
        if part.path in paths:
            yield f"parts {paths[part.path]} and {number} are the same file, {part.path}"
        if part.sha256 in contents:
            yield f"{part.path} has the same content as {contents[part.sha256]}"
        paths[part.path], contents[part.sha256] = number, part.path
    columns = Counter(manifest.columns)
    twice = [name for name, count in columns.items() if count > 1]
    if twice:
        yield f"columns: '{twice[0]}' is listed twice"
    missing = [n for n in ("request_id", *manifest.schema_.names) if n not in columns]
    if missing:
        yield f"columns: expected all features of the schema, found no '{missing[0]}'"
    known = {*RESERVED, *manifest.schema_.names}
    strange = [n for n in columns if n not in known]
    if strange:
        yield f"columns: expected features of the schema, found {abridged(strange)}"
    if ("level" in columns) != bool(manifest.level_names):
        found = "none" if "level" in columns else abridged(manifest.level_names)
        expected = "names of the levels" if "level" in columns else "no levels, as no column has"
        yield f"level_names: expected {expected}, found {found}"
    if len(set(manifest.level_names)) < len(manifest.level_names):
        yield f"level_names: expected different names, found {abridged(manifest.level_names)}"
    if ("timestamp" in columns) != (manifest.time_range is not None):
        yield "time_range: expected one if there is a column 'timestamp', and none otherwise"
    vocabulary = vocabulary_mistake(manifest.schema_)
    if vocabulary is not None:
        yield f"schema: {vocabulary}"


def _parsed(folder: Path) -> Manifest:
    path = folder / MANIFEST
    if not folder.exists():
        for former in former_folders(folder):
            raise DataError(
                f"{folder}: no such folder; a process that replaced it was killed, and the former "
                f"one was moved to {former}; rename it, or repeat the command that was killed"
            )
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
        content = parsed_json(read_file(path).decode())
    except (OSError, ValueError) as error:  # also of bytes that are not UTF-8
        raise DataError(
            f"{path}: cannot be read as JSON: {error}; prepare the data set again"
        ) from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        raise DataError(
            f"{path}: expected a data set of format {FORMAT}, found {version!r}; prepare it "
            "again with this version of cascaderank"
        )
    expected = content.get("checksum")
    if expected is not None and expected != (found := checksum_of(content)):
        raise DataError(
            f"{path}: checksum does not match: expected sha256 {expected}, found {found}; copy the "
            "data set again, or prepare it again from its source; after a change of your own, "
            "remove the entry 'checksum'"
        )
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(f"{path}: not a manifest: {mistakes}; prepare the data set again") from None
