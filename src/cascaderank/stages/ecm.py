"""ECM stage: tells apart who is clicked, who is seen, and who is not."""

from collections.abc import Sequence
from typing import Literal, final

from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.mlp import PairMLP
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES
from cascaderank.stages._output import Score, StageOutput, output_of_logits


@STAGES.register
@final
class ECM(nn.Module):
    """Score a candidate by the log-odds of its domain, one of three or four classes.

    The classes are the domains of the whole chain (see :mod:`cascaderank.data.domains`); train it
    by the objective ``entire_chain``. By any other, it learns from its score alone.

    Args:
        schema: fitted to the training requests.
        features: those the stage may use.
        dim: length of the vector of a category.
        hidden: widths of the hidden layers.
        dropout: share of hidden units that training leaves out, in [0, 1).
        domains: 3, or 4 to tell what pre-ranking dropped from what it passed.
        score: what it ranks by: the log-odds of ``"click"``, of ``"exposure"`` (clicked or not), or
            of ``"unclicked"`` (exposed and not clicked).

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
        self._score = score

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding mean nothing."""
        return self.domain_output(batch).scores

    def domain_output(self, batch: RequestBatch) -> StageOutput:
        """Return scores and log-probabilities of the domains."""
        embedder = self.embedder
        logits = self.network.outputs(embedder.request(batch), embedder.items(batch))
        return output_of_logits(logits, self._score)
