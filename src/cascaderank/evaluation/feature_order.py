"""Ranking by a single numeric feature, the simplest baseline of a stage."""

from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch

_MISSING_SCORE = -1e30  # score of a candidate without the feature: ranked last


@final
class FeatureOrder(nn.Module):
    """Score candidates by one numeric feature; candidates without a value rank last."""

    def __init__(self, feature: str, *, sign: float = 1.0) -> None:
        super().__init__()
        self.feature, self.sign = feature, sign
        self.features = [feature]

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; higher is better."""
        return torch.nan_to_num(batch.items[self.feature] * self.sign, nan=_MISSING_SCORE)
