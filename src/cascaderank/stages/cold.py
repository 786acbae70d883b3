"""COLD stage: a multi-layer perceptron that tells which of its fields are worth their cost."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import DataError
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.field_gate import FieldGate
from cascaderank.layers.mlp import PairMLP
from cascaderank.schema import Feature, FittedSchema, matching
from cascaderank.stages import STAGES
from cascaderank.stages._fields import top_fields
from cascaderank.stages._output import Score, StageOutput, output_of_logits


@STAGES.register
@final
class COLD(nn.Module):
    """Score a candidate by a multi-layer perceptron over weighted fields; then keep the best ones.

    A field is a feature. Train it, ask :meth:`select_fields` which fields weigh most, and train
    :meth:`reduced`, which has those alone and no weights. In a config, say the names as
    ``features`` and ``gates = false``.

    Args:
        schema: fitted to the training requests.
        features: those the stage may use.
        dim: length of the vector of a category.
        hidden: widths of the hidden layers, at least one.
        dropout: share of hidden units that training leaves out, in [0, 1).
        gates: whether fields are weighed; without, this is an MLP of any number of domains.
        domains: 1 for one score, or classes as of ``ecm``: 3, or 4 to tell what pre-ranking
            dropped from what it passed.
        score: what it ranks by, of several domains; see ``ecm``.

    Raises:
        ConfigError: if a width is not positive, none is given, or dropout is out of range.

    Source: COLD (arXiv 2007.16122); classes, ECM (arXiv 2310.08039).
    """

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int = 8,
        hidden: tuple[int, ...] = (128, 64, 32),
        dropout: float = 0.0,
        gates: bool = True,
        domains: Literal[1, 3, 4] = 1,
        score: Score = "click",
    ) -> None:
        super().__init__()
        self.embedder = Embedder(schema, features, dim=dim)
        request_dim, item_dim = self.embedder.request_dim, self.embedder.item_dim
        self.gate: FieldGate | None = None
        if gates:
            fields = self.embedder.request_fields, self.embedder.item_fields
            self.gate = FieldGate(*(list(of.values()) for of in fields))
            # Weighed by the candidate, even the request's fields are the candidate's own.
            request_dim, item_dim = 0, request_dim + item_dim
        self.network = PairMLP(request_dim, item_dim, hidden, outputs=domains, dropout=dropout)
        self._made_of = schema, tuple(features)
        self.domains: int = domains
        self._score = score
        self._options: dict[str, Any] = {
            "dim": dim,
            "hidden": hidden,
            "dropout": dropout,
            "domains": domains,
            "score": score,
        }

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding mean nothing."""
        return self.domain_output(batch).scores

    def domain_output(self, batch: RequestBatch) -> StageOutput:
        """Return scores and, of several domains, their log-probabilities."""
        request, items = self.embedder.request(batch), self.embedder.items(batch)
        if self.gate is not None:
            items = self.gate.gated(request, items, self.gate(request, items))
            request = request[..., :0]
        return output_of_logits(self.network.outputs(request, items), self._score)

    @torch.no_grad()
    def importance(self, batches: Iterable[RequestBatch]) -> dict[str, float]:
        """Return the mean weight of each field over all candidates, by name.

        Args:
            batches: some requests, such as ``loader.epoch(0)``.

        Raises:
            DataError: if there is no candidate, or the stage has no gates.
        """
        if self.gate is None:
            raise DataError("this stage weighs no fields: it was built with gates=False")
        names = [*self.embedder.request_fields, *self.embedder.item_fields]
        total, seen = torch.zeros(len(names), dtype=torch.float64), 0
        for batch in batches:
            weights = self.gate(self.embedder.request(batch), self.embedder.items(batch))
            total += weights[batch.mask].sum(0, dtype=torch.float64).cpu()
            seen += int(batch.mask.sum())
        if not seen:
            raise DataError("fields are weighed over candidates, and there are none")
        return dict(zip(names, (total / seen).tolist(), strict=True))

    def select_fields(
        self, batches: Iterable[RequestBatch], *, keep: float = 0.5
    ) -> tuple[str, ...]:
        """Return the names of the fields that weigh most.

        Args:
            batches: what to weigh them over, such as ``loader.epoch(0)``.
            keep: a share of the fields, in (0, 1), or how many, a whole number.

        Raises:
            DataError: if there is no candidate, or the stage has no gates.
            ConfigError: if ``keep`` is out of range.
        """
        weights = self.importance(batches)
        return top_fields(weights, keep=keep, of_items=self.embedder.item_fields)

    def reduced(self, names: Sequence[str]) -> Self:
        """Return a fresh stage on these fields, without weights, to be trained anew.

        Raises:
            SchemaError: if a name is not one of the stage's.
        """
        schema, features = self._made_of
        wanted = set(matching([f.name for f in features], names))
        chosen = [f for f in features if f.name in wanted]
        return type(self)(schema, chosen, **self._options, gates=False)
