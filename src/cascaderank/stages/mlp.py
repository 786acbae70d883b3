"""MLP stage: a multi-layer perceptron over request, pooled history and candidate."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.layers.embedder import INITIAL_DEVIATION, Embedder
from cascaderank.layers.feed_forward import Norm, PairLinear, PairMLP, set_to_zero
from cascaderank.layers.prior import Prior
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
        linear_skip: whether a linear layer over the same inputs is added to the perceptron, whose
            outputs then start at 0: a linear model that the perceptron corrects.
        prior: name of a numeric feature of the candidates, among the features of the stage, whose
            value is added to the score, see :class:`~cascaderank.layers.prior.Prior`. The outputs
            of the perceptron and of the linear layer then start at 0, so that the stage ranks as
            this feature does until it is trained.

    Raises:
        ConfigError: if an option is out of range, or ``prior`` is no such feature.

    Source: the MLP of the LCRON experiments (arXiv 2503.09492), layer widths included; the linear
    layer: Wide & Deep (arXiv 1606.07792), whose linear part reads crossed features; the prior: this
    project.
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
        linear_skip: bool = False,
        prior: str | None = None,
    ) -> None:
        super().__init__()
        self.splits = True
        self.embedder = Embedder(schema, features, dim=dim, deviation=embedding_deviation)
        inputs = self.embedder.request_dim, self.embedder.item_dim
        from_zero = linear_skip or prior is not None
        self.network = PairMLP(*inputs, hidden, dropout=dropout, norm=norm, from_zero=from_zero)
        self.linear = PairLinear(*inputs, 1) if linear_skip else None
        self.prior = None if prior is None else Prior(features, prior)
        if self.linear is not None and self.prior is not None:
            set_to_zero(self.linear)

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        request, items = self.embedder.request(batch), self.embedder.items(batch)
        scores: Tensor = self.network(request, items)
        if self.linear is not None:
            scores = scores + self.linear.scores(request, items)
        return scores if self.prior is None else scores + self.prior(batch)

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        """Return the request's half of the first layer, and of the linear layer."""
        request = self.embedder.request(batch)
        half = self.network.first.request_half(request)
        return (half,) if self.linear is None else (half, self.linear.request_half(request))

    def item_part(self, batch: RequestBatch) -> Tensor:
        """Return the candidates' half of the first layer, and what is added to the output."""
        items = self.embedder.items(batch)
        parts = [self.network.first.item_half(items)]
        if self.linear is not None:
            parts.append(self.linear.item_half(items))
        if self.prior is not None:
            parts.append(self.prior(batch).unsqueeze(-1))
        return torch.cat(parts, -1)

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        """Return scores ``[batch, list]``."""
        width = request[0].shape[-1]
        scores = self.network.of_halves(request[0], items[..., :width]).squeeze(-1)
        if self.linear is not None:
            scores = scores + request[1]
        return scores + items[..., width:].sum(-1)
