"""Two-tower stage: a dot product of two vectors, cheap enough to score every candidate."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.layers.embedder import INITIAL_DEVIATION, Embedder
from cascaderank.layers.feed_forward import check_hidden, mlp
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.tensors import full_precision


@STAGES.register
@final
class TwoTower(nn.Module):
    """Score a candidate by the dot product of a request vector and a candidate vector.

    The towers share no input, so candidate vectors can be computed once and indexed. Histories are
    averaged and are inputs of the request's tower.

    Weights of the towers are initialised by Glorot and Bengio's uniform distribution, biases to
    zero. Biases of the default initialisation are larger than what a tower computes from its
    initial embeddings: all its vectors start nearly equal, and may stay so at the default learning
    rate.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use; at least one of the request or its history, and
            one of the candidates.
        dim: size of the embedding of a category.
        hidden: widths of the layers of each tower; the last is the size of the two vectors.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        embedding_deviation: standard deviation of the initial embeddings, positive.

    Raises:
        ConfigError: if one of the towers has no feature, or an option is out of range.

    Source: DSSM as in the LCRON experiments (arXiv 2503.09492), layer widths included.
    """

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int = 8,
        hidden: tuple[int, ...] = (128, 64, 32),
        dropout: float = 0.0,
        embedding_deviation: float = INITIAL_DEVIATION,
    ) -> None:
        super().__init__()
        check_hidden(hidden, dropout)
        self.embedder = Embedder(schema, features, dim=dim, deviation=embedding_deviation)
        if not self.embedder.request_dim or not self.embedder.item_dim or not hidden:
            raise ConfigError(
                "two_tower needs a feature of the request or its history, a feature of the "
                f"candidates, and a layer; got {[f.name for f in features]}, hidden={list(hidden)}"
            )
        *inner, vector = hidden
        self.request_tower = mlp(self.embedder.request_dim, inner, vector, dropout=dropout)
        self.item_tower = mlp(self.embedder.item_dim, inner, vector, dropout=dropout)
        for layer in (*self.request_tower, *self.item_tower):
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def request_vectors(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, dim]``."""
        vectors: Tensor = self.request_tower(self.embedder.request(batch))
        return vectors

    def item_vectors(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, list, dim]``; vectors of padding are undefined."""
        vectors: Tensor = self.item_tower(self.embedder.items(batch))
        return vectors

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        request, items = self.request_vectors(batch), self.item_vectors(batch)
        with full_precision(items):
            return torch.einsum("bd,bld->bl", request, items)
