"""Prior: one numeric feature that is added to the score of a stage with a trained weight."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.schema import Feature, Kind, Role, abridged

_MISSING = -4.0
"""Initial value of a missing prior, in standard deviations from the mean: below nearly all values,
as candidates without the feature rank last where it ranks alone."""


@final
class Prior(nn.Module):
    """Weighted value of a numeric feature of the candidates; the weight starts at 1.

    A stage that adds it to outputs that start at 0 ranks exactly as the feature does until it is
    trained. The value is the encoded one, after the transform of the feature; higher must be
    better. A missing value is replaced by a trained number that starts at -4, which is four
    standard deviations below the mean of a standardised feature.

    Args:
        features: features that the stage may use.
        name: name of the feature.

    Raises:
        ConfigError: if the stage has no numeric feature of the candidates with this name and one
            value per candidate.

    Examples:
        >>> features = [Feature(name="bm25", role="item", kind="numeric", missing=True)]
        >>> batch = RequestBatch(
        ...     items={"bm25": torch.tensor([[0.5, torch.nan, -1.5]])}, mask=torch.ones(1, 3).bool()
        ... )
        >>> Prior(features, "bm25")(batch).tolist()
        [[0.5, -4.0, -1.5]]

    Source: this project.
    """

    def __init__(self, features: Sequence[Feature], name: str) -> None:
        super().__init__()
        allowed = {
            f.name: f
            for f in features
            if f.role is Role.ITEM and f.kind is Kind.NUMERIC and not f.several
        }
        if name not in allowed:
            raise ConfigError(
                "prior must be a numeric feature of the candidates, with one value, among the "
                f"features of the stage{did_you_mean(name, allowed)}; got '{name}'; available: "
                f"{abridged(allowed)}"
            )
        self.feature = name
        self.weight = nn.Parameter(torch.ones(()))
        self.missing = nn.Parameter(torch.tensor(_MISSING)) if allowed[name].missing else None

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return ``[batch, list]``; 0 under the mask."""
        values = batch.items[self.feature].masked_fill(~batch.mask, 0)
        if self.missing is not None:
            values = torch.where(values.isnan(), self.missing, values)
        return self.weight * values
