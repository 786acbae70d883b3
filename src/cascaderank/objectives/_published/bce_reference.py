"""Reference form of the BCE baseline."""

from dataclasses import dataclass
from typing import cast

from torch import Tensor
from torch.nn import functional as F

from cascaderank.errors import ConfigError, ShapeError
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._published.list_lengths import mean_over_lists

_LENGTHS = {2: (40, 20), 3: (50, 40, 20)}
"""By number of stages: how many candidates, highest level first, each stage is trained on."""


@dataclass(frozen=True, kw_only=True)
class BceReference:
    """The term of one stage: the first candidates by level, with the top level positive."""

    stage: int
    stages: int

    def loss(self, inputs: CascadeInputs) -> Tensor:
        lengths = _LENGTHS[self.stages]
        if inputs.levels is None:
            raise ConfigError("published=True of 'bce' needs levels; pass levels [batch, list]")
        if inputs.scores.shape[-1] > lengths[0]:
            raise ShapeError(
                f"published=True of 'bce' is defined for lists of at most {lengths[0]} candidates; "
                f"got scores {list(inputs.scores.shape)}"
            )
        return mean_over_lists(inputs, self._loss)

    def _loss(self, inputs: CascadeInputs) -> Tensor:
        levels = cast("Tensor", inputs.levels)
        best_first = levels.argsort(dim=-1, descending=True, stable=True)
        reached = best_first[:, : _LENGTHS[self.stages][self.stage]]
        logits = inputs.scores[self.stage].gather(-1, reached)
        top = (levels == self.stages + 1).gather(-1, reached)
        return F.binary_cross_entropy_with_logits(logits, top.to(logits.dtype))
