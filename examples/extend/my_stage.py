"""A stage: a bilinear form of the features of the request and of the candidate."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.layers.embedder import Embedder
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.tensors import full_precision


@STAGES.register("bilinear")
@final
class Bilinear(nn.Module):
    """Score a candidate by a weighted sum of its features, with weights linear in the request.

    ``score = (W r + b) . x`` with the vector ``r`` of the request and ``x`` of the candidate.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use; at least one of the request or its history.
        dim: length of the embedding of a category, at least 1.

    Raises:
        ConfigError: if no feature describes the request or its history, or ``dim`` is less than 1.

    Source: this project.
    """

    def __init__(self, schema: FittedSchema, features: Sequence[Feature], *, dim: int = 8) -> None:
        super().__init__()
        self.embedder = Embedder(schema, features, dim=dim)
        if not self.embedder.request_dim:
            raise ConfigError(
                "bilinear requires a feature of the request or its history; "
                f"got {[f.name for f in features]}"
            )
        self.weights = nn.Linear(self.embedder.request_dim, self.embedder.item_dim)

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        weights, items = self.weights(self.embedder.request(batch)), self.embedder.items(batch)
        with full_precision(items):  # scores keep their resolution in mixed precision
            return torch.einsum("bd,bld->bl", weights.to(items.dtype), items)
