"""A bundle that was checked and loaded: cascade, schema, items and parts of items."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, final

import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cascaderank.cascade import Cascade
from cascaderank.errors import CascadeRankError, MissingExtraError, RunError
from cascaderank.evaluation.vector_search import VectorIndex
from cascaderank.regular_files import check_path
from cascaderank.runs.build import build_cascade, schema_of_stages
from cascaderank.runs.recorded import recorded_settings
from cascaderank.schema import FittedSchema
from cascaderank.serving.bundle_files import (
    CONFIG,
    GOLDEN,
    INDEX,
    ITEM_PARTS,
    MANIFEST,
    SCHEMA,
    WEIGHTS,
    BundleManifest,
    check_bundle_files,
    read_bundle_manifest,
)
from cascaderank.serving.item_table import ItemTable
from cascaderank.settings.run import RunSettings

_TRIES = 3


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """The content of a bundle; open it with :meth:`load`."""

    folder: Path
    manifest: BundleManifest
    settings: RunSettings
    """Settings of the run."""
    schema: FittedSchema
    """Fitted schema of the run: all features of its log."""
    cascade: Cascade
    """Cascade in evaluation mode, on the CPU, without gradients."""
    items: ItemTable | None
    """All items with their own features; ``None`` for a log that does not identify items."""
    parts: dict[str, Tensor]
    """``[items, width]`` what each stage computes from an item alone, by stage."""
    log_types: Mapping[str, pl.DataType]
    """Types of the columns of the log that the run was trained on."""
    index: VectorIndex | None = None
    """Approximate index of the vectors of the first stage, if the bundle has one."""

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Check all files of a bundle against their checksums, and load it.

        If another bundle takes its place meanwhile, that one is loaded: no part is of one and
        another of the other.

        Args:
            folder: folder that ``cascaderank export`` wrote.

        Raises:
            RunError: if the folder is no bundle, is damaged or half-copied, or has another format.
            MissingExtraError: if the bundle has an index and faiss is not installed.
        """
        folder = check_path(folder, RunError)
        for left in reversed(range(_TRIES)):
            manifest = read_bundle_manifest(folder)
            try:
                check_bundle_files(folder, manifest)
                loaded = cls._loaded(folder, manifest)
            except RunError:
                if left and _replaced(folder, manifest):
                    continue
                raise
            if not _replaced(folder, manifest):
                return loaded
        raise RunError(f"{folder}: was replaced {_TRIES} times while it was loaded; try again")

    @classmethod
    def _loaded(cls, folder: Path, manifest: BundleManifest) -> Self:
        try:
            settings = recorded_settings(folder / CONFIG)
            schema = FittedSchema.load(folder / SCHEMA)
            with torch.random.fork_rng(devices=[]):  # initial values are drawn and replaced
                cascade = build_cascade(settings, schema)
            cascade.load_state_dict(load_file(folder / WEIGHTS))
            golden = pl.read_parquet(folder / GOLDEN, n_rows=1, glob=False)
            items, parts = None, {}
            index = VectorIndex.open(folder / INDEX) if manifest.index is not None else None
            if manifest.items is not None:
                known = schema.only(manifest.items.features)
                items = ItemTable.open(folder, manifest.items.key, known)
                parts = load_file(folder / ITEM_PARTS)
        except MissingExtraError:
            raise
        except (
            CascadeRankError,
            RuntimeError,
            SafetensorError,
            OSError,
            LookupError,
            pl.exceptions.PolarsError,
        ) as error:
            text = error.strerror if isinstance(error, OSError) else None
            reason = (text or str(error)).strip().split("\n")[0]
            raise RunError(
                f"{folder}: cannot be loaded: {reason}; import the module of its own components "
                "first, or export the run again"
            ) from None
        found = [(stage.name, stage.quota) for stage in manifest.stages]
        expected = list(zip(cascade.stage_names, cascade.quotas, strict=True))
        if found != expected:
            raise RunError(
                f"{folder / MANIFEST}: expected the stages and quotas of {CONFIG}, {expected}; "
                f"found {found}; export the run again"
            )
        return cls(
            folder=folder,
            manifest=manifest,
            settings=settings,
            schema=schema,
            cascade=cascade.eval().requires_grad_(requires_grad=False),
            items=items,
            parts=parts,
            log_types=golden.schema,
            index=index,
        )

    @property
    def stage_schema(self) -> FittedSchema:
        """Schema of the features that the stages read."""
        return schema_of_stages(self.settings, self.schema)


def _replaced(folder: Path, manifest: BundleManifest) -> bool:
    """Return whether a folder has the files of another bundle than that of a manifest."""
    return read_bundle_manifest(folder).files != manifest.files
