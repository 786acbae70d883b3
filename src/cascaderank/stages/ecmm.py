"""ECMM stage: a tower for each domain, over sub-networks that gates connect."""

import copy
from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.field_gate import joined
from cascaderank.layers.mlp import PairLinear, mlp
from cascaderank.layers.routing import Routing
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.stages._output import Score, StageOutput, chance

_TOWERS = ("click", "exposure", "unexposed", "dropped")
_OF_SCORE = {"click": (0,), "exposure": (1,), "unclicked": (0, 1)}


@STAGES.register
@final
class ECMM(nn.Module):
    r"""Score a candidate by towers of their own for click, exposure and what was not exposed.

    The embeddings go through a gate, :math:`E' = E \odot \sigma(W_g^\top E)`, and two layers of
    sub-networks that gates of 0 to 1 connect (:class:`~cascaderank.layers.routing.Routing`). Train
    it by the objective ``entire_chain`` with a ``penalty``: what gates that close leave out, is
    left out for good by :func:`cascaderank.stages.prune`. In training every batch has gates drawn
    anew. Called for its scores alone, only the towers that these need are worked out.

    Args:
        schema: fitted to the training requests.
        features: those the stage may use.
        dim: length of the vector of a category.
        blocks: sub-networks in the first and in the second layer.
        width: of each of them.
        tower: widths of the hidden layers of each tower.
        domains: 3 towers, or 4 to tell what pre-ranking dropped from what it passed.
        beta: of the gates, see :class:`~cascaderank.layers.hard_concrete.HardConcrete`.
        gamma: of the gates.
        zeta: of the gates.
        gates: whether connections are learnt. If not, they are fixed and there are only the towers
            that the score needs: what a pruned stage is built as.
        score: what it ranks by: the log-odds of ``"click"`` or of ``"exposure"``; or
            ``"unclicked"``, the chance of exposure less that of a click, d, as
            ``log((1 + d) / (1 - d))``, since towers may disagree and d be negative.

    Raises:
        ConfigError: if a size is not positive or a number of the gates is out of range.

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
            learnt=gates,
        )
        self.towers = nn.ModuleList(mlp(width, tower, 1) for _ in range(towers))

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding mean nothing."""
        return self._scores(self._logits(batch, self._needed))

    def domain_output(self, batch: RequestBatch) -> StageOutput:
        """Return scores, the chance of the event of each tower, and what open gates cost.

        A stage that was pruned says its scores alone.
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
        """Return a copy with the gates of evaluation, without what they close and no score needs.

        Beside it, the options that differ from those of this stage.

        Raises:
            ConfigError: if this stage was pruned already.
        """
        if self.domains == 1:
            raise ConfigError("this stage was pruned already")
        smaller = copy.deepcopy(self)
        smaller._keep_needed()  # noqa: SLF001 - one of its own
        return smaller.eval(), {"gates": False, "blocks": smaller.routing.blocks}

    def _keep_needed(self) -> None:
        self.towers = nn.ModuleList(self.towers[t] for t in self._needed)
        self.routing = self.routing.pruned(self._needed)
        self._needed = tuple(range(len(self._needed)))
        self.domains = 1

    def _logits(self, batch: RequestBatch, towers: Sequence[int]) -> list[Tensor]:
        request, items = self.embedder.request(batch), self.embedder.items(batch)
        gated = joined(request, items) * torch.sigmoid(self.gate(request, items))
        read = self.routing(gated, towers).unbind(-2)
        return [self.towers[t](x).squeeze(-1) for t, x in zip(towers, read, strict=True)]

    def _scores(self, logits: Sequence[Tensor]) -> Tensor:
        if self._score != "unclicked":
            return logits[0]
        # With d the difference: 1 + d = p(exposure) + 1 - p(click), and likewise 1 - d.
        click, exposure = logits
        more = torch.logaddexp(logsigmoid(exposure), logsigmoid(-click))
        return more - torch.logaddexp(logsigmoid(-exposure), logsigmoid(click))
