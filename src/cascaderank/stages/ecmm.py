"""ECMM stage: one tower per domain over sub-networks with gated connections."""

import copy
from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.feed_forward import PairLinear, mlp
from cascaderank.layers.field_gate import joined
from cascaderank.layers.routing import Routing
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.stages._output import Score, StageOutput, chance

_TOWERS = ("click", "exposure", "unexposed", "dropped")
_OF_SCORE = {"click": (0,), "exposure": (1,), "unclicked": (0, 1)}


@STAGES.register
@final
class ECMM(nn.Module):
    r"""Score a candidate by separate towers for click, exposure and non-exposure.

    The embeddings pass through a gate, :math:`E' = E \odot \sigma(W_g^\top E)`, and two layers of
    sub-networks connected by gates in [0, 1] (:class:`~cascaderank.layers.routing.Routing`). Train
    it with the objective ``entire_chain`` and a ``penalty``; :func:`cascaderank.stages.prune` then
    removes the parts behind closed gates. In training, gates are sampled for every batch. A call
    for scores only computes the towers that the score needs.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use.
        dim: size of the embedding of a category.
        blocks: number of sub-networks in the first and in the second layer.
        width: width of each sub-network.
        tower: widths of the hidden layers of each tower.
        domains: 3 towers, or 4 to distinguish candidates dropped by pre-ranking from those that
            passed it.
        beta: temperature of the gates; see
            :class:`~cascaderank.layers.hard_concrete.HardConcrete`.
        gamma: lower end of the stretched gates.
        zeta: upper end of the stretched gates.
        gates: whether connections are trained. If not, they are fixed, and only the towers that
            the score needs exist: the form of a pruned stage.
        score: score to rank by: the log-odds of ``"click"`` or of ``"exposure"``; or
            ``"unclicked"``, with d the probability of exposure minus that of a click, as
            ``log((1 + d) / (1 - d))``, since towers may be inconsistent and d negative.

    Raises:
        ConfigError: if a size is not positive or a parameter of the gates is out of range.

    Source: ECMM (arXiv 2310.08039), with SNR-Aver (Ma et al., AAAI 2019).
    """

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int = 8,
        blocks: tuple[int, int] = (8, 4),
        width: int = 128,
        tower: tuple[int, ...] = (32,),
        domains: Literal[3, 4] = 3,
        beta: float = 2 / 3,
        gamma: float = -0.1,
        zeta: float = 1.1,
        gates: bool = True,
        score: Score = "click",
    ) -> None:
        super().__init__()
        self.embedder = Embedder(schema, features, dim=dim)
        request_dim, item_dim = self.embedder.request_dim, self.embedder.item_dim
        length = request_dim + item_dim
        self.gate = PairLinear(request_dim, item_dim, length, bias=False)
        self._score = score
        self._needed: tuple[int, ...] = _OF_SCORE[score]
        towers: int = domains
        if not gates:
            towers, self._needed = len(self._needed), tuple(range(len(self._needed)))
        self.domains: int = domains if gates else 1
        self.routing = Routing(
            length,
            towers=towers,
            blocks=blocks,
            width=width,
            beta=beta,
            gamma=gamma,
            zeta=zeta,
            trainable=gates,
        )
        self.towers = nn.ModuleList(mlp(width, tower, 1) for _ in range(towers))

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        return self._scores(self._logits(batch, self._needed))

    def domain_output(self, batch: RequestBatch) -> StageOutput:
        """Return scores, the probability of the event of each tower, and the penalty of the gates.

        A pruned stage returns its scores only.
        """
        if self.domains == 1:
            return StageOutput(scores=self(batch))
        logits = self._logits(batch, range(len(self.towers)))
        named = zip(_TOWERS, logits, strict=False)
        return StageOutput(
            scores=self._scores([logits[t] for t in self._needed]),
            events={name: chance(logit) for name, logit in named},
            penalty=self.routing.expected_open(),
            most=self.routing.gates,
        )

    def pruned(self) -> tuple["ECMM", dict[str, Any]]:
        """Return a copy with fixed gates, and the options that differ from those of this stage.

        The gates have their values of evaluation mode. Parts that these disconnect, or that no
        score needs, are removed.

        Raises:
            ConfigError: if this stage is already pruned.
        """
        if self.domains == 1:
            raise ConfigError("this stage is already pruned")
        smaller = copy.deepcopy(self)
        smaller._keep_needed()  # noqa: SLF001 - same class
        return smaller.eval(), {"gates": False, "blocks": smaller.routing.blocks}

    def _keep_needed(self) -> None:
        self.towers = nn.ModuleList(self.towers[t] for t in self._needed)
        self.routing = self.routing.pruned(self._needed)
        self._needed = tuple(range(len(self._needed)))
        self.domains = 1

    def _logits(self, batch: RequestBatch, towers: Sequence[int]) -> list[Tensor]:
        request, items = self.embedder.request(batch), self.embedder.items(batch)
        gated = joined(request, items) * torch.sigmoid(self.gate(request, items))
        inputs = self.routing(gated, towers).unbind(-2)
        return [self.towers[t](x).squeeze(-1) for t, x in zip(towers, inputs, strict=True)]

    def _scores(self, logits: Sequence[Tensor]) -> Tensor:
        if self._score != "unclicked":
            return logits[0]
        # With d the difference: 1 + d = p(exposure) + 1 - p(click), and likewise 1 - d.
        click, exposure = logits
        more = torch.logaddexp(logsigmoid(exposure), logsigmoid(-click))
        return more - torch.logaddexp(logsigmoid(-exposure), logsigmoid(click))
