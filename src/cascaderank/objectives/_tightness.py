"""Tightness of LCRON's bound: an earlier stage keeps what the next one keeps."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._sorting import (
    Annealed,
    Temperature,
    TemperatureSchedule,
    make_temperature_schedule,
)
from cascaderank.sorting import find_operator, log_top_k_probability
from cascaderank.tensors import at_least_float32, reduce_lists

Trained = Literal["both", "earlier"]
"""Which of two adjacent stages receives gradient."""


@dataclass(frozen=True, kw_only=True)
class TightnessTerm:
    r"""Negative log of the part of each stage's top set that the stage before it keeps.

    .. math::
        -\sum_{t \ge 2} \log \frac{\sum_j p^{t-1}_j(q_{t-1}) \, p^t_j(q_t)}{\sum_j p^t_j(q_t)}

    The probabilities are those of the operator ``sigmoid``, which add up to the quota: a stage
    cannot reduce the term by keeping more. It is at least 0, and 0 if and only if each stage keeps
    with certainty every candidate that the next one may keep; LCRON's product of marginals is then
    the probability of passing both.
    """

    quotas: tuple[int, ...]
    schedule: TemperatureSchedule
    trained: Trained

    def loss(self, inputs: CascadeInputs) -> Tensor:
        return reduce_lists(self.costs(inputs), "mean").to(inputs.scores.dtype)

    def costs(self, inputs: CascadeInputs) -> Tensor:
        """Return the term of each list, ``[batch]``, in at least float32."""
        scores, mask = at_least_float32(inputs.scores), inputs.mask.expand_as(inputs.scores)
        quotas = torch.tensor(self.quotas, device=mask.device)[:, None].expand(scores.shape[:2])
        log_kept, _ = log_top_k_probability(
            scores,
            quotas,
            operator=self.schedule.operator,
            temperature=self.schedule.of_stages(inputs),
            mask=mask,
        )
        if not scores.shape[-1]:
            return log_kept.sum((0, -1))
        log_kept = log_kept.masked_fill(~mask, torch.finfo(log_kept.dtype).min / 4)
        earlier, later = log_kept[:-1], log_kept[1:]
        if self.trained == "earlier":
            later = later.detach()
        share = (later + earlier).logsumexp(-1) - later.logsumexp(-1)
        # Lists without candidates keep all of nothing.
        share = share.masked_fill(~mask[1:].any(-1), 0.0)
        return -share.clamp(max=0.0).sum(0)


def make_tightness(
    *,
    quotas: tuple[int, ...],
    temperature: Temperature,
    relative_temperature: bool,
    trained: Trained,
) -> TightnessTerm:
    """Return the term for a cascade.

    Raises:
        ConfigError: if an option is out of range.
    """
    if not isinstance(temperature, Annealed) and not 0 < temperature < math.inf:
        raise ConfigError(f"tightness_temperature must be a positive number; got {temperature}")
    schedule = make_temperature_schedule(
        temperature, operator=find_operator("sigmoid"), relative=relative_temperature, default=1.0
    )
    return TightnessTerm(quotas=quotas, schedule=schedule, trained=trained)
