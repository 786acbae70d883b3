"""DIN stage: attention over the history with the candidate as the query."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.layers.embedder import INITIAL_DEVIATION, Embedder
from cascaderank.layers.feed_forward import PairMLP
from cascaderank.layers.target_attention import TargetAttention
from cascaderank.schema import Feature, FittedSchema, matching
from cascaderank.stages import STAGES


@STAGES.register
@final
class DIN(nn.Module):
    """Score a candidate by a multi-layer perceptron over request, attended histories and candidate.

    Each sequence is attended separately, with the item features of the stage as the query; an
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
        embedding_deviation: standard deviation of the initial embeddings, positive.
        attention_features: item features that are the query of the attention: shell patterns; "!"
            excludes a pattern.

    Raises:
        ConfigError: if no feature is of a history, or an option is out of range.
        SchemaError: if a pattern of ``attention_features`` matches no item feature of the stage.

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
        embedding_deviation: float = INITIAL_DEVIATION,
        attention_features: tuple[str, ...] = ("*",),
    ) -> None:
        super().__init__()
        self.splits = True
        self.embedder = Embedder(schema, features, dim=dim, deviation=embedding_deviation)
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
        fields = self.embedder.item_fields
        self._query = _places(fields, attention_features) if fields else [(0, 0)]
        if not self._query:
            raise ConfigError(
                "attention_features must leave at least one item feature; got "
                f"{list(attention_features)} for {list(fields)}"
            )
        query_dim = sum(end - start for start, end in self._query)
        # A ModuleList, not a ModuleDict: names of sequences may be invalid as names of modules.
        self.attentions = nn.ModuleList(
            TargetAttention(width, query_dim, hidden=attention, softmax=softmax)
            for width in widths.values()
        )
        self._attended_dim = sum(widths.values())
        self.head = PairMLP(
            self.embedder.context_dim, self._attended_dim + item_dim, hidden, dropout=dropout
        )

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        items = self.embedder.items(batch)
        query = self._query_of(items)
        histories = self.embedder.history(batch).values()
        attended = [
            attend(history, query, mask)
            for attend, (history, mask) in zip(self.attentions, histories, strict=True)
        ]
        scores: Tensor = self.head(
            self.embedder.context(batch), torch.cat([*attended, items], dim=-1)
        )
        return scores

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        """Return the context's part of the first layer, and entries and mask of each history."""
        context = self.head.first.request_half(self.embedder.context(batch))
        return (context, *(part for pair in self.embedder.history(batch).values() for part in pair))

    def item_part(self, batch: RequestBatch) -> Tensor:
        """Return the candidates' part of the first layer of each attention and of the head."""
        items = self.embedder.items(batch)
        query = self._query_of(items)
        of_head = self.head.first.item_half(items, start=self._attended_dim)
        return torch.cat([*(a.item_part(query) for a in self._attends), of_head], dim=-1)

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        """Return scores ``[batch, list]``."""
        context, *histories = request
        widths = [a.weigh.first.both.out_features for a in self._attends]
        *queries, of_head = torch.split(items, [*widths, items.shape[-1] - sum(widths)], dim=-1)
        attended = [
            attend.of_part(history, query, mask)
            for attend, query, history, mask in zip(
                self._attends, queries, histories[::2], histories[1::2], strict=True
            )
        ]
        of_items = self.head.first.item_half(torch.cat(attended, dim=-1)) + of_head
        return self.head.of_halves(context, of_items).squeeze(-1)

    @property
    def _attends(self) -> list[TargetAttention]:
        return [a for a in self.attentions if isinstance(a, TargetAttention)]

    def _query_of(self, items: Tensor) -> Tensor:
        if self._query == [(0, items.shape[-1])]:
            return items
        return torch.cat([items[..., start:end] for start, end in self._query], dim=-1)


def _places(fields: Mapping[str, int], patterns: Sequence[str]) -> list[tuple[int, int]]:
    """Return the first column and the end of each run of chosen fields in a candidate's vector."""
    chosen, runs, end = matching(list(fields), patterns), list[tuple[int, int]](), 0
    for name, width in fields.items():
        if name in chosen:
            start = runs.pop()[0] if runs and runs[-1][1] == end else end
            runs.append((start, end + width))
        end += width
    return runs
