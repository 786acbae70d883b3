"""Conditional survival: one soft cascade, whose last stage should be left with ground truth."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.losses.conditional_survival import conditional_survival_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.relevance import check_ground_truth
from cascaderank.sorting import check_temperature
from cascaderank.sorting import relative_temperature as relative_temperature_of
from cascaderank.tensors import at_least_float32


@OBJECTIVES.register
def conditional_survival_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    temperature: float = 1.0,
    relative_temperature: bool = False,
) -> Objective:
    """Train all stages together as one soft cascade in which later stages rank survivors.

    One term without weights, :func:`cascaderank.losses.conditional_survival_loss`, which is called
    ``conditional_survival``. Every stage cuts at its quota.

    Args:
        stages: names of the stages, first first.
        quotas: how many candidates each stage passes on.
        ground_truth: the ground truth is the top so many by label.
        threshold: the ground truth is every label of at least this.
        temperature: score units over which a cut is blurred; positive.
        relative_temperature: multiply the temperature by the spread of the scores of each list
            and stage.

    Raises:
        ConfigError: if an option is out of range.

    Examples:
        >>> import torch
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "conditional_survival", stages=2, quotas=(2, 1), ground_truth=1
        ... )
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> objective(scores, torch.tensor([[2.0, 1.0, 0.0]])).total
        tensor(0.4917)

    Source: this project; see ``docs/methods/conditional_survival.md``.
    """
    check_ground_truth(ground_truth, threshold)
    check_temperature(temperature)
    form = _Form(
        quotas=quotas,
        k=ground_truth,
        threshold=threshold,
        temperature=temperature,
        relative=relative_temperature,
    )
    return Objective([Term("conditional_survival", form.loss)], stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _Form:
    """The term and its options."""

    quotas: tuple[int, ...]
    k: int | None
    threshold: float | None
    temperature: float
    relative: bool

    def loss(self, inputs: CascadeInputs) -> Tensor:
        return conditional_survival_loss(
            inputs.scores,
            inputs.labels,
            quotas=self.quotas,
            k=self.k,
            threshold=self.threshold,
            temperature=self._temperature(inputs),
            mask=inputs.mask,
        )

    def _temperature(self, inputs: CascadeInputs) -> float | Tensor:
        if not self.relative:
            return self.temperature
        scores = at_least_float32(inputs.scores)
        mask = inputs.mask.expand_as(scores)
        return relative_temperature_of(scores, self.temperature, operator="sigmoid", mask=mask)
