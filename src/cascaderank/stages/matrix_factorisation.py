"""Matrix factorisation: one vector for each request's user, one for each item."""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.layers.embedder import Embedder
from cascaderank.layers.factors import Factors, unit
from cascaderank.schema import Feature, FittedSchema, Kind, Role
from cascaderank.stages import STAGES
from cascaderank.tensors import full_precision


@STAGES.register
@final
class MatrixFactorisation(nn.Module):
    """Score a candidate by the cosine between a request's vector and its own, times a scale.

    With the id of the user and of the item for features, it is matrix factorisation with
    normalised vectors. Of several features the vectors are added up: a category has a vector of
    its own, a number one that it multiplies, a history the mean of its entries.

    Args:
        schema: fitted to the training requests.
        features: those the stage may use; at least one of the request or its history, and one of
            the candidates.
        dim: length of the vectors.
        scale: of the cosine; one over the temperature of a softmax of cosines.
        learn_scale: whether the scale is learnt, from ``scale`` on, and not fixed.
        normalise: whether it is the cosine that is scaled, or else the dot product.

    Raises:
        ConfigError: if there is no feature for either vector, or ``scale`` is not positive.

    Source: Koren et al. 2009; normalised, with 64 numbers a vector, as in FS-LTR.
    """

    def __init__(
        self,
        schema: FittedSchema,
        features: Sequence[Feature],
        *,
        dim: int = 64,
        scale: float = 10.0,
        learn_scale: bool = False,
        normalise: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < scale < math.inf:
            raise ConfigError(f"scale must be a positive number; got {scale}")
        self.embedder = Embedder(schema, features, dim=dim)
        if not self.embedder.request_dim or not self.embedder.item_dim:
            raise ConfigError(
                "matrix_factorisation needs a feature of the request or its history, and a "
                f"feature of the candidates; got {[f.name for f in features]}"
            )
        of = {role: [f for f in features if f.role is role] for role in Role}
        # The embedder lays the entries of one sequence side by side.
        sequences = list(dict.fromkeys(f.sequence for f in of[Role.HISTORY]))
        history = [f for name in sequences for f in of[Role.HISTORY] if f.sequence == name]
        self.of_request = _factors([*of[Role.REQUEST], *history], dim)
        self.of_item = _factors(of[Role.ITEM], dim)
        log_scale = torch.tensor(math.log(scale))
        self.log_scale = nn.Parameter(log_scale) if learn_scale else None
        self._scale, self._normalise = scale, normalise

    def request_vectors(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, dim]``, the scale included."""
        vectors: Tensor = self.of_request(self.embedder.request(batch))
        scale = self._scale if self.log_scale is None else self.log_scale.exp()
        return scale * (unit(vectors) if self._normalise else vectors)

    def item_vectors(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, list, dim]``; those of padding mean nothing."""
        vectors: Tensor = self.of_item(self.embedder.items(batch))
        return unit(vectors) if self._normalise else vectors

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding mean nothing."""
        request, items = self.request_vectors(batch), self.item_vectors(batch)
        with full_precision(items):
            return torch.einsum("bd,bld->bl", request, items)


def _factors(features: Sequence[Feature], dim: int) -> Factors:
    categories = [f.kind is Kind.CATEGORICAL for f in features]
    widths = [
        dim if category else 2 if feature.missing else 1
        for category, feature in zip(categories, features, strict=True)
    ]
    return Factors(categories, widths, dim=dim)
