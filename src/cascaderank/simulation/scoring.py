"""Scores of users and items by one stage; what only one side tells is computed once."""

from collections.abc import Iterator
from typing import final

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.data.columns import EncodedLog
from cascaderank.data.encoding import Encoder
from cascaderank.data.loader import RequestLoader
from cascaderank.schema import FittedSchema, Role
from cascaderank.simulation.population import Places, Population
from cascaderank.stages.mlp import MLP
from cascaderank.stages.two_tower import TwoTower

_PAIRS = 8_192  # at a time


@final
class PairScorer:
    """Scores of users and items by a stage.

    A stage of two towers makes the vectors of all items once. An MLP adds up what a user and what
    an item give to its first layer: either half is computed once, the rest for the pairs that are
    asked for. Other stages get the candidates of each user as a batch of requests.

    Args:
        stage: in evaluation mode.
        fitted: the schema it was trained with.
        population: users and items.
        history_length: latest entries of histories that it sees.
        device: where to compute.
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
        there = tuple(f for f in fitted.features if f.name in population.schema.names)
        encoder = Encoder(fitted.model_copy(update={"features": there}))
        names = [f.name for f in there if f.role is Role.ITEM]
        users, items = population.users, population.items.select(names)
        some = items[:1].select(pl.all().implode())  # a request needs a candidate
        self._users = _loader(users.join(some, how="cross"), encoder, history_length)
        every = users[:1].join(items.select(pl.all().implode()), how="cross")
        self._items = _loader(every, encoder, history_length).collate(np.arange(1)).to(self.device)
        with torch.no_grad():
            self._halves = self._of_items()

    def block(self, users: Places) -> "BlockScorer":
        """Return the scorer of some users, by their rows in the population."""
        return BlockScorer(self, users)

    @property
    def items(self) -> int:
        """How many items there are."""
        return self._items.mask.shape[1]

    def _of_items(self) -> Tensor | None:
        """What the items alone give, ``[items, width]``."""
        match self._stage:
            case TwoTower() as stage:
                vectors: Tensor = stage.item_tower(stage.embedder.items(self._items))[0]
                return vectors
            case MLP() as stage:
                nobody = torch.zeros(1, stage.embedder.request_dim, device=self.device)
                items = stage.embedder.items(self._items)
                return stage.network.first.halves(nobody, items)[1][0]
        return None

    @torch.no_grad()
    def at_once(self, users: Places) -> NDArray[np.float32]:
        """Return ``[users, items]`` scores if they are a product of vectors, else NaN."""
        if not isinstance(self._stage, TwoTower):
            return np.full((len(users), self.items), np.nan, dtype=np.float32)
        batch = self._users.collate(users).to(self.device)
        vectors = self._stage.request_tower(self._stage.embedder.request(batch))
        return np.asarray((vectors @ self._known().T).cpu())

    @torch.no_grad()
    def of_pairs(self, users: Places, rows: Places, items: Places) -> NDArray[np.float32]:
        """Return scores of pairs.

        Args:
            users: rows in the population.
            rows: ``[pairs]`` places in ``users``.
            items: ``[pairs]`` places in the catalogue.
        """
        batch = self._users.collate(users).to(self.device)
        row, item = (torch.from_numpy(p).to(self.device) for p in (rows, items))
        chunks = []
        match self._stage:
            case MLP() as stage:
                none = torch.zeros(1, 1, stage.embedder.item_dim, device=self.device)
                halves = stage.network.first.halves(stage.embedder.request(batch), none)[0]
                for r, i in _some(row, item):
                    chunks.append(stage.network.rest(halves[r] + self._known()[i])[:, 0])
            case stage:
                for r, i in _some(row, item):
                    chunks.append(self._as_requests(stage, batch, r, i))
        return np.asarray(torch.cat(chunks).cpu()) if chunks else np.zeros(0, np.float32)

    def _known(self) -> Tensor:
        if self._halves is None:
            raise TypeError("this stage has no part that items alone give")
        return self._halves

    def _as_requests(
        self, stage: nn.Module, batch: RequestBatch, row: Tensor, item: Tensor
    ) -> Tensor:
        """Scores of pairs, in which those of one user follow one another, as requests."""
        who, lengths = torch.unique_consecutive(row, return_counts=True)
        mask = torch.arange(int(lengths.max()), device=self.device) < lengths[:, None]
        places = torch.zeros(mask.shape, dtype=torch.int64, device=self.device)
        places[mask] = item
        requests = RequestBatch(
            mask=mask,
            items={name: values[0, places] for name, values in self._items.items.items()},
            request={name: values[who] for name, values in batch.request.items()},
            history={name: values[who] for name, values in batch.history.items()},
            history_mask={name: values[who] for name, values in batch.history_mask.items()},
        )
        scores: Tensor = stage(requests)
        return scores[mask]


@final
class BlockScorer:
    """Scores of some users; no pair is scored twice.

    Args:
        scorer: of all users.
        users: rows in the population.
    """

    def __init__(self, scorer: PairScorer, users: Places) -> None:
        self._scorer, self._users = scorer, users
        self._known = scorer.at_once(users)

    def __call__(self, items: Places) -> NDArray[np.float32]:
        """Return scores of items, ``[users, n]``; none may be there twice in a row."""
        scores = np.take_along_axis(self._known, items, axis=1)
        rows, columns = np.nonzero(np.isnan(scores))
        if len(rows):
            wanted = items[rows, columns]
            scores[rows, columns] = self._scorer.of_pairs(self._users, rows, wanted)
            self._known[rows, wanted] = scores[rows, columns]
        return scores


def _some(rows: Tensor, items: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs, some at a time."""
    for first in range(0, len(rows), _PAIRS):
        yield rows[first : first + _PAIRS], items[first : first + _PAIRS]


def _loader(frame: pl.DataFrame, encoder: Encoder, history_length: int) -> RequestLoader:
    encoded = EncodedLog.of_frame(
        frame.with_row_index("request_id"), encoder, history_length=history_length
    )
    return RequestLoader(encoded, np.arange(frame.height), batch_size=1)
