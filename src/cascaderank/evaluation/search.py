"""The best of all items for each request: exactly in blocks, or by an index."""

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.extras import require
from cascaderank.selection import check_size

Lists = NDArray[np.int64]


@final
@dataclass(frozen=True, eq=False)
class ItemSets:
    """Some items for each request, as two columns in the order of the requests."""

    rows: Lists
    """Which request, rising."""
    places: Lists
    """Which item."""

    @classmethod
    def none(cls) -> "ItemSets":
        """Return no items for any request."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))


def exact_search(
    requests: Tensor, items: Tensor, k: int, *, exclude: ItemSets | None = None, block: int = 8192
) -> Lists:
    """Return the items with the ``k`` largest dot products for each request.

    Memory is that of ``block`` items for some hundred requests, however many there are. Of equal
    scores the item that comes first wins.

    Args:
        requests: ``[requests, dim]`` float32.
        items: ``[items, dim]`` float32.
        k: how many.
        exclude: items that are not to be found.
        block: items that are scored at a time.

    Returns:
        ``[requests, k]`` places of items, best first; -1 where there are no more.

    Raises:
        ShapeError: if the vectors are not of one length.
        ConfigError: if ``k`` or ``block`` is not a positive integer.
        DataError: if a score is NaN.

    Examples:
        >>> items = torch.tensor([[1.0], [3.0], [2.0]])
        >>> exact_search(torch.tensor([[1.0], [-1.0]]), items, 2).tolist()
        [[1, 2], [0, 2]]

    Source: this project.
    """
    _check_vectors(requests, items)
    check_size(k, "k")
    check_size(block, "block")
    exclude = exclude or ItemSets.none()
    found = np.full((len(requests), k), -1, dtype=np.int64)
    for first in range(0, len(requests), _REQUESTS_AT_ONCE):
        last = min(first + _REQUESTS_AT_ONCE, len(requests))
        out = (exclude.rows >= first) & (exclude.rows < last)
        some = ItemSets(exclude.rows[out] - first, exclude.places[out])
        best = _searched(requests[first:last], items, k, some, block)
        found[first:last, : best.shape[1]] = best
    return found


_REQUESTS_AT_ONCE = 512


def _searched(requests: Tensor, items: Tensor, k: int, exclude: ItemSets, block: int) -> Lists:
    order = np.argsort(exclude.places, kind="stable")
    rows, places = exclude.rows[order], exclude.places[order]
    device = requests.device
    best = torch.empty(len(requests), 0, dtype=torch.int64, device=device)
    for start in range(0, len(items), block):
        stop = min(start + block, len(items))
        scores = requests @ items[start:stop].T
        if bool(scores.isnan().any()):
            raise DataError("some scores of items are NaN, so they have no rank")
        first, last = np.searchsorted(places, (start, stop))
        keys = _keys(scores, start)
        out = torch.from_numpy(rows[first:last]).to(device)
        keys[out, torch.from_numpy(places[first:last] - start).to(device)] = _NOBODY
        best = torch.cat([best, keys], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    found: Lists = (_LAST - (best & _LAST)).masked_fill(best == _NOBODY, -1).cpu().numpy()
    return found


_LAST = 2**32 - 1
_NOBODY = -(2**63)


def _keys(scores: Tensor, start: int) -> Tensor:
    """Whole numbers in the order of the scores, and of the items where those are equal."""
    bits = (scores.float() + 0.0).view(torch.int32)  # + 0.0: minus zero is zero
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    places = torch.arange(start, start + scores.shape[1], device=scores.device)
    return (ordered.long() << 32) | (_LAST - places)


def index_search(
    requests: Tensor,
    items: Tensor,
    k: int,
    *,
    index: str = "HNSW32",
    exclude: ItemSets | None = None,
) -> Lists:
    """Return about the items with the ``k`` largest dot products, by an index of faiss.

    How nearly the lists are those of :func:`exact_search` is for the index: ``"Flat"`` finds them
    all. Measure it with :func:`agreement`.

    Args:
        requests: ``[requests, dim]`` float32.
        items: ``[items, dim]`` float32.
        k: how many.
        index: what faiss's ``index_factory`` makes, such as ``"HNSW32"`` or ``"IVF64,Flat"``.
        exclude: items that are not to be found. So many more are asked of the index.

    Returns:
        ``[requests, k]`` places of items, best first; -1 where no more were found.

    Raises:
        ShapeError: if the vectors are not of one length.
        ConfigError: if faiss knows no such index, or ``k`` is not a positive integer.
        MissingExtraError: if faiss is not installed.

    Source: faiss (Douze et al., arXiv 2401.08281).
    """
    _check_vectors(requests, items)
    check_size(k, "k")
    faiss: Any = require("faiss", extra="ann")
    exclude = exclude or ItemSets.none()
    vectors = np.ascontiguousarray(items.detach().cpu().numpy(), dtype=np.float32)
    queries = np.ascontiguousarray(requests.detach().cpu().numpy(), dtype=np.float32)
    try:
        built = faiss.index_factory(vectors.shape[1], index, faiss.METRIC_INNER_PRODUCT)
        built.train(vectors)
    except RuntimeError as error:
        told = str(error).strip().rpartition("Error: ")[2]
        raise ConfigError(f"faiss cannot make an index '{index}' of these items: {told}") from None
    built.add(vectors)
    most = int(np.bincount(exclude.rows, minlength=1).max()) if len(exclude.rows) else 0
    asked = min(k + most, len(vectors))
    if hasattr(built, "hnsw"):
        built.hnsw.efSearch = max(built.hnsw.efSearch, 2 * asked)
    _, found = built.search(queries, asked)
    size = len(vectors)
    owner = np.arange(len(queries))[:, None] * size
    banned = np.isin(owner + found, exclude.rows * size + exclude.places)
    # Stable: what is left keeps its order.
    order = np.argsort(banned | (found < 0), axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(np.where(banned, -1, found), order, axis=1).astype(np.int64)
    short = k - kept.shape[1]
    return np.pad(kept, ((0, 0), (0, short)), constant_values=-1) if short > 0 else kept


def agreement(found: Lists, exact: Lists) -> float:
    """Return the share of exact lists that other lists found: the recall of an index.

    Examples:
        >>> agreement(np.array([[2, 1, 7]]), np.array([[1, 2, 3]])) == 2 / 3
        True
    """
    size = max(int(found.max(initial=0)), int(exact.max(initial=0))) + 1
    owner = np.arange(len(exact))[:, None] * size
    there = exact >= 0
    hit = np.isin((owner + exact)[there], (owner + found)[found >= 0])
    return float(hit.mean()) if hit.size else 1.0


def _check_vectors(requests: Tensor, items: Tensor) -> None:
    if requests.dim() != 2 or items.dim() != 2 or requests.shape[1] != items.shape[1]:
        raise ShapeError(
            "vectors must be [requests, dim] and [items, dim]; "
            f"got {list(requests.shape)} and {list(items.shape)}"
        )
