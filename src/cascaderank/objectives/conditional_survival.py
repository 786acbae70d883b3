"""Conditional survival: one soft cascade, whose last stage should be left with ground truth."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses.conditional_survival import conditional_survival_loss
from cascaderank.losses.ranknet import ranknet_loss
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._sorting import Temperature, Warmth, make_warmth
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
    """Train all stages together as one soft cascade in which later stages rank survivors.

    One term without weights, :func:`cascaderank.losses.conditional_survival_loss`, which is called
    ``conditional_survival``. Every stage cuts at its quota. With a warm-up w, each stage has
    another, ``w (1 - progress)`` times :func:`cascaderank.losses.ranknet_loss` on levels, or on
    labels where there are none; it is called ``ranknet/<stage>`` and fades out as training goes
    on.

    Args:
        stages: names of the stages, first first.
        quotas: how many candidates each stage passes on.
        ground_truth: the ground truth is the top so many by label.
        threshold: the ground truth is every label of at least this.
        temperature: score units over which a cut is blurred; positive, or
            :class:`~cascaderank.objectives.Annealed`.
        relative_temperature: multiply the temperature by the spread of the scores of each list
            and stage.
        warm_up: weight of the pairs before the first step, at least 0.

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
    warmth = make_warmth(
        temperature, operator=find_operator("sigmoid"), relative=relative_temperature, usual=1.0
    )
    form = _Form(quotas=quotas, k=ground_truth, threshold=threshold, warmth=warmth)
    terms = [Term("conditional_survival", form.loss)]
    if warm_up:
        for t, name in enumerate(stages):
            fading = partial(_fading, warm_up)
            terms.append(Term(f"ranknet/{name}", partial(_ranknet, t), fading, stage=t))
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _Form:
    """The term and its options."""

    quotas: tuple[int, ...]
    k: int | None
    threshold: float | None
    warmth: Warmth

    def loss(self, inputs: CascadeInputs) -> Tensor:
        return conditional_survival_loss(
            inputs.scores,
            inputs.labels,
            quotas=self.quotas,
            k=self.k,
            threshold=self.threshold,
            temperature=self.warmth.of_stages(inputs),
            mask=inputs.mask,
        )


def _ranknet(stage: int, inputs: CascadeInputs) -> Tensor:
    levels = inputs.labels if inputs.levels is None else inputs.levels
    return ranknet_loss(inputs.scores[stage], levels, balance="labels", mask=inputs.mask)


def _fading(weight: float, progress: float) -> float:
    return weight * (1 - progress)
