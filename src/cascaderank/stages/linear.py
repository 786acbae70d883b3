"""Linear stage: a weighted sum of features, the cheapest ranker."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.feed_forward import PairLinear
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.tensors import full_precision


@STAGES.register
@final
class Linear(nn.Module):
    """Score a candidate by a weighted sum of its numeric features plus one weight per category.

    Features of the request and of its history add the same constant to all candidates of a
    request: they affect calibration, not the order.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use.

    Source: this project.
    """

    def __init__(self, schema: FittedSchema, features: Sequence[Feature]) -> None:
        super().__init__()
        # An embedding of size 1 is the weight of the category.
        self.embedder = Embedder(schema, features, dim=1)
        self.weights = PairLinear(self.embedder.request_dim, self.embedder.item_dim, 1)

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        request, items = self.embedder.request(batch), self.embedder.items(batch)
        with full_precision(items):
            scores: Tensor = self.weights(request, items)
        return scores.squeeze(-1)
