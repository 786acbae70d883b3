"""MLP stage: a multi-layer perceptron over request, pooled history and candidate."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.layers.embedder import INITIAL_DEVIATION, Embedder
from cascaderank.layers.feed_forward import Norm, PairMLP
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES


@STAGES.register
@final
class MLP(nn.Module):
    """Score a candidate by a multi-layer perceptron over all features the stage may use.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use.
        dim: size of the embedding of a category.
        hidden: widths of the hidden layers.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        norm: ``"layer"`` for layer normalisation of the hidden units, which helps on small data
            sets; ``"none"`` by default.
        embedding_deviation: standard deviation of the initial embeddings, positive.

    Source: the MLP of the LCRON experiments (arXiv 2503.09492), layer widths included.
    """

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int = 8,
        hidden: tuple[int, ...] = (128, 64, 32),
        dropout: float = 0.0,
        norm: Norm = "none",
        embedding_deviation: float = INITIAL_DEVIATION,
    ) -> None:
        super().__init__()
        self.embedder = Embedder(schema, features, dim=dim, deviation=embedding_deviation)
        self.network = PairMLP(
            self.embedder.request_dim, self.embedder.item_dim, hidden, dropout=dropout, norm=norm
        )

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        scores: Tensor = self.network(self.embedder.request(batch), self.embedder.items(batch))
        return scores
