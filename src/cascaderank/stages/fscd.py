"""FSCD stage: trainable selection of fields, penalised by the cost of looking them up."""

from collections.abc import Sequence
from typing import Any, Literal, Self, final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.feed_forward import PairMLP
from cascaderank.layers.field_gate import field_of_columns
from cascaderank.schema import Feature, FittedSchema, Role, matching
from cascaderank.stages import STAGES
from cascaderank.stages._fields import top_fields
from cascaderank.stages._output import Score, StageOutput, output_of_logits

_COST = {Role.REQUEST: 0.4, Role.HISTORY: 0.4, Role.ITEM: 1.5}
_COST_OF_CROSS = 3.0


@STAGES.register
@final
class FSCD(nn.Module):
    r"""Score a candidate by a multi-layer perceptron over fields with trainable dropout.

    Field j is kept with the trained probability :math:`\delta_j`: its vector is multiplied by

    .. math:: z_j = \sigma((\operatorname{logit} \delta_j + \log u - \log(1 - u)) / t),
              \qquad u \sim U(0, 1)

    sampled for every batch, and its penalty is :math:`c_j z_j` with
    :math:`c_j = \gamma_1 o_j + \gamma_2 d_j` (o: computation; d: size of its vector), weighted by
    the option ``penalty`` of the objective ``entire_chain``. After training, call
    :meth:`select_fields` for the best fields, and continue training with :meth:`reduced`, which
    always uses only these and is initialised with the trained weights.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use.
        dim: size of the embedding of a category.
        hidden: widths of the hidden layers, at least one.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        gates: whether fields may be dropped.
        temperature: t; the gates approach Bernoulli variables as it decreases.
        cross: names or shell patterns of features that combine request and candidate; o is 3 for
            them, 1.5 for other item features, 0.4 for the rest.
        per_operation: gamma_1, the weight of o.
        per_length: gamma_2, the weight of d.
        domains: 1 for one score, or the number of classes as in ``ecm``: 3, or 4 to distinguish
            candidates dropped by pre-ranking from those that passed it.
        score: event that several domains are ranked by; see ``ecm``.

    Raises:
        ConfigError: if a number is out of range.
        SchemaError: if a pattern of ``cross`` matches nothing.

    Source: FSCD (arXiv 2105.07706), with the costs used in the comparison of ECM
    (arXiv 2310.08039).
    """

    _costs: Tensor
    _field: Tensor

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int = 8,
        hidden: tuple[int, ...] = (128, 64, 32),
        dropout: float = 0.0,
        gates: bool = True,
        temperature: float = 0.1,
        cross: tuple[str, ...] = (),
        per_operation: float = 1.0,
        per_length: float = 0.01,
        domains: Literal[1, 3, 4] = 1,
        score: Score = "click",
    ) -> None:
        super().__init__()
        if not 0 < temperature < float("inf"):
            raise ConfigError(f"temperature must be a positive number; got {temperature}")
        if not (0 <= per_operation < float("inf") and 0 <= per_length < float("inf")):
            raise ConfigError(
                "per_operation and per_length must be numbers of at least 0; "
                f"got {per_operation} and {per_length}"
            )
        self.embedder = Embedder(schema, features, dim=dim)
        self.network = PairMLP(
            self.embedder.request_dim,
            self.embedder.item_dim,
            hidden,
            outputs=domains,
            dropout=dropout,
        )
        lengths = {**self.embedder.request_fields, **self.embedder.item_fields}
        crossing = matching(list(lengths), cross) if cross else ()
        operations = [
            _COST_OF_CROSS if name in crossing else _COST[schema[name].role] for name in lengths
        ]
        costs = [
            per_operation * o + per_length * d
            for o, d in zip(operations, lengths.values(), strict=True)
        ]
        self.register_buffer("_costs", torch.tensor(costs), persistent=False)
        # Of each column. Not `repeat_interleave` of the gates, which ONNX has no operator for.
        self.register_buffer("_field", field_of_columns(lengths.values()), persistent=False)
        self._most = float(sum(costs))
        self.log_odds = nn.Parameter(torch.zeros(len(lengths))) if gates else None
        self._temperature = temperature
        self._built_from = schema, tuple(features)
        self.domains: int = domains
        self.splits = True
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
        """Return scores, log-probabilities for several domains, and the penalty of the fields."""
        request, items = self.embedder.request(batch), self.embedder.items(batch)
        if self.log_odds is None:
            return output_of_logits(self.network.outputs(request, items), self._score)
        z = self._gates(self.log_odds)
        split = request.shape[-1]
        factors = self._factors(z)
        logits = self.network.outputs(request * factors[:split], items * factors[split:])
        return output_of_logits(logits, self._score, penalty=self._costs @ z, most=self._most)

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        """Return the request's half of the first layer."""
        request = self.embedder.request(batch)
        if self.log_odds is not None:
            request = request * self._factors(self._gates(self.log_odds))[: request.shape[-1]]
        return (self.network.first.request_half(request),)

    def item_part(self, batch: RequestBatch) -> Tensor:
        """Return the candidates' half of the first layer."""
        items = self.embedder.items(batch)
        if self.log_odds is not None:
            items = items * self._factors(self._gates(self.log_odds))[self.embedder.request_dim :]
        return self.network.first.item_half(items)

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        """Return scores ``[batch, list]``."""
        return output_of_logits(self.network.of_halves(request[0], items), self._score).scores

    def importance(self) -> dict[str, float]:
        """Return the probability that each field is kept, by name.

        Raises:
            ConfigError: if the stage has no gates.
        """
        if self.log_odds is None:
            raise ConfigError(
                "importance needs a stage with gates; this one was built with gates=False"
            )
        names = [*self.embedder.request_fields, *self.embedder.item_fields]
        return dict(zip(names, self.log_odds.detach().sigmoid().tolist(), strict=True))

    def select_fields(self, *, keep: float = 0.5) -> tuple[str, ...]:
        """Return the names of the fields that are most likely to be kept.

        Args:
            keep: fraction of the fields, in (0, 1), or their number, an integer.

        Raises:
            ConfigError: if ``keep`` is out of range, or the stage has no gates.
        """
        return top_fields(self.importance(), keep=keep, of_items=self.embedder.item_fields)

    @torch.no_grad()
    def reduced(self, names: Sequence[str]) -> Self:
        """Return a stage without gates on these fields, with the weights of this one.

        Raises:
            SchemaError: if a name is not a feature of the stage.
        """
        schema, features = self._built_from
        selected = set(matching([f.name for f in features], names))
        chosen = [f for f in features if f.name in selected]
        smaller = type(self)(schema, chosen, **self._options, gates=False)
        for name, table in smaller.embedder.tables.items():
            table.load_state_dict(self.embedder.tables[name].state_dict())
        lengths = {**self.embedder.request_fields, **self.embedder.item_fields}
        kept = torch.tensor([n in selected for n in lengths])
        columns = kept[self._field.cpu()]
        state = self.network.state_dict()
        state["first.both.weight"] = state["first.both.weight"][:, columns]
        smaller.network.load_state_dict(state)
        return smaller.train(self.training)

    def _factors(self, gates: Tensor) -> Tensor:
        """Return the gate of each column of a request's vector and a candidate's."""
        return gates.index_select(0, self._field)

    def _gates(self, log_odds: Tensor) -> Tensor:
        if self.training:
            log_odds = log_odds + torch.rand_like(log_odds).logit(eps=1e-6)
        return torch.sigmoid(log_odds / self._temperature)
