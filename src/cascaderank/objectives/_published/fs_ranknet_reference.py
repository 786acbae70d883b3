"""Reference form of FS-RankNet."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import Preferences
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.tensors import at_least_float32


@dataclass(frozen=True, kw_only=True)
class FsRankNetReference:
    """The term of one stage: a sum over levels of means over the real candidates of the batch."""

    stage: int
    stages: int

    def loss(self, inputs: CascadeInputs) -> Tensor:
        if inputs.levels is None:
            raise ConfigError(
                "published=True of 'fs_ranknet' needs levels; pass levels [batch, list]"
            )
        scores, levels = inputs.scores[self.stage], inputs.levels
        pairs = Preferences(levels, inputs.mask)
        worse = pairs.worse()
        weight = torch.zeros_like(at_least_float32(scores))
        for level in range(1, self.stages + 2):
            in_level = (levels == level) & (worse > 0)
            weight += in_level.to(weight) / in_level.sum().clamp(min=1)
        weight /= worse.clamp(min=1)
        return pairs.costs(scores, weight, weigh=lambda one, _: one).sum()
