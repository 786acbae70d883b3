"""Loaded bundles of a server, and what the process does to serve them fast."""

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

import torch

from cascaderank.serving.drift import Drift
from cascaderank.serving.feature_source import FeatureSource
from cascaderank.serving.http.golden_bodies import GoldenBodies
from cascaderank.serving.ranker import Ranker


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A loaded bundle with its statistics."""

    ranker: Ranker
    drift: Drift
    golden: GoldenBodies


def load_bundles(
    folders: Mapping[str, str | os.PathLike[str]], source: FeatureSource | None = None
) -> dict[str, Loaded]:
    """Load bundles, after checking their files against their checksums.

    Args:
        folders: folder of each bundle by variant.
        source: values of item features that are newer than those of the bundles.

    Raises:
        RunError: if a folder is no bundle, is damaged or half-copied, or has another format.
        ConfigError: if the source has a feature that the stages of a bundle do not read.
    """
    found = {}
    for name, folder in folders.items():
        ranker = Ranker.load(folder, source=source)
        golden = GoldenBodies(ranker.bundle)
        found[name] = Loaded(ranker=ranker, drift=Drift(ranker), golden=golden)
    return found


def described(ranker: Ranker) -> dict[str, Any]:
    """Return what a bundle is, JSON-compatible; without paths of the machine."""
    manifest = ranker.bundle.manifest
    hidden: Any = {"run": True, "files": True, "items": {"source"}}
    return {
        **manifest.model_dump(mode="json", exclude=hidden),
        "sha256": {name: entry.sha256 for name, entry in manifest.files.items()},
        "searches": ranker.searches,
        "needs_rows": {name: list(features) for name, features in ranker.needs_rows.items()},
        "memory": ranker.memory,
    }


def settle() -> None:
    """Free what was replaced, and exclude what is loaded from later collections of garbage.

    Each of these would look at all objects of the libraries and the bundles, and delay a request.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def release() -> None:
    """Include all objects in collections of garbage again."""
    gc.unfreeze()


def one_thread() -> None:
    """Let PyTorch use one thread for the work of this thread."""
    torch.set_num_threads(1)
