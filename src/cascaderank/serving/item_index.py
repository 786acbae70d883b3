"""Approximate search of the first stage: the index of a bundle and its measured recall."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.evaluation.vector_search import VectorIndex, agreement, exact_search
from cascaderank.serving.bundle_files import IndexEntry
from cascaderank.serving.stage_plan import StagePlan
from cascaderank.serving.value_encoder import ValueEncoder
from cascaderank.stages import VectorStage

Places = NDArray[np.int64]

HNSW = "HNSW32"
"""What the description ``hnsw`` is short for."""

_LARGEST_SHARE = 0.1
_TIMED = 50  # requests


def indexed(
    plan: StagePlan,
    items: Tensor | None,
    encoder: ValueEncoder,
    frame: pl.DataFrame,
    description: str,
) -> tuple[VectorIndex, IndexEntry]:
    """Build an index of the items, and measure its recall against exact search.

    Args:
        plan: plan of the first stage.
        items: ``[items, dim]`` vectors of the items; ``None`` if the stage has none.
        encoder: encodes the features of the stages.
        frame: raw requests to measure with, one row per request.
        description: ``hnsw``, or a description for faiss's ``index_factory``.

    Raises:
        ConfigError: if faiss rejects the index, or the first stage has no vectors.
        MissingExtraError: if faiss is not installed.
    """
    if not isinstance(plan.stage, VectorStage) or items is None:
        raise ConfigError(
            "--index: expected a first stage that can search all items, such as two_tower or "
            f"matrix_factorisation, and a catalogue with its features; stage '{plan.name}' cannot "
            "search; export without --index"
        )
    description = HNSW if description == "hnsw" else description
    requests = request_vectors(plan, encoder, frame)
    index = VectorIndex.build(items, description, requests=requests)
    k = min(plan.quota, len(items))
    return index, IndexEntry(
        description=description,
        stage=plan.name,
        k=k,
        requests=len(requests),
        recall=recall_of(index, items, requests, k),
        milliseconds=_median_milliseconds(requests, lambda request: index.search(request, k)),
        exact_milliseconds=_median_milliseconds(
            requests, lambda request: (items @ request[0]).topk(k)
        ),
    )


def recall_of(index: VectorIndex, items: Tensor, requests: Tensor, k: int) -> float:
    """Return the fraction of the top ``k`` items of exact search that the index finds."""
    return agreement(index.search(requests, k), exact_search(requests, items, k))


def request_vectors(plan: StagePlan, encoder: ValueEncoder, frame: pl.DataFrame) -> Tensor:
    """Return the vectors of raw requests, ``[requests, dim]``.

    Args:
        plan: plan of a stage with vectors.
        encoder: encodes the features of the stages.
        frame: raw requests, one row per request.
    """
    if not isinstance(plan.stage, VectorStage):
        raise ConfigError(f"stage '{plan.name}' has no vectors")
    with torch.inference_mode():
        rows = (encoder.request(row) for row in frame.iter_rows(named=True))
        return torch.cat([plan.stage.request_vectors(row).float() for row in rows])


def best_places(
    index: VectorIndex, request: Tensor, k: int, allowed: Places | None
) -> Places | None:
    """Return at least the ``k`` best items that a request may have, approximately.

    Where filters leave items out, the index retrieves more items, of which those are dropped.

    Args:
        index: index of all items.
        request: ``[1, dim]``.
        k: number of items.
        allowed: positions of the items that no filter leaves out, ascending; ``None`` for all.

    Returns:
        Positions, ascending; ``None`` if exact search should be used: the index would retrieve more
        than a tenth of all items, or it found too few.
    """
    size = len(index)
    left = size if allowed is None else len(allowed)
    if not left:
        return None
    # `k` more than are left out are always enough. Of many, twice the average has to be.
    depth = k + min(size - left, max(3 * k, 2 * k * size // left))
    if depth > _LARGEST_SHARE * size:
        return None
    found = index.search(request, depth)[0]
    found = np.sort(found[found >= 0])
    if allowed is not None:
        nearest = np.searchsorted(allowed, found).clip(max=left - 1)
        found = found[allowed[nearest] == found]
    return found if len(found) >= min(k, left) else None


def _median_milliseconds(requests: Tensor, search: Callable[[Tensor], Any]) -> float:
    times = [_milliseconds(search, row[None]) for row in requests[:_TIMED]]
    return round(float(np.median(times)), 4)


def _milliseconds(search: Callable[[Tensor], Any], request: Tensor) -> float:
    started = perf_counter()
    search(request)
    return (perf_counter() - started) * 1000
