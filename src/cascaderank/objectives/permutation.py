"""Permutation: cross-entropy of the soft permutation of each stage, over the whole list."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.losses.permutation import permutation_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._sorting import (
    Temperature,
    TemperatureSchedule,
    make_temperature_schedule,
    permutation_operator,
)
from cascaderank.sorting import PermutationOperator


@OBJECTIVES.register
def permutation_objective(
    *,
    stages: tuple[str, ...],
    operator: str = "neural_sort",
    temperature: Temperature | None = None,
    relative_temperature: bool = False,
) -> Objective:
    """Train each stage separately on the order of the whole list.

    A baseline of differentiable sorting that ignores the cascade: no ground truth, no quotas. The
    term of a stage is :func:`cascaderank.losses.permutation_loss`, named
    ``permutation/<stage>``.

    Args:
        stages: names of the stages, first stage first.
        operator: differentiable sorting operator, a name in ``cascaderank.sorting.OPERATORS``
            that provides a permutation, not only top-k probabilities.
        temperature: temperature of the operator, positive, or
            :class:`~cascaderank.objectives.Annealed`. By default 1 if relative; otherwise 200, and
            for NeuralSort 200 in a list of 40 candidates and proportional to the number of
            candidates in others.
        relative_temperature: whether the temperature is multiplied by the scale of the
            operator's logits in each list (spread of the scores and, for NeuralSort, length of
            the list).

    Raises:
        ConfigError: if an option is unknown or out of range, or the operator provides top-k
            probabilities only.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "permutation", stages=["retrieval"], quotas=(2,), temperature=1.0
        ... )
        >>> objective(torch.tensor([[[3.0, 2.0, 1.0]]]), torch.tensor([[2.0, 1.0, 0.0]])).terms
        {'permutation/retrieval': tensor(0.1338)}

    Source: Grover et al. 2019 (arXiv 1903.08850) and Prillo and Eisenschlos 2020
    (arXiv 2006.16038), as compared by LCRON (arXiv 2503.09492); see
    ``docs/methods/permutation.md``.
    """
    sorting = permutation_operator(operator, objective="permutation")
    schedule = make_temperature_schedule(
        temperature,
        operator=sorting,
        relative=relative_temperature,
        default=200.0,
    )
    terms = [
        Term(
            f"permutation/{name}",
            _StageTerm(stage=t, operator=sorting, schedule=schedule).loss,
            stage=t,
        )
        for t, name in enumerate(stages)
    ]
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _StageTerm:
    """The term of one stage."""

    stage: int
    operator: PermutationOperator
    schedule: TemperatureSchedule

    def loss(self, inputs: CascadeInputs) -> Tensor:
        return permutation_loss(
            inputs.scores[self.stage],
            inputs.labels,
            operator=self.operator,
            temperature=self.schedule.of_stage(inputs, self.stage),
            mask=inputs.mask,
        )
