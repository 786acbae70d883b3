"""Conditional survival: a soft cascade whose last stage should keep the ground truth."""

from functools import partial

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses.ranknet import ranknet_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._sorting import Temperature, make_temperature_schedule
from cascaderank.objectives._survival_term import SurvivalTerm
from cascaderank.relevance import check_ground_truth
from cascaderank.sorting import find_operator


@OBJECTIVES.register
def conditional_survival_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    temperature: Temperature = 1.0,
    relative_temperature: bool = False,
    warm_up: float = 0.0,
) -> Objective:
    """Train all stages jointly as one soft cascade in which later stages rank survivors.

    One term without weights, :func:`cascaderank.losses.conditional_survival_loss`, named
    ``conditional_survival``. Every stage cuts at its quota. With a warm-up w, each stage has
    another term, ``w (1 - progress)`` times :func:`cascaderank.losses.ranknet_loss` on levels, or
    on labels for a batch without levels. It is named ``ranknet/<stage>``, and its weight decreases
    to 0 over training.

    Args:
        stages: names of the stages, first stage first.
        quotas: number of candidates that each stage passes on.
        ground_truth: size of the ground truth, the top candidates by label.
        threshold: the ground truth is every label of at least this value.
        temperature: width of a soft cut in units of the scores; positive, or
            :class:`~cascaderank.objectives.Annealed`.
        relative_temperature: whether the temperature is multiplied by the spread of the scores of
            each list and stage.
        warm_up: weight of the pairwise terms before the first step, at least 0.

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
    if not 0 <= warm_up < float("inf"):
        raise ConfigError(f"warm_up must be a number of at least 0; got {warm_up}")
    schedule = make_temperature_schedule(
        temperature, operator=find_operator("sigmoid"), relative=relative_temperature, default=1.0
    )
    cascade = SurvivalTerm(quotas=quotas, k=ground_truth, threshold=threshold, schedule=schedule)
    terms = [Term("conditional_survival", cascade.loss)]
    if warm_up:
        for t, name in enumerate(stages):
            fading = partial(_fading, warm_up)
            terms.append(Term(f"ranknet/{name}", partial(_ranknet, t), fading, stage=t))
    return Objective(terms, stages=len(stages))


def _ranknet(stage: int, inputs: CascadeInputs) -> Tensor:
    levels = inputs.labels if inputs.levels is None else inputs.levels
    return ranknet_loss(inputs.scores[stage], levels, balance="labels", mask=inputs.mask)


def _fading(weight: float, progress: float) -> float:
    return weight * (1 - progress)
