"""Top-k items by dot product for each request: exact search in blocks, or a faiss index."""

import os
from dataclasses import dataclass
from typing import Any, Self, final

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
    """A set of items for each request, as (request, item) pairs sorted by request."""

    rows: Lists
    """``[pairs]`` index of the request, non-decreasing."""
    places: Lists
    """``[pairs]`` position of the item."""

    @classmethod
    def none(cls) -> "ItemSets":
        """Return empty sets."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))


def exact_search(
    requests: Tensor, items: Tensor, k: int, *, exclude: ItemSets | None = None, block: int = 8192
) -> Lists:
    """Return the items with the ``k`` largest dot products for each request.

    Scores are computed for 512 requests and ``block`` items at a time, so memory does not grow with
    the number of items. Ties are broken by the lower position.

    Args:
        requests: ``[requests, dim]`` float32.
        items: ``[items, dim]`` float32.
        k: number of items to return for each request.
        exclude: items to exclude from the results of each request.
        block: number of items scored at a time.

    Returns:
        ``[requests, k]`` positions of items, best first; -1 where no items remain.

    Raises:
        ShapeError: if the vectors differ in dimension.
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
    for first in range(0, len(requests), _REQUEST_BLOCK):
        last = min(first + _REQUEST_BLOCK, len(requests))
        inside = (exclude.rows >= first) & (exclude.rows < last)
        excluded = ItemSets(exclude.rows[inside] - first, exclude.places[inside])
        best = _search_block(requests[first:last], items, k, excluded, block)
        found[first:last, : best.shape[1]] = best
    return found


_REQUEST_BLOCK = 512


def _search_block(requests: Tensor, items: Tensor, k: int, exclude: ItemSets, block: int) -> Lists:
    """Top items of a block of requests, best first; at most ``k`` columns."""
    order = np.argsort(exclude.places, kind="stable")
    rows, places = exclude.rows[order], exclude.places[order]
    device = requests.device
    best = torch.empty(len(requests), 0, dtype=torch.int64, device=device)
    for start in range(0, len(items), block):
        stop = min(start + block, len(items))
        scores = requests @ items[start:stop].T
        if bool(scores.isnan().any()):
            raise DataError(
                f"scores of items must be numbers; got NaN for {int(scores.isnan().sum())} of "
                f"{scores.numel()} pairs of a request and an item"
            )
        first, last = np.searchsorted(places, (start, stop))
        keys = _keys(scores, start)
        row = torch.from_numpy(rows[first:last]).to(device)
        keys[row, torch.from_numpy(places[first:last] - start).to(device)] = _EXCLUDED
        best = torch.cat([best, keys], dim=1)
        best = best.topk(min(k, best.shape[1]), dim=1).values
    found: Lists = (_LAST - (best & _LAST)).masked_fill(best == _EXCLUDED, -1).cpu().numpy()
    return found


_LAST = 2**32 - 1
_EXCLUDED = -(2**63)  # below every key


def _keys(scores: Tensor, start: int) -> Tensor:
    """Return int64 keys in the order of the scores; the lower position has the larger key in a tie.

    The high 32 bits hold the score as an order-preserving integer, the low 32 bits its position.
    """
    bits = (scores.float() + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
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
    """Return approximately the items with the ``k`` largest dot products, with a faiss index.

    The recall relative to :func:`exact_search` depends on the index; ``"Flat"`` is exact.
    :func:`agreement` measures it.

    Args:
        requests: ``[requests, dim]`` float32.
        items: ``[items, dim]`` float32.
        k: number of items to return for each request.
        index: description for faiss's ``index_factory``, such as ``"HNSW32"`` or ``"IVF64,Flat"``.
        exclude: items to exclude from the results of each request. The index retrieves as many
            additional items as the largest of these sets has, and excluded items are removed.

    Returns:
        ``[requests, k]`` positions of items, best first; -1 where the index returned no more.

    Raises:
        ShapeError: if the vectors differ in dimension.
        ConfigError: if faiss rejects the index, or ``k`` is not a positive integer.
        MissingExtraError: if faiss is not installed.

    Source: faiss (Douze et al., arXiv 2401.08281).
    """
    _check_vectors(requests, items)
    check_size(k, "k")
    exclude = exclude or ItemSets.none()
    built = VectorIndex.build(items, index, requests=requests)
    most = int(np.bincount(exclude.rows, minlength=1).max()) if len(exclude.rows) else 0
    found = built.search(requests, k + most)
    size = len(items)
    offsets = np.arange(len(requests))[:, None] * size
    banned = np.isin(offsets + found, exclude.rows * size + exclude.places)
    # The stable sort moves removed items to the end and keeps the order of the others.
    order = np.argsort(banned | (found < 0), axis=1, kind="stable")[:, :k]
    kept = np.take_along_axis(np.where(banned, -1, found), order, axis=1).astype(np.int64)
    short = k - kept.shape[1]
    return np.pad(kept, ((0, 0), (0, short)), constant_values=-1) if short > 0 else kept


_SAMPLED_ITEMS, _SAMPLED_REQUESTS, _SAMPLED_DEPTH = 20_000, 100, 100


@final
class VectorIndex:
    r"""An index of faiss that finds the vectors with the largest dot products approximately.

    Several threads can search it. The mean of the vectors is subtracted first, which changes all
    products of a request by the same number.

    In a graph (HNSW) of dot products, vectors that are never among the largest products of another
    vector cannot be reached, which may be most of them. A graph of Euclidean distances of
    :math:`(x, \sqrt{\max_y |y|^2 - |x|^2})` has the same order for a request :math:`(q, 0)`. It
    reaches all vectors, and is the worse one where their lengths differ much and their directions
    do not matter. :meth:`build` takes the graph that finds more.

    Args:
        index: index of faiss, with all vectors; one of Euclidean distances has vectors with that
            further number.

    Source: faiss (Douze et al., arXiv 2401.08281); for the distances, Bachrach et al., Speeding Up
    the Xbox Recommender System Using a Euclidean Transformation for Inner-Product Spaces, 2014.
    """

    def __init__(self, index: Any) -> None:
        faiss: Any = require("faiss", extra="ann")
        self._index, self._longer = index, index.metric_type == faiss.METRIC_L2

    @classmethod
    def build(cls, items: Tensor, index: str = "HNSW32", *, requests: Tensor | None = None) -> Self:
        """Build an index of vectors.

        Args:
            items: ``[items, dim]`` float32.
            index: description for faiss's ``index_factory``, such as ``"HNSW32"``.
            requests: ``[requests, dim]`` float32, to choose between graphs of dot products and of
                distances, by their recall on a sample of the items. Default: dot products.

        Raises:
            ConfigError: if faiss rejects the index.
            MissingExtraError: if faiss is not installed.
        """
        if requests is None or not len(requests) or not index.startswith("HNSW"):
            return cls._built(items, index, by_distance=False)
        sample = items[:: -(-len(items) // _SAMPLED_ITEMS)]
        few = requests[:_SAMPLED_REQUESTS]
        exact = exact_search(few, sample, min(_SAMPLED_DEPTH, len(sample)))
        recalls = {
            by_distance: agreement(
                cls._built(sample, index, by_distance=by_distance).search(few, exact.shape[1]),
                exact,
            )
            for by_distance in (False, True)
        }
        return cls._built(items, index, by_distance=recalls[True] > recalls[False])

    @classmethod
    def _built(cls, items: Tensor, index: str, *, by_distance: bool) -> Self:
        faiss: Any = require("faiss", extra="ann")
        vectors, metric = _centred(_array(items)), faiss.METRIC_INNER_PRODUCT
        if by_distance:
            vectors, metric = _of_equal_length(vectors), faiss.METRIC_L2
        try:
            built = faiss.index_factory(vectors.shape[1], index, metric)
            built.train(vectors)
        except RuntimeError as error:
            message = str(error).strip().rpartition("Error: ")[2]
            raise ConfigError(
                f"faiss cannot build index '{index}' of these items: {message}"
            ) from None
        built.add(vectors)
        return cls(built)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that :meth:`save` wrote.

        Raises:
            DataError: if it is not an index of faiss.
            MissingExtraError: if faiss is not installed.
        """
        faiss: Any = require("faiss", extra="ann")
        try:
            return cls(faiss.read_index(os.fspath(path)))
        except RuntimeError as error:
            message = str(error).strip().rpartition("Error: ")[2]
            raise DataError(f"{path}: not an index of faiss: {message}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the index as a file of faiss."""
        faiss: Any = require("faiss", extra="ann")
        faiss.write_index(self._index, os.fspath(path))

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def search(self, requests: Tensor, k: int) -> Lists:
        """Return approximately the items with the ``k`` largest dot products for each request.

        Args:
            requests: ``[requests, dim]`` float32.
            k: number of items to return for each request.

        Returns:
            ``[requests, min(k, items)]`` positions of items, best first; -1 where the index
            returned no more.
        """
        depth = min(k, len(self))
        options: dict[str, Any] = {}
        if hasattr(self._index, "hnsw"):
            faiss: Any = require("faiss", extra="ann")
            # Of this search alone: other threads may search with another depth.
            width = max(self._index.hnsw.efSearch, 2 * depth)
            options["params"] = faiss.SearchParametersHNSW(efSearch=width)
        vectors = _array(requests)
        if self._longer:
            vectors = np.pad(vectors, ((0, 0), (0, 1)))
        _, found = self._index.search(vectors, depth, **options)
        lists: Lists = found
        return lists


def _array(vectors: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(vectors.detach().cpu().numpy(), dtype=np.float32)


def _centred(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    centred: NDArray[np.float32] = vectors - vectors.mean(0, dtype=np.float64).astype(np.float32)
    return centred


def _of_equal_length(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Add a number to each vector, so that all are as long as the longest."""
    squares = (vectors.astype(np.float64) ** 2).sum(1)
    added = np.sqrt(squares.max(initial=0.0) - squares)
    return np.concatenate([vectors, added.astype(np.float32)[:, None]], axis=1)


def agreement(found: Lists, exact: Lists) -> float:
    """Return the share of the items of the exact lists that other lists contain: the index recall.

    Examples:
        >>> agreement(np.array([[2, 1, 7]]), np.array([[1, 2, 3]])) == 2 / 3
        True
    """
    size = max(int(found.max(initial=0)), int(exact.max(initial=0))) + 1
    offsets = np.arange(len(exact))[:, None] * size
    valid = exact >= 0
    hit = np.isin((offsets + exact)[valid], (offsets + found)[found >= 0])
    return float(hit.mean()) if hit.size else 1.0


def _check_vectors(requests: Tensor, items: Tensor) -> None:
    if requests.dim() != 2 or items.dim() != 2 or requests.shape[1] != items.shape[1]:
        raise ShapeError(
            "vectors must be [requests, dim] and [items, dim]; "
            f"got {list(requests.shape)} and {list(items.shape)}"
        )
