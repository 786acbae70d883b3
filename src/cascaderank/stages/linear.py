"""Linear stage: a weighted sum, the cheapest ranker there is."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.mlp import PairLinear
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.tensors import full_precision


@STAGES.register
@final
class Linear(nn.Module):
    """Score a candidate by a weighted sum of its numbers and one weight per category.

    Features of the request and of its history shift all candidates of a request alike; they
    calibrate, and cannot change an order.

    Args:
        schema: fitted to the training requests.
        features: those the stage may use.

    Source: this project.
    """

    def __init__(self, schema: FittedSchema, features: Sequence[Feature]) -> None:
        super().__init__()
        # A vector of length one per category is that category's weight.
        self.embedder = Embedder(schema, features, dim=1)
        self.weights = PairLinear(self.embedder.request_dim, self.embedder.item_dim, 1)

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding mean nothing."""
        request, items = self.embedder.request(batch), self.embedder.items(batch)
        with full_precision(items):
            scores: Tensor = self.weights(request, items)
        return scores.squeeze(-1)
