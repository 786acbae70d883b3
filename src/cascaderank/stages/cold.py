"""COLD stage: a multi-layer perceptron over gated fields, for selecting fields by importance."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import DataError
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.feed_forward import PairMLP
from cascaderank.layers.field_gate import FieldGate
from cascaderank.schema import Feature, FittedSchema, matching
from cascaderank.stages import STAGES
from cascaderank.stages._fields import top_fields
from cascaderank.stages._output import Score, StageOutput, output_of_logits


@STAGES.register
@final
class COLD(nn.Module):
    """Score a candidate by a multi-layer perceptron over weighted fields, to select fields.

    A field is a feature. Train the stage, call :meth:`select_fields` for the fields with the
    largest weights, and train :meth:`reduced`, which has only these and no weights. In a config,
    list the names as ``features`` and set ``gates = false``.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use.
        dim: size of the embedding of a category.
        hidden: widths of the hidden layers, at least one.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        gates: whether fields are weighted; without gates this is an MLP with any number of
            domains.
        domains: 1 for one score, or the number of classes as in ``ecm``: 3, or 4 to distinguish
            candidates dropped by pre-ranking from those that passed it.
        score: event that several domains are ranked by; see ``ecm``.

    Raises:
        ConfigError: if a width is not positive, ``hidden`` is empty, or dropout is out of range.

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
            # The weights depend on the candidate, so the request's fields differ by candidate, too.
            request_dim, item_dim = 0, request_dim + item_dim
        self.network = PairMLP(request_dim, item_dim, hidden, outputs=domains, dropout=dropout)
        self._built_from = schema, tuple(features)
        self.domains: int = domains
        self.splits = not gates  # gates depend on the request and the candidate
        self._score = score
        self._options: dict[str, Any] = {
            "dim": dim,
            "hidden": hidden,
            "dropout": dropout,
            "domains": domains,
            "score": score,
        }

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        return self.domain_output(batch).scores

    def domain_output(self, batch: RequestBatch) -> StageOutput:
        """Return scores and, for several domains, their log-probabilities."""
        request, items = self.embedder.request(batch), self.embedder.items(batch)
        if self.gate is not None:
            items = self.gate.gated(request, items, self.gate(request, items))
            request = request[..., :0]
        return output_of_logits(self.network.outputs(request, items), self._score)

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        """Return the request's half of the first layer."""
        return (self.network.first.request_half(self.embedder.request(batch)),)

    def item_part(self, batch: RequestBatch) -> Tensor:
        """Return the candidates' half of the first layer."""
        return self.network.first.item_half(self.embedder.items(batch))

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        """Return scores ``[batch, list]``."""
        return output_of_logits(self.network.of_halves(request[0], items), self._score).scores

    @torch.no_grad()
    def importance(self, batches: Iterable[RequestBatch]) -> dict[str, float]:
        """Return the mean weight of each field over all candidates, by name.

        Args:
            batches: batches of requests, such as ``loader.epoch(0)``.

        Raises:
            DataError: if the batches have no candidates, or the stage has no gates.
        """
        if self.gate is None:
            raise DataError(
                "importance needs a stage with gates; this one was built with gates=False"
            )
        names = [*self.embedder.request_fields, *self.embedder.item_fields]
        total, count = torch.zeros(len(names), dtype=torch.float64), 0
        for batch in batches:
            weights = self.gate(self.embedder.request(batch), self.embedder.items(batch))
            total += weights[batch.mask].sum(0, dtype=torch.float64).cpu()
            count += int(batch.mask.sum())
        if not count:
            raise DataError("importance is a mean over candidates; the batches have none")
        return dict(zip(names, (total / count).tolist(), strict=True))

    def select_fields(
        self, batches: Iterable[RequestBatch], *, keep: float = 0.5
    ) -> tuple[str, ...]:
        """Return the names of the fields with the largest mean weights.

        Args:
            batches: batches of requests to average over, such as ``loader.epoch(0)``.
            keep: fraction of the fields, in (0, 1), or their number, an integer.

        Raises:
            DataError: if the batches have no candidates, or the stage has no gates.
            ConfigError: if ``keep`` is out of range.
        """
        weights = self.importance(batches)
        return top_fields(weights, keep=keep, of_items=self.embedder.item_fields)

    def reduced(self, names: Sequence[str]) -> Self:
        """Return a newly initialised stage on these fields, without gates.

        Raises:
            SchemaError: if a name is not a feature of the stage.
        """
        schema, features = self._built_from
        selected = set(matching([f.name for f in features], names))
        chosen = [f for f in features if f.name in selected]
        return type(self)(schema, chosen, **self._options, gates=False)
