"""Inclusion policy gradient: a soft cascade that exposes candidates with high rewards."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.losses.inclusion_policy_gradient import inclusion_policy_gradient_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._sorting import (
    Temperature,
    TemperatureSchedule,
    make_temperature_schedule,
)
from cascaderank.sorting import find_operator


@OBJECTIVES.register
def inclusion_policy_gradient_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    temperature: Temperature = 1.0,
    relative_temperature: bool = False,
) -> Objective:
    """Train all stages jointly as a soft cascade that keeps candidates in proportion to rewards.

    One term, :func:`cascaderank.losses.inclusion_policy_gradient_loss` without propensities, which
    a log does not have: labels are rewards, and all weights are 1. The term is named
    ``inclusion_policy_gradient``. With propensities, call the loss in an objective or a loop of
    your own.

    Args:
        stages: names of the stages, first stage first.
        quotas: number of candidates that each stage passes on.
        temperature: width of a soft cut in units of the scores; positive, or
            :class:`~cascaderank.objectives.Annealed`.
        relative_temperature: whether the temperature is multiplied by the spread of the scores of
            each list and stage.

    Raises:
        ConfigError: if the temperature is not positive.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective("inclusion_policy_gradient", stages=2, quotas=(2, 1))
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> objective(scores, torch.tensor([[2.0, 1.0, 0.0]])).total
        tensor(2.7355)

    Source: CA-PG (arXiv 2605.26385) with the soft cascade of this project; see
    ``docs/methods/inclusion_policy_gradient.md``.
    """
    schedule = make_temperature_schedule(
        temperature, operator=find_operator("sigmoid"), relative=relative_temperature, default=1.0
    )
    term = _CascadeTerm(quotas=quotas, schedule=schedule)
    return Objective([Term("inclusion_policy_gradient", term.loss)], stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _CascadeTerm:
    quotas: tuple[int, ...]
    schedule: TemperatureSchedule

    def loss(self, inputs: CascadeInputs) -> Tensor:
        return inclusion_policy_gradient_loss(
            inputs.scores,
            inputs.labels,
            quotas=self.quotas,
            temperature=self.schedule.of_stages(inputs),
            mask=inputs.mask,
        )
