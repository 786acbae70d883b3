"""DIN stage: reads a history anew for each candidate."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.mlp import PairMLP
from cascaderank.layers.target_attention import TargetAttention
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES


@STAGES.register
@final
class DIN(nn.Module):
    """Score a candidate by a multi-layer perceptron over request, attended histories and candidate.

    Each sequence is attended on its own, by all features of the candidate that the stage may use;
    a request without history has zeros in its place. Costs memory in proportion to candidates
    times entries, so it belongs late in a cascade.

    Args:
        schema: fitted to the training requests.
        features: those the stage may use; at least one of a history.
        dim: length of the vector of a category.
        hidden: widths of the hidden layers of the head.
        attention: widths of the hidden layers of the perceptron that weighs a history.
        softmax: whether the weights of a history sum to 1.
        dropout: share of hidden units of the head that training leaves out, in [0, 1).

    Raises:
        ConfigError: if there is no history to attend, a width is not positive, or dropout is out
            of range.

    Source: DIN (arXiv 1706.06978), with the layer widths of the LCRON experiments
    (arXiv 2503.09492), ReLU for its adaptive activation, and without its regulariser.
    """

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int = 8,
        hidden: tuple[int, ...] = (128, 128, 32),
        attention: tuple[int, ...] = (80,),
        softmax: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedder = Embedder(schema, features, dim=dim)
        widths, item_dim = self.embedder.history_dims, self.embedder.item_dim
        if not widths:
            raise ConfigError(
                f"din needs a feature of a history; got {[f.name for f in features]}. "
                "Without one, use 'mlp'"
            )
        if not attention or min(attention) < 1:
            raise ConfigError(
                f"attention must hold positive widths, at least one; got {list(attention)}"
            )
        # A list beside its names: a sequence may be called what a module may not.
        self.attentions = nn.ModuleList(
            TargetAttention(width, item_dim, hidden=attention, softmax=softmax)
            for width in widths.values()
        )
        self.head = PairMLP(
            self.embedder.context_dim, sum(widths.values()) + item_dim, hidden, dropout=dropout
        )

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding mean nothing."""
        items = self.embedder.items(batch)
        histories = self.embedder.history(batch).values()
        attended = [
            attend(history, items, mask)
            for attend, (history, mask) in zip(self.attentions, histories, strict=True)
        ]
        scores: Tensor = self.head(
            self.embedder.context(batch), torch.cat([*attended, items], dim=-1)
        )
        return scores
