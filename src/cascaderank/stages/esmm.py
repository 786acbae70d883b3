"""ESMM stage: probability of exposure times probability of a click given exposure."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.feed_forward import PairMLP
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.stages._output import Chance, Score, StageOutput, both, chance


@STAGES.register
@final
class ESMM(nn.Module):
    """Score a candidate by its probability of exposure times that of a click given exposure.

    Two multi-layer perceptrons share the embeddings. The second is not trained directly: the
    product is trained over all candidates, which avoids the selection bias of exposed ones.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use.
        dim: size of the embedding of a category.
        hidden: widths of the hidden layers of each tower.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        score: event whose log-odds are the score: ``"click"`` (exposed and clicked),
            ``"exposure"``, or ``"unclicked"`` (exposed and not clicked).

    Source: ESMM (arXiv 1804.07931), with exposure and click for its click and conversion, as in ECM
    (arXiv 2310.08039).
    """

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int = 8,
        hidden: tuple[int, ...] = (128, 64, 32),
        dropout: float = 0.0,
        score: Score = "click",
    ) -> None:
        super().__init__()
        self.embedder = Embedder(schema, features, dim=dim)
        sizes = self.embedder.request_dim, self.embedder.item_dim
        self.exposure = PairMLP(*sizes, hidden, dropout=dropout)
        self.click = PairMLP(*sizes, hidden, dropout=dropout)
        self.domains: int = 3
        self.splits = True
        self._score = score

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        return self.domain_output(batch).scores

    def domain_output(self, batch: RequestBatch) -> StageOutput:
        """Return scores and the probabilities of exposure and of a click."""
        request, items = self.embedder.request(batch), self.embedder.items(batch)
        return self._output(self.exposure(request, items), self.click(request, items))

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        """Return the request's half of the first layer of each perceptron."""
        request = self.embedder.request(batch)
        return tuple(n.first.request_half(request) for n in (self.exposure, self.click))

    def item_part(self, batch: RequestBatch) -> Tensor:
        """Return the candidates' half of the first layer of each perceptron, concatenated."""
        items = self.embedder.items(batch)
        return torch.cat([n.first.item_half(items) for n in (self.exposure, self.click)], dim=-1)

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        """Return scores ``[batch, list]``."""
        exposure, click = (
            network.of_halves(of_request, of_items).squeeze(-1)
            for network, of_request, of_items in zip(
                (self.exposure, self.click), request, items.chunk(2, dim=-1), strict=True
            )
        )
        return self._output(exposure, click).scores

    def _output(self, exposure_logit: Tensor, click_logit: Tensor) -> StageOutput:
        exposure, if_exposed = chance(exposure_logit), chance(click_logit)
        events = {"click": both(exposure, if_exposed), "exposure": exposure}
        unclicked = both(exposure, Chance(if_exposed.log_not, if_exposed.log_p))
        scores = {**events, "unclicked": unclicked}[self._score].log_odds()
        return StageOutput(scores=scores, events=events)
