"""Judging a stage by its search of all items, not only of those that were logged."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.data.item_catalogue import ItemCatalogue
from cascaderank.errors import ConfigError, DataError
from cascaderank.evaluation.bootstrap import Summary, bootstrap_intervals
from cascaderank.evaluation.cascade import Batches
from cascaderank.evaluation.search import ItemSets, Lists, agreement, exact_search, index_search
from cascaderank.selection import check_size, marks
from cascaderank.stages import VectorStage

Floats = NDArray[np.float64]

EXACT = "exact"
"""The index that is none: all items are scored."""

_ITEMS_AT_ONCE = 65_536


@final
@dataclass(frozen=True, kw_only=True)
class CatalogueReport:
    """How well a stage finds the ground truth among all items."""

    requests: int
    items: int
    """How many were searched."""
    absent: int
    """Candidates of the ground truth that are not among the items: nothing can find them."""
    index: str
    """``"exact"``, or the index of faiss."""
    index_recall: float
    """Share of the exact lists that the index found; 1 if exact."""
    metrics: dict[str, Summary]
    """By name and cut-off, such as ``recall@50``."""
    per_request: dict[str, NDArray[Any]] = field(repr=False, compare=False)
    """``row`` and the metrics, a value for each request, by row."""

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("requests", "items", "absent", "index", "index_recall")
        told = {name: getattr(self, name) for name in names}
        return {**told, "metrics": {name: s.to_json() for name, s in self.metrics.items()}}


def list_metrics(lists: Lists, relevant: ItemSets, cutoffs: Sequence[int]) -> dict[str, Floats]:
    r"""Judge lists of items by the items that are relevant.

    .. math::
        \text{NDCG@m} = \frac{\sum_{r \le m} [\text{hit at } r] / \log_2(1 + r)}
                             {\sum_{r \le \min(m, n)} 1 / \log_2(1 + r)}

    with n relevant items. ``hit_rate@m`` is 1 if there is a hit in the first m, ``recall@m`` the
    share of relevant items that are among them, ``precision@m`` the hits over m.

    Args:
        lists: ``[requests, longest]`` places of items, best first, each once; -1 for none.
        relevant: items of each request, each once; -1 for one that is in no list.
        cutoffs: m, none above ``longest``.

    Returns:
        By metric and cut-off, ``[requests]``; NaN for a request without a relevant item.

    Raises:
        ConfigError: if a cut-off is not a positive integer, or lists are shorter.

    Examples:
        >>> lists = np.array([[4, 2, 0]])
        >>> found = list_metrics(lists, ItemSets(np.array([0, 0]), np.array([2, 7])), [2])
        >>> {name: values.round(3).tolist() for name, values in found.items()}
        {'hit_rate@2': [1.0], 'ndcg@2': [0.387], 'recall@2': [0.5], 'precision@2': [0.5]}

    Source: textbook; as in FS-LTR.
    """
    longest = max(check_size(m, "a cut-off") for m in cutoffs)
    if longest > lists.shape[1]:
        raise ConfigError(f"cut-off {longest} needs lists as long; got {lists.shape[1]} items")
    size = max(int(lists.max(initial=0)), int(relevant.places.max(initial=0))) + 1
    own = relevant.rows * size + relevant.places
    keys = np.arange(len(lists))[:, None] * size + lists
    hits = np.isin(keys, own[relevant.places >= 0]) & (lists >= 0)
    count = np.bincount(relevant.rows, minlength=len(lists)).astype(np.float64)
    undefined = np.where(count == 0, math.nan, 1.0)
    gains = 1 / np.log2(np.arange(2, longest + 2))
    ideal = np.concatenate([[math.nan], np.cumsum(gains)])
    found = {}
    for m in cutoffs:
        of_top = hits[:, :m].sum(1)
        found[f"hit_rate@{m}"] = (of_top > 0) * undefined
        best = ideal[np.minimum(count, m).astype(np.int64)]
        found[f"ndcg@{m}"] = (hits[:, :m] * gains[:m]).sum(1) / best
        found[f"recall@{m}"] = of_top / np.where(count == 0, math.nan, count)
        found[f"precision@{m}"] = of_top / m * undefined
    return found


def evaluate_catalogue(
    stage: nn.Module,
    loader: Batches,
    catalogue: ItemCatalogue,
    *,
    ground_truth: int | None = None,
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
    """Search all items for each request, and judge by the ground truth of its list.

    Args:
        stage: whose score is the dot product of two vectors; see
            :class:`~cascaderank.stages.VectorStage`. In evaluation mode meanwhile.
        loader: requests with all candidates that were logged.
        catalogue: what is searched.
        ground_truth: the ground truth is the top so many by label. Candidates that tie for the
            last places are not in it.
        threshold: the ground truth is every label of at least this; give this or
            ``ground_truth``.
        cutoffs: lengths of the lists that are judged.
        user: the feature of requests that tells users apart. What was ground truth of the user in
            ``history`` is left out of the lists, unless it is of the request, too.
        history: requests that were learnt from, or what :func:`liked_before` found in them.
        index: ``"exact"``, or an index of faiss, such as ``"HNSW32"``.
        device: where to compute.
        bootstrap: resamples for the intervals; 0 for none.
        seed: of the bootstrap.
        progress: called with 1 after each batch.

    Raises:
        ConfigError: if the stage has no vectors, reads a feature that is not of the item alone, or
            a cut-off is out of range.
        DataError: if there is no request, or a batch has no labels.
    """
    if not isinstance(stage, VectorStage):
        raise ConfigError(
            f"a {type(stage).__name__} cannot search all items: its score is no dot product of two "
            "vectors; take two_tower or matrix_factorisation"
        )
    rule = {"k": ground_truth, "threshold": threshold}
    training = stage.training
    try:
        stage.eval()
        with torch.no_grad():
            if isinstance(history, Liked) or history is None or not user:
                seen = history if isinstance(history, Liked) else None
            else:
                seen = liked_before(
                    history, catalogue, user=user, k=ground_truth, threshold=threshold
                )
            items = _item_vectors(stage, catalogue, device)
            vectors: list[Tensor] = []
            relevant: list[ItemSets] = []
            without: list[ItemSets] = []
            rows: list[Lists] = []
            for batch in loader.epoch(0):
                own = _positives(batch, catalogue, rule)
                if seen is not None and user is not None:
                    without.append(seen.of(batch.request[user], own))
                vectors.append(stage.request_vectors(batch.to(device)).float())
                relevant.append(own)
                rows.append(_rows(batch, sum(len(of) for of in rows)))
                if progress is not None:
                    progress(1)
            if not rows:
                raise DataError("nothing to report on: there is no request")
            sizes = [len(of) for of in rows]
            own, out = _joined(relevant, sizes), _joined(without, sizes)
            lists = exact = exact_search(torch.cat(vectors), items, max(cutoffs), exclude=out)
            if index != EXACT:
                lists = index_search(
                    torch.cat(vectors), items, max(cutoffs), index=index, exclude=out
                )
    finally:
        stage.train(training)
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")
    found = {name: of[order] for name, of in list_metrics(lists, own, cutoffs).items()}
    return CatalogueReport(
        requests=len(row),
        items=len(catalogue),
        absent=int((own.places < 0).sum()),
        index=index,
        index_recall=agreement(lists, exact),
        metrics=bootstrap_intervals(found, resamples=bootstrap, seed=seed),
        per_request={"row": row[order], **found},
    )


def _joined(parts: Sequence[ItemSets], sizes: Sequence[int]) -> ItemSets:
    """The sets of the requests of all batches, one after another."""
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
    for start in range(0, len(catalogue), _ITEMS_AT_ONCE):
        batch = catalogue.batch(start, min(start + _ITEMS_AT_ONCE, len(catalogue)))
        try:
            blocks.append(stage.item_vectors(batch.to(device))[0].float())
        except KeyError as error:
            raise ConfigError(
                f"the stage reads {error}, which is not of an item alone, so the items of the "
                "catalogue do not have it"
            ) from None
    return torch.cat(blocks)


def _positives(batch: RequestBatch, catalogue: ItemCatalogue, rule: dict[str, Any]) -> ItemSets:
    """The ground truth of each request of a batch."""
    if batch.labels is None:
        raise DataError("a batch has no labels to be judged by; prepare the requests with a target")
    whole = (marks(batch.labels, mask=batch.mask, **rule) == 1) & batch.mask
    rows, columns = whole.nonzero(as_tuple=True)
    codes = batch.items[catalogue.item][rows, columns].numpy()
    places, of = catalogue.places(codes), rows.numpy()
    # An item that was logged twice is one item. One that is in no list stays, as a miss.
    pairs = np.unique(np.stack([of, np.where(codes > 0, codes, -1 - columns.numpy())]), axis=1)
    first = catalogue.places(np.maximum(pairs[1], 0)) if len(places) else places
    return ItemSets(pairs[0], np.where(pairs[1] > 0, first, -1))


def _rows(batch: RequestBatch, before: int) -> Lists:
    if batch.rows is None:
        return np.arange(before, before + len(batch))
    rows: Lists = batch.rows.numpy()
    return rows


@final
class Liked:
    """What was ground truth of each user, by code; sorted by user."""

    def __init__(self, users: Lists, places: Lists) -> None:
        pairs = np.unique(np.stack([users, places]), axis=1)
        self._users, self._places = pairs

    def of(self, users: Tensor, unless: ItemSets) -> ItemSets:
        """Items of the users of a batch, but for some."""
        codes = users.numpy()
        first = np.searchsorted(self._users, codes, side="left")
        last = np.searchsorted(self._users, codes, side="right")
        last = np.where(codes > 0, last, first)  # users out of vocabulary are not one user
        lengths = last - first
        rows = np.repeat(np.arange(len(codes)), lengths)
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = self._places[np.repeat(first, lengths) + within]
        size = int(max(places.max(initial=0), unless.places.max(initial=0))) + 1
        own = unless.rows * size + unless.places
        left = ~np.isin(rows * size + places, own[unless.places >= 0])
        return ItemSets(rows[left], places[left])


def liked_before(
    history: Batches,
    catalogue: ItemCatalogue,
    *,
    user: str,
    k: int | None = None,
    threshold: float | None = None,
) -> Liked:
    """Gather what was ground truth of each user in some requests.

    Args:
        history: the requests.
        catalogue: what is searched.
        user: the feature of requests that tells users apart.
        k: the ground truth is the top so many by label.
        threshold: the ground truth is every label of at least this; give this or ``k``.

    Raises:
        ConfigError: if requests have no such category.
    """
    users, places = [], []
    for batch in history.epoch(0):
        if user not in batch.request:
            raise ConfigError(
                f"catalogue.user must be a category of the requests; got '{user}', there are "
                f"{', '.join(batch.request) or 'none'}"
            )
        own = _positives(batch, catalogue, {"k": k, "threshold": threshold})
        there = own.places >= 0
        users.append(batch.request[user].numpy()[own.rows[there]])
        places.append(own.places[there])
    return Liked(
        np.concatenate(users) if users else np.zeros(0, np.int64),
        np.concatenate(places) if places else np.zeros(0, np.int64),
    )
