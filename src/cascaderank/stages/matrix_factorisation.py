"""Matrix factorisation: one vector per user, one vector per item."""

import math
from collections.abc import Mapping, Sequence
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
    """Score a candidate by the cosine of its vector and the request's vector, times a scale.

    With the ids of the user and of the item as features, this is matrix factorisation with
    normalised vectors. The vectors of several features are summed: a category has an embedding,
    several categories the one that they are pooled to, a number multiplies a vector, and a history
    is the mean of its entries.

    Args:
        schema: schema fitted to the training requests.
        features: features that the stage may use; at least one of the request or its history, and
            one of the candidates.
        dim: size of the vectors.
        scale: factor of the cosine: the inverse temperature of a softmax of cosines.
        learn_scale: whether the scale is trained, starting at ``scale``, or fixed.
        normalise: whether the score is the scaled cosine, or else the scaled dot product.

    Raises:
        ConfigError: if one of the two vectors has no feature, or ``scale`` is not positive.

    Source: Koren et al. 2009; normalised, with vectors of size 64, as in FS-LTR.
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
        # In the output of the embedder, the features of one sequence are adjacent.
        sequences = list(dict.fromkeys(f.sequence for f in of[Role.HISTORY]))
        history = [f for name in sequences for f in of[Role.HISTORY] if f.sequence == name]
        fields = {**self.embedder.request_fields, **self.embedder.item_fields}
        self.of_request = _factors([*of[Role.REQUEST], *history], fields, dim)
        self.of_item = _factors(of[Role.ITEM], fields, dim)
        log_scale = torch.tensor(math.log(scale))
        self.log_scale = nn.Parameter(log_scale) if learn_scale else None
        self._scale, self._normalise = scale, normalise

    def request_vectors(self, batch: RequestBatch) -> Tensor:
        """Return the vectors times the scale, ``[batch, dim]``."""
        vectors: Tensor = self.of_request(self.embedder.request(batch))
        scale = self._scale if self.log_scale is None else self.log_scale.exp()
        return scale * (unit(vectors) if self._normalise else vectors)

    def item_vectors(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, list, dim]``; vectors of padding are undefined."""
        vectors: Tensor = self.of_item(self.embedder.items(batch))
        return unit(vectors) if self._normalise else vectors

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding are undefined."""
        request, items = self.request_vectors(batch), self.item_vectors(batch)
        with full_precision(items):
            return torch.einsum("bd,bld->bl", request, items)


def _factors(features: Sequence[Feature], fields: Mapping[str, int], dim: int) -> Factors:
    categories = [f.kind is Kind.CATEGORICAL for f in features]
    return Factors(categories, [fields[f.name] for f in features], dim=dim)
