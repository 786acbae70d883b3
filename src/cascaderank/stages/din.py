"""DIN stage: attention over the history with the candidate as the query."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.feed_forward import PairMLP
from cascaderank.layers.target_attention import TargetAttention
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES


@STAGES.register
@final
class DIN(nn.Module):
    """Score a candidate by a multi-layer perceptron over request, attended histories and candidate.

    Each sequence is attended separately, with all item features of the stage as the query; an
    empty history contributes zeros. Memory is proportional to the number of candidates times the
    number of entries, so this stage is for the end of a cascade.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use; at least one of a history.
        dim: size of the embedding of a category.
        hidden: widths of the hidden layers of the head.
        attention: widths of the hidden layers of the perceptron that computes attention weights.
        softmax: whether the attention weights of a history sum to 1.
        dropout: probability of dropping a hidden unit of the head in training, in [0, 1).

    Raises:
        ConfigError: if no feature is of a history, a width is not positive, or dropout is out of
            range.

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
                "Use 'mlp' for features without a history"
            )
        if not attention or min(attention) < 1:
            raise ConfigError(
                f"attention must hold positive widths, at least one; got {list(attention)}"
            )
        # A ModuleList, not a ModuleDict: names of sequences may be invalid as names of modules.
        self.attentions = nn.ModuleList(
            TargetAttention(width, item_dim, hidden=attention, softmax=softmax)
            for width in widths.values()
        )
        self.head = PairMLP(
            self.embedder.context_dim, sum(widths.values()) + item_dim, hidden, dropout=dropout
        )

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
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
