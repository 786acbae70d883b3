"""Full-catalogue retrieval metrics: a stage searches all items, not only logged candidates."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascaderank._moved import renamed_keywords
from cascaderank.batch import RequestBatch
from cascaderank.data.item_catalogue import ItemCatalogue
from cascaderank.errors import ConfigError, DataError
from cascaderank.evaluation.evaluate import Batches
from cascaderank.evaluation.statistics.bootstrap import Summary, bootstrap_intervals
from cascaderank.evaluation.vector_search import (
    ItemSets,
    Lists,
    agreement,
    exact_search,
    index_search,
)
from cascaderank.selection import check_size, relevance_of
from cascaderank.stages import VectorStage

Floats = NDArray[np.float64]

EXACT = "exact"
"""Name of exhaustive search without an index: all items are scored."""

_ITEM_BLOCK = 65_536


@final
@dataclass(frozen=True, kw_only=True)
class CatalogueReport:
    """Retrieval metrics of a stage that searches all items for the ground truth."""

    requests: int
    items: int
    """Number of items searched."""
    absent: int
    """Number of ground-truth candidates outside the catalogue; they count as misses."""
    index: str
    """``"exact"``, or the name of a faiss index."""
    index_recall: float
    """Share of the exact lists that the index retrieved, in [0, 1]; 1 for exact search."""
    metrics: dict[str, Summary]
    """Means by metric and cut-off, such as ``recall@50``."""
    per_request: dict[str, NDArray[Any]] = field(repr=False, compare=False)
    """``row`` and the metrics, one value per request, sorted by row."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict, without the values per request."""
        names = ("requests", "items", "absent", "index", "index_recall")
        fields = {name: getattr(self, name) for name in names}
        return {**fields, "metrics": {name: s.to_json() for name, s in self.metrics.items()}}


def list_metrics(lists: Lists, relevant: ItemSets, cutoffs: Sequence[int]) -> dict[str, Floats]:
    r"""Return hit rate, NDCG, recall and precision of ranked lists of items.

    .. math::
        \text{NDCG@m} = \frac{\sum_{r \le m} [\text{hit at } r] / \log_2(1 + r)}
                             {\sum_{r \le \min(m, n)} 1 / \log_2(1 + r)}

    with n relevant items. ``hit_rate@m`` is 1 if the first m items contain a relevant one, else 0;
    ``recall@m`` is the share of the relevant items among the first m; ``precision@m`` is the number
    of relevant items among the first m, divided by m.

    Args:
        lists: ``[requests, length]`` positions of distinct items, best first; -1 is padding.
        relevant: distinct relevant items of each request; -1 is an item outside the catalogue.
        cutoffs: values of m, each in [1, length].

    Returns:
        Values by metric and cut-off, ``[requests]`` each; NaN for a request without a relevant
            item.

    Raises:
        ConfigError: if a cut-off is not a positive integer, or exceeds the length of the lists.

    Examples:
        >>> lists = np.array([[4, 2, 0]])
        >>> metrics = list_metrics(lists, ItemSets(np.array([0, 0]), np.array([2, 7])), [2])
        >>> {name: values.round(3).tolist() for name, values in metrics.items()}
        {'hit_rate@2': [1.0], 'ndcg@2': [0.387], 'recall@2': [0.5], 'precision@2': [0.5]}

    Source: textbook definitions, as in FS-LTR.
    """
    longest = max(check_size(m, "a cut-off") for m in cutoffs)
    if longest > lists.shape[1]:
        raise ConfigError(
            f"lists must have at least {longest} items for cut-off {longest}; got {lists.shape[1]}"
        )
    size = max(int(lists.max(initial=0)), int(relevant.places.max(initial=0))) + 1
    relevant_keys = relevant.rows * size + relevant.places
    keys = np.arange(len(lists))[:, None] * size + lists
    hits = np.isin(keys, relevant_keys[relevant.places >= 0]) & (lists >= 0)
    count = np.bincount(relevant.rows, minlength=len(lists)).astype(np.float64)
    undefined = np.where(count == 0, math.nan, 1.0)
    gains = 1 / np.log2(np.arange(2, longest + 2))
    ideal = np.concatenate([[math.nan], np.cumsum(gains)])
    metrics = {}
    for m in cutoffs:
        top_hits = hits[:, :m].sum(1)
        metrics[f"hit_rate@{m}"] = (top_hits > 0) * undefined
        best = ideal[np.minimum(count, m).astype(np.int64)]
        metrics[f"ndcg@{m}"] = (hits[:, :m] * gains[:m]).sum(1) / best
        metrics[f"recall@{m}"] = top_hits / np.where(count == 0, math.nan, count)
        metrics[f"precision@{m}"] = top_hits / m * undefined
    return metrics


@renamed_keywords(ground_truth="k")
def evaluate_catalogue(
    stage: nn.Module,
    loader: Batches,
    catalogue: ItemCatalogue,
    *,
    k: int | None = None,
    threshold: float | None = None,
    cutoffs: Sequence[int] = (20, 50),
    user: str | None = None,
    history: "Batches | Liked | None" = None,
    index: str = EXACT,
    device: torch.device | str = "cpu",
    bootstrap: int = 1000,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> CatalogueReport:
    """Evaluate the retrieval of ground-truth items from the whole catalogue for each request.

    Args:
        stage: stage whose score is the dot product of a request vector and an item vector; see
            :class:`~cascaderank.stages.VectorStage`. It is in evaluation mode during the call.
        loader: requests with all their logged candidates.
        catalogue: items to search.
        k: size of the ground truth, the top ``k`` candidates by label. Candidates that tie for the
            last places are excluded.
        threshold: minimum label of the ground truth; at least one of ``k`` and ``threshold``
            must be given.
        cutoffs: lengths of the lists at which the metrics are computed.
        user: request feature that identifies the user. Items that were ground truth of the user in
            ``history`` are excluded from the lists, unless they are ground truth of the request.
        history: training requests, or the result of :func:`liked_before` for them.
        index: ``"exact"``, or a faiss index such as ``"HNSW32"``.
        device: device of the computation.
        bootstrap: number of bootstrap replicates for the intervals; 0 disables them.
        seed: random seed of the bootstrap.
        progress: callback, called with 1 after each batch.

    Raises:
        ConfigError: if the stage has no vectors or reads a feature that does not belong to the item
            alone, or a cut-off is out of range.
        DataError: if the loader has no request, or a batch has no labels.
    """
    if not isinstance(stage, VectorStage):
        raise ConfigError(
            "search of all items needs a stage whose score is a dot product of two vectors; got a "
            f"{type(stage).__name__}; use two_tower or matrix_factorisation"
        )
    rule = {"k": k, "threshold": threshold}
    training = stage.training
    try:
        stage.eval()
        with torch.no_grad():
            if isinstance(history, Liked) or history is None or not user:
                liked = history if isinstance(history, Liked) else None
            else:
                liked = liked_before(history, catalogue, user=user, k=k, threshold=threshold)
            items = _item_vectors(stage, catalogue, device)
            vectors: list[Tensor] = []
            relevant: list[ItemSets] = []
            excluded: list[ItemSets] = []
            rows: list[Lists] = []
            for batch in loader.epoch(0):
                positives = _positives(batch, catalogue, rule)
                if liked is not None and user is not None:
                    excluded.append(liked.of(batch.request[user], positives))
                vectors.append(stage.request_vectors(batch.to(device)).float())
                relevant.append(positives)
                rows.append(_rows(batch, sum(len(part) for part in rows)))
                if progress is not None:
                    progress(1)
            if not rows:
                raise DataError("expected at least one request to evaluate; got none")
            sizes = [len(part) for part in rows]
            targets, exclude = _joined(relevant, sizes), _joined(excluded, sizes)
            lists = exact = exact_search(torch.cat(vectors), items, max(cutoffs), exclude=exclude)
            if index != EXACT:
                lists = index_search(
                    torch.cat(vectors), items, max(cutoffs), index=index, exclude=exclude
                )
    finally:
        stage.train(training)
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")
    metrics = {name: x[order] for name, x in list_metrics(lists, targets, cutoffs).items()}
    return CatalogueReport(
        requests=len(row),
        items=len(catalogue),
        absent=int((targets.places < 0).sum()),
        index=index,
        index_recall=agreement(lists, exact),
        metrics=bootstrap_intervals(metrics, resamples=bootstrap, seed=seed),
        per_request={"row": row[order], **metrics},
    )


def _joined(parts: Sequence[ItemSets], sizes: Sequence[int]) -> ItemSets:
    """Concatenate the item sets of all batches, with request indices over all batches."""
    starts = np.cumsum([0, *sizes])[: len(parts)]
    return ItemSets(
        np.concatenate(
            [np.zeros(0, np.int64), *(p.rows + s for p, s in zip(parts, starts, strict=True))]
        ),
        np.concatenate([np.zeros(0, np.int64), *(p.places for p in parts)]),
    )


def _item_vectors(
    stage: VectorStage, catalogue: ItemCatalogue, device: torch.device | str
) -> Tensor:
    blocks = []
    for start in range(0, len(catalogue), _ITEM_BLOCK):
        batch = catalogue.batch(start, min(start + _ITEM_BLOCK, len(catalogue)))
        try:
            blocks.append(stage.item_vectors(batch.to(device))[0].float())
        except KeyError as error:
            raise ConfigError(
                "search of all items needs a stage that reads features of items alone; it reads "
                f"{error}, which the items of the catalogue do not have"
            ) from None
    return torch.cat(blocks)


def _positives(batch: RequestBatch, catalogue: ItemCatalogue, rule: dict[str, Any]) -> ItemSets:
    """The distinct ground-truth items of each request of a batch."""
    if batch.labels is None:
        raise DataError(
            "expected labels in every batch; got a batch without labels; prepare the requests with "
            "a target"
        )
    whole = (relevance_of(batch.labels, mask=batch.mask, **rule) == 1) & batch.mask
    rows, columns = whole.nonzero(as_tuple=True)
    codes = batch.items[catalogue.item][rows, columns].numpy()
    places, requests = catalogue.places(codes), rows.numpy()
    # An item that was logged twice counts once. An item outside the vocabulary (code 0) is kept
    # under a negative key of its own, and counts as a miss.
    keys = np.where(codes > 0, codes, -1 - columns.numpy())
    pairs = np.unique(np.stack([requests, keys]), axis=1)
    first = catalogue.places(np.maximum(pairs[1], 0)) if len(places) else places
    return ItemSets(pairs[0], np.where(pairs[1] > 0, first, -1))


def _rows(batch: RequestBatch, before: int) -> Lists:
    if batch.rows is None:
        return np.arange(before, before + len(batch))
    rows: Lists = batch.rows.numpy()
    return rows


@final
class Liked:
    """Ground-truth items of each user in past requests, sorted by user code."""

    def __init__(self, users: Lists, places: Lists) -> None:
        pairs = np.unique(np.stack([users, places]), axis=1)
        self._users, self._places = pairs

    def of(self, users: Tensor, unless: ItemSets) -> ItemSets:
        """Return the items of the users of a batch, without the items in ``unless``."""
        codes = users.numpy()
        first = np.searchsorted(self._users, codes, side="left")
        last = np.searchsorted(self._users, codes, side="right")
        last = np.where(codes > 0, last, first)  # code 0, out of vocabulary, is not a single user
        lengths = last - first
        rows = np.repeat(np.arange(len(codes)), lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = self._places[np.repeat(first, lengths) + within]
        size = int(max(places.max(initial=0), unless.places.max(initial=0))) + 1
        kept_keys = unless.rows * size + unless.places
        left = ~np.isin(rows * size + places, kept_keys[unless.places >= 0])
        return ItemSets(rows[left], places[left])


def liked_before(
    history: Batches,
    catalogue: ItemCatalogue,
    *,
    user: str,
    k: int | None = None,
    threshold: float | None = None,
) -> Liked:
    """Collect the ground-truth items of each user in past requests.

    Args:
        history: past requests.
        catalogue: items to search.
        user: request feature that identifies the user.
        k: size of the ground truth, the top ``k`` candidates by label.
        threshold: minimum label of the ground truth; at least one of ``k`` and ``threshold`` must
            be given.

    Raises:
        ConfigError: if the requests have no categorical feature ``user`` with one value.
    """
    users, places = [], []
    for batch in history.epoch(0):
        if user not in batch.request or batch.request[user].dim() > 1:
            raise ConfigError(
                "catalogue.user must be a categorical feature of the requests with one value; got "
                f"'{user}'; "
                f"available: {', '.join(batch.request) or 'none'}"
            )
        positives = _positives(batch, catalogue, {"k": k, "threshold": threshold})
        known = positives.places >= 0
        users.append(batch.request[user].numpy()[positives.rows[known]])
        places.append(positives.places[known])
    return Liked(
        np.concatenate(users) if users else np.zeros(0, np.int64),
        np.concatenate(places) if places else np.zeros(0, np.int64),
    )
