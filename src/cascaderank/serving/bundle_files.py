"""The files of a bundle: their names, the manifest with their checksums, and atomic replacement.

::

    bundle.json            format, name, stages, quotas, metrics, size and hash of each file
    config.toml            settings of the run
    schema.json            fitted schema; encodes requests and items
    weights.safetensors    weights of the cascade
    items.arrow            raw values of the items: the key and the features of the item alone
    item_codes.safetensors the same values, encoded
    item_parts.safetensors what each stage computes from the item alone
    items.faiss            index of the vectors of the items; optional
    stage0.onnx            the first stage as ONNX, and so on; optional
    golden.parquet         raw requests of the test split with their candidates
    golden.safetensors     their scores and kept candidates in each stage, by the code of training

Nothing is pickled, and the files of items are mapped into memory. The index is not: faiss reads it
into memory.
"""

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pydantic import ConfigDict, Field, JsonValue, ValidationError

from cascaderank.atomic import move_folder, parents_of, partial_folder, writing
from cascaderank.errors import RunError
from cascaderank.regular_files import check_path, open_file, read_file
from cascaderank.runs.folder import REPORT
from cascaderank.settings.base import Count, Settings
from cascaderank.text_files import parsed_json

FORMAT: Final = 1
"""Version of the format that is written and read."""

MANIFEST: Final = "bundle.json"
CONFIG: Final = "config.toml"
SCHEMA: Final = "schema.json"
WEIGHTS: Final = "weights.safetensors"
ITEMS: Final = "items.arrow"
ITEM_CODES: Final = "item_codes.safetensors"
ITEM_PARTS: Final = "item_parts.safetensors"
INDEX: Final = "items.faiss"
GOLDEN: Final = "golden.parquet"
GOLDEN_SCORES: Final = "golden.safetensors"

REQUIRED: Final = (CONFIG, SCHEMA, WEIGHTS, GOLDEN, GOLDEN_SCORES)
OF_ITEMS: Final = (ITEMS, ITEM_CODES, ITEM_PARTS)
"""Files of a bundle with a catalogue."""

_AGAIN = "copy the bundle again, or export the run again"


class FileEntry(Settings):
    """Size and SHA-256 of a file."""

    bytes: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class StageEntry(Settings):
    """A stage of the cascade, as the manifest lists it."""

    name: str
    model: str
    """Registered name of the stage."""
    quota: Count
    """Number of candidates that the stage passes on."""
    pair_features: tuple[str, ...] = ()
    """Features of request and item together that the stage reads; no catalogue has them."""
    onnx: str | None = None
    """File of the stage as ONNX; ``None`` if it was not exported."""


class ItemEntry(Settings):
    """The item catalogue, as the manifest describes it."""

    count: Count
    key: str
    """Column that identifies an item."""
    features: tuple[str, ...]
    """Features that describe the item alone."""
    out_of_vocabulary: dict[str, int] = Field({})
    """Number of items with a category that training did not have, by feature; none are omitted."""
    source: str
    """Origin of the items, in words."""


class IndexEntry(Settings):
    """The approximate index of the items, and its recall against exact search."""

    description: str
    """Description for faiss's ``index_factory``, such as ``HNSW32``."""
    stage: str
    """First stage, whose vectors it holds."""
    k: Count
    """Number of items that were retrieved for each request: the quota of the stage."""
    requests: Count
    """Number of golden requests that were searched for."""
    recall: float = Field(ge=0, le=1)
    """Fraction of the items of exact search that the index found."""
    milliseconds: float = Field(ge=0)
    """Median time of a search by the index at export."""
    exact_milliseconds: float = Field(ge=0)
    """Median time of an exact search at export."""


class BundleManifest(Settings):
    """Contents of ``bundle.json``.

    Examples:
        >>> stage = {"name": "ranking", "model": "mlp", "quota": 10}
        >>> BundleManifest(name="shop", run="runs/shop", version="0", stages=(stage,)).format
        1
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    name: str
    """Name of the bundle, which answers and logs state."""
    run: str
    """Folder of the run that was exported."""
    version: str
    """Version of this library that wrote the bundle."""
    stages: tuple[StageEntry, ...] = Field(min_length=1)
    items: ItemEntry | None = None
    """The item catalogue; ``None`` if the log does not identify items."""
    index: IndexEntry | None = None
    """The approximate index; ``None`` for exact search."""
    history_length: Count = 50
    """Number of most recent entries of a history that count."""
    golden: int = Field(0, ge=0)
    """Number of golden requests."""
    metrics: dict[str, JsonValue] = Field({})
    """Metrics of the run on its test requests."""
    files: dict[str, FileEntry] = Field({})
    """Size and SHA-256 of every other file, by name."""

    @property
    def quotas(self) -> tuple[int, ...]:
        """Number of candidates that each stage keeps, first stage first."""
        return tuple(stage.quota for stage in self.stages)


def read_bundle_manifest(folder: str | os.PathLike[str]) -> BundleManifest:
    """Read and validate the manifest of a bundle; its files are not read.

    Args:
        folder: folder of the bundle.

    Raises:
        RunError: if the folder or the manifest is missing or damaged, or has another format.
    """
    folder = check_path(folder, RunError)
    path = folder / MANIFEST
    try:
        content = parsed_json(read_file(path).decode())
    except (FileNotFoundError, NotADirectoryError):
        run = (folder / REPORT).is_file()
        raise RunError(
            f"{folder}: expected a bundle, found {'a run' if run else f'no {MANIFEST}'}; write one "
            f"with `cascaderank export {folder if run else 'RUN'} --to BUNDLE`"
        ) from None
    except (OSError, ValueError) as error:  # also of bytes that are not UTF-8
        raise RunError(f"{path}: cannot be read as JSON: {error}; {_AGAIN}") from None
    version = content.get("format") if isinstance(content, dict) else None
    if version != FORMAT:
        newer = isinstance(version, int) and version > FORMAT
        raise RunError(
            f"{path}: expected a bundle of format {FORMAT}, found {version!r}; "
            + ("use a newer version of cascaderank" if newer else "export the run again")
        )
    try:
        manifest = BundleManifest.model_validate(content)
    except ValidationError as error:
        mistakes = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RunError(f"{path}: not the manifest of a bundle: {mistakes}; {_AGAIN}") from None
    needed = [
        *REQUIRED,
        *(OF_ITEMS if manifest.items else ()),
        *([INDEX] if manifest.index else []),
    ]
    missing = [name for name in needed if name not in manifest.files]
    strange = [name for name in manifest.files if Path(name).name != name or name == MANIFEST]
    if missing or strange:
        found = f"no {missing[0]}" if missing else repr(strange[0])
        raise RunError(f"{path}: files: expected the files of a bundle, found {found}; {_AGAIN}")
    return manifest


def check_bundle_files(folder: str | os.PathLike[str], manifest: BundleManifest) -> None:
    """Compare the size and the SHA-256 of every file of a bundle with its manifest.

    Raises:
        RunError: if a file is missing or differs.
    """
    for name, entry in manifest.files.items():
        path = Path(folder) / name
        try:
            with open_file(path) as file:
                size = os.fstat(file.fileno()).st_size
                if size != entry.bytes:
                    state = "half-copied" if size < entry.bytes else "changed"
                    raise RunError(
                        f"{path}: {state}: expected {entry.bytes:,} bytes, found {size:,}; {_AGAIN}"
                    )
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise RunError(f"{path}: missing, though {MANIFEST} lists it; {_AGAIN}") from None
        except OSError as error:
            raise RunError(f"{path}: cannot be read: {error.strerror or error}; {_AGAIN}") from None
        if found != entry.sha256:
            raise RunError(
                f"{path}: changed since the export: expected sha256 {entry.sha256}, found {found}; "
                f"{_AGAIN}"
            )


def entries_of(folder: str | os.PathLike[str], names: Iterable[str]) -> dict[str, FileEntry]:
    """Return the size and the SHA-256 of files by name."""
    entries = {}
    for name in names:
        path = Path(folder) / name
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        entries[name] = FileEntry(bytes=path.stat().st_size, sha256=digest)
    return entries


def write_bundle_manifest(folder: str | os.PathLike[str], manifest: BundleManifest) -> None:
    """Write ``bundle.json``, with the sizes and checksums of the other files of the folder."""
    names = sorted(p.name for p in Path(folder).iterdir() if p.name != MANIFEST)
    content: dict[str, Any] = manifest.model_dump(mode="json", exclude={"files"})
    files = {name: entry.model_dump() for name, entry in entries_of(folder, names).items()}
    text = json.dumps({**content, "files": files}, indent=1, ensure_ascii=False)
    (Path(folder) / MANIFEST).write_text(text + "\n", encoding="utf-8")


def bundle_destination(to: str | os.PathLike[str]) -> Path:
    """Return the folder of a bundle to write; a link stands for the folder it points to.

    Args:
        to: folder, which need not exist.

    Raises:
        RunError: if it is a file, is in a file, or is a folder with files that is no bundle.
    """
    to = check_path(to, RunError)
    to = to.resolve() if to.is_symlink() else to
    for path in (to, *to.parents):
        if path.exists() and not path.is_dir():
            raise RunError(f"{path}: expected a folder, found a file; choose another")
    if to.is_dir() and any(to.iterdir()) and not (to / MANIFEST).is_file():
        raise RunError(
            f"{to}: expected a bundle or an empty folder, found other files; choose another folder"
        )
    return to


@contextmanager
def new_bundle(to: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a hidden folder beside a bundle, which replaces it in one step at exit.

    After an error or an interrupt, the hidden folder is removed and ``to`` is unchanged. A process
    that has loaded the former bundle keeps it: files stay readable as long as they are open.

    Args:
        to: folder of the bundle; an existing bundle there is replaced.

    Raises:
        RunError: if ``to`` is a file or a folder that is no bundle, or cannot be written.
    """
    to = bundle_destination(to)
    with writing(to), parents_of(to), partial_folder(to) as hidden:
        yield hidden
        mode = stat.S_IMODE((hidden / MANIFEST).stat().st_mode)
        for path in hidden.iterdir():
            path.chmod(mode)  # safetensors writes files that only their owner can read
            with path.open("rb") as file:
                os.fsync(file.fileno())
        move_folder(hidden, to)
