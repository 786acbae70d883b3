"""Linear stage: a weighted sum of features, the cheapest ranker."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.feed_forward import PairLinear, set_to_zero
from cascaderank.layers.prior import Prior
from cascaderank.schema import Feature, FittedSchema
from cascaderank.stages import STAGES


@STAGES.register
@final
class Linear(nn.Module):
    """Score a candidate by a weighted sum of its numeric features plus one weight per category.

    Features of the request and of its history add the same constant to all candidates of a
    request: they affect calibration, not the order.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use.
        prior: name of a numeric feature of the candidates, among the features of the stage, whose
            value is added to the score, see :class:`~cascaderank.layers.prior.Prior`. The other
            weights then start at 0, so that the stage ranks as this feature does until it is
            trained.

    Raises:
        ConfigError: if ``prior`` is no such feature.

    Source: this project.
    """

    def __init__(
        self, schema: FittedSchema, features: Sequence[Feature], *, prior: str | None = None
    ) -> None:
        super().__init__()
        self.splits = True
        # An embedding of size 1 is the weight of the category.
        self.embedder = Embedder(schema, features, dim=1)
        self.weights = PairLinear(self.embedder.request_dim, self.embedder.item_dim, 1)
        self.prior = None if prior is None else Prior(features, prior)
        if self.prior is not None:
            set_to_zero(self.weights)

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        scores = self.weights.scores(self.embedder.request(batch), self.embedder.items(batch))
        return scores if self.prior is None else scores + self.prior(batch)

    def request_part(self, batch: RequestBatch) -> tuple[Tensor, ...]:
        """Return the request's share of the sum, ``[batch, 1]``."""
        return (self.weights.request_half(self.embedder.request(batch)),)

    def item_part(self, batch: RequestBatch) -> Tensor:
        """Return the candidates' share of the sum, ``[batch, list, 1]``."""
        share = self.weights.item_half(self.embedder.items(batch))
        return share if self.prior is None else share + self.prior(batch).unsqueeze(-1)

    def scores_of_parts(self, request: tuple[Tensor, ...], items: Tensor) -> Tensor:
        """Return scores ``[batch, list]``."""
        return request[0] + items.squeeze(-1)
