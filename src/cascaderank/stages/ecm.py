"""ECM stage: classifies candidates as clicked, exposed without a click, or not exposed."""

from collections.abc import Sequence
from typing import Literal, final

from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.feed_forward import PairMLP
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.stages._output import Score, StageOutput, output_of_logits


@STAGES.register
@final
class ECM(nn.Module):
    """Score a candidate by the log-odds of its domain, one of three or four classes.

    The classes are the domains of the entire chain (see :mod:`cascaderank.data.domains`); train it
    with the objective ``entire_chain``. Any other objective trains its score only.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use.
        dim: size of the embedding of a category.
        hidden: widths of the hidden layers.
        dropout: probability of dropping a hidden unit in training, in [0, 1).
        domains: 3, or 4 to distinguish candidates dropped by pre-ranking from those that passed it.
        score: event whose log-odds are the score: ``"click"``, ``"exposure"`` (clicked or not), or
            ``"unclicked"`` (exposed and not clicked).

    Source: ECM (arXiv 2310.08039), layer widths included.
    """

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int = 8,
        hidden: tuple[int, ...] = (128, 64, 32),
        dropout: float = 0.0,
        domains: Literal[3, 4] = 3,
        score: Score = "click",
    ) -> None:
        super().__init__()
        self.embedder = Embedder(schema, features, dim=dim)
        self.network = PairMLP(
            self.embedder.request_dim,
            self.embedder.item_dim,
            hidden,
            outputs=domains,
            dropout=dropout,
        )
        self.domains: int = domains
        self.splits = True
        self._score = score

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        return self.domain_output(batch).scores

    def domain_output(self, batch: RequestBatch) -> StageOutput:
        """Return scores and log-probabilities of the domains."""
        embedder = self.embedder
        logits = self.network.outputs(embedder.request(batch), embedder.items(batch))
        return output_of_logits(logits, self._score)

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        """Return the request's half of the first layer."""
        return (self.network.first.request_half(self.embedder.request(batch)),)

    def item_part(self, batch: RequestBatch) -> Tensor:
        """Return the candidates' half of the first layer."""
        return self.network.first.item_half(self.embedder.items(batch))

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        """Return scores ``[batch, list]``."""
        return output_of_logits(self.network.of_halves(request[0], items), self._score).scores
