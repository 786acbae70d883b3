"""The term of objectives that train a soft cascade to keep the ground truth."""

from dataclasses import dataclass
from typing import final

from torch import Tensor

from cascaderank.losses.conditional_survival import conditional_survival_loss
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._sorting import TemperatureSchedule


@final
@dataclass(frozen=True, kw_only=True)
class SurvivalTerm:
    """Conditional survival of the ground truth in the whole cascade."""

    quotas: tuple[int, ...]
    k: int | None
    threshold: float | None
    schedule: TemperatureSchedule

    def loss(self, inputs: CascadeInputs) -> Tensor:
        """Return the mean over lists."""
        return conditional_survival_loss(
            inputs.scores,
            inputs.labels,
            quotas=self.quotas,
            k=self.k,
            threshold=self.threshold,
            temperature=self.schedule.of_stages(inputs),
            mask=inputs.mask,
        )
