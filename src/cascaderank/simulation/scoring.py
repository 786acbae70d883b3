"""Scores of user-item pairs by one stage; one-sided computations are cached."""

from collections.abc import Iterator
from typing import final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.encoding.encoder import Encoder
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.schema import FittedSchema, Role
from cascaderank.simulation.population import Places, Population
from cascaderank.stages.mlp import MLP
from cascaderank.stages.two_tower import TwoTower

_PAIRS = 8_192  # pairs per block


@final
class PairScorer:
    """Scores user-item pairs by a stage.

    A two-tower stage computes the vectors of all items once. The first layer of an MLP is the sum
    of a user part and an item part: each part is computed once, and the remaining layers only for
    the requested pairs. Other stages, and an MLP with a linear layer or a prior beside it, score
    the candidates of each user as a batch of requests.

    Args:
        stage: trained stage; it is moved to ``device`` and set to evaluation mode.
        fitted: fitted schema of the stage.
        population: users and items.
        history_length: maximum number of latest history entries that the stage uses.
        device: device of the computation; the CPU by default.
    """

    def __init__(
        self,
        stage: nn.Module,
        fitted: FittedSchema,
        population: Population,
        *,
        history_length: int = 50,
        device: torch.device | None = None,
    ) -> None:
        self.device = device or torch.device("cpu")
        self._stage = stage.to(self.device).eval()
        features = tuple(f for f in fitted.features if f.name in population.schema.names)
        encoder = Encoder(fitted.model_copy(update={"features": features}))
        names = [f.name for f in features if f.role is Role.ITEM]
        users, items = population.users, population.items.select(names)
        single = items[:1].select(pl.all().implode())  # a request needs at least one candidate
        self._users = _loader(users.join(single, how="cross"), encoder, history_length)
        every = users[:1].join(items.select(pl.all().implode()), how="cross")
        self._items = _loader(every, encoder, history_length).collate(np.arange(1)).to(self.device)
        with torch.no_grad():
            self._item_part = self._items_alone()

    def block(self, users: Places) -> "BlockScorer":
        """Return a scorer of a block of users, given by their rows in the population."""
        return BlockScorer(self, users)

    @property
    def items(self) -> int:
        """Number of items."""
        return self._items.mask.shape[1]

    def _items_alone(self) -> Tensor | None:
        """Item vectors or item parts of the first layer, ``[items, width]``; ``None`` otherwise."""
        match self._stage:
            case TwoTower() as stage:
                vectors: Tensor = stage.item_tower(stage.embedder.items(self._items))[0]
                return vectors
            case MLP() as stage:
                return stage.item_part(self._items)[0]
        return None

    @torch.no_grad()
    def at_once(self, users: Places) -> NDArray[np.float32]:
        """Return the scores ``[users, items]`` of a two-tower stage; NaN for any other stage."""
        if not isinstance(self._stage, TwoTower):
            return np.full((len(users), self.items), np.nan, dtype=np.float32)
        batch = self._users.collate(users).to(self.device)
        vectors = self._stage.request_tower(self._stage.embedder.request(batch))
        return np.asarray((vectors @ self._cached_items().T).cpu())

    @torch.no_grad()
    def of_pairs(self, users: Places, rows: Places, items: Places) -> NDArray[np.float32]:
        """Return the scores of pairs, ``[pairs]``.

        Args:
            users: ``[users]``, rows of the users in the population.
            rows: ``[pairs]``, indices into ``users``, with the pairs of a user adjacent.
            items: ``[pairs]``, positions in the catalogue.
        """
        batch = self._users.collate(users).to(self.device)
        row, item = (torch.from_numpy(p).to(self.device) for p in (rows, items))
        chunks = []
        match self._stage:
            case MLP() as stage:
                parts = stage.request_part(batch)
                for r, i in _blocks(row, item):
                    items_of = self._cached_items()[i].unsqueeze(1)
                    scores = stage.scores_of_parts(tuple(part[r] for part in parts), items_of)
                    chunks.append(scores[:, 0])
            case stage:
                for r, i in _blocks(row, item):
                    chunks.append(self._as_requests(stage, batch, r, i))
        return np.asarray(torch.cat(chunks).cpu()) if chunks else np.zeros(0, np.float32)

    def _cached_items(self) -> Tensor:
        if self._item_part is None:
            raise TypeError("this stage has no computation that depends on items alone")
        return self._item_part

    def _as_requests(
        self, stage: nn.Module, batch: RequestBatch, row: Tensor, item: Tensor
    ) -> Tensor:
        """Scores of pairs, computed as one request per user; pairs of a user must be adjacent."""
        user, lengths = torch.unique_consecutive(row, return_counts=True)
        mask = torch.arange(int(lengths.max()), device=self.device) < lengths[:, None]
        places = torch.zeros(mask.shape, dtype=torch.int64, device=self.device)
        places[mask] = item
        requests = RequestBatch(
            mask=mask,
            items={name: values[0, places] for name, values in self._items.items.items()},
            request={name: values[user] for name, values in batch.request.items()},
            history={name: values[user] for name, values in batch.history.items()},
            history_mask={name: values[user] for name, values in batch.history_mask.items()},
        )
        scores: Tensor = stage(requests)
        return scores[mask]


@final
class BlockScorer:
    """Scores of a block of users, cached so that no pair is scored twice.

    Args:
        scorer: scorer of all users.
        users: ``[users]``, rows in the population.
    """

    def __init__(self, scorer: PairScorer, users: Places) -> None:
        self._scorer, self._users = scorer, users
        self._cache = scorer.at_once(users)

    def __call__(self, items: Places) -> NDArray[np.float32]:
        """Return the scores of items ``[users, n]``, which must be distinct in each row."""
        scores = np.take_along_axis(self._cache, items, axis=1)
        rows, columns = np.nonzero(np.isnan(scores))
        if len(rows):
            missing = items[rows, columns]
            scores[rows, columns] = self._scorer.of_pairs(self._users, rows, missing)
            self._cache[rows, missing] = scores[rows, columns]
        return scores


def _blocks(rows: Tensor, items: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Split pairs into blocks."""
    for first in range(0, len(rows), _PAIRS):
        yield rows[first : first + _PAIRS], items[first : first + _PAIRS]


def _loader(frame: pl.DataFrame, encoder: Encoder, history_length: int) -> RequestLoader:
    encoded = EncodedLog.of_frame(
        frame.with_row_index("request_id"), encoder, history_length=history_length
    )
    return RequestLoader(encoded, np.arange(frame.height), batch_size=1)
