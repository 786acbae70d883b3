"""Cut likelihood: each stage separates candidates at every boundary of the logged funnel."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from cascaderank.errors import ConfigError
from cascaderank.losses import check_cut_sizes, ground_truth_targets
from cascaderank.losses.cut_likelihood import cut_likelihood_costs
from cascaderank.objectives import OBJECTIVES, CascadeInputs, Objective, Term
from cascaderank.objectives._annealed_weight import TermWeight, term_weight
from cascaderank.objectives._sorting import (
    Temperature,
    TemperatureSchedule,
    make_temperature_schedule,
)
from cascaderank.objectives._survival_term import SurvivalTerm
from cascaderank.relevance import check_ground_truth
from cascaderank.sorting import find_operator
from cascaderank.tensors import reduce_lists

Where = Literal["levels", "labels"] | tuple[int, ...]


@OBJECTIVES.register
def cut_likelihood_objective(
    *,
    stages: tuple[str, ...],
    quotas: tuple[int, ...],
    ground_truth: int | None = None,
    threshold: float | None = None,
    cuts: Where = "levels",
    temperature: Temperature = 0.25,
    relative_temperature: bool = False,
    coupling: TermWeight = 1.0,
) -> Objective:
    """Train each stage at all boundaries of the funnel, on what the earlier stages pass.

    The term of a stage is its part of :func:`cascaderank.losses.cut_likelihood_loss`, named
    ``cuts/<stage>``. A coupling above 0 adds :func:`cascaderank.losses.conditional_survival_loss`
    with this weight, named ``conditional_survival``; its gradient makes stages cooperate. It costs
    little where they need not, and is worth much where each stage can rank some candidates that
    others cannot.

    Args:
        stages: names of the stages, first stage first.
        quotas: number of candidates that each stage passes on.
        ground_truth: size of the ground truth, the top candidates by label.
        threshold: the ground truth is every label of at least this value.
        cuts: where lists are cut. ``"levels"``: between the levels of the logged funnel, whatever
            the labels; for a batch without levels, at the size of the ground truth and at the
            quotas. ``"labels"``: between all distinct labels, at most 64. Otherwise the numbers of
            candidates above the cuts, such as ``(10, 20, 30)``.
        temperature: width of a soft cut in units of the scores; positive, or
            :class:`~cascaderank.objectives.Annealed`.
        relative_temperature: whether the temperature is multiplied by the spread of the scores of
            each list and stage.
        coupling: weight of ``conditional_survival``, at least 0, or
            :class:`~cascaderank.objectives.AnnealedWeight`; 0 omits it and saves more than half of
            the time.

    Raises:
        ConfigError: if an option is out of range.

    Examples:
        >>> from cascaderank.objectives import build_objective
        >>> objective = build_objective(
        ...     "cut_likelihood", stages=2, quotas=(2, 1), ground_truth=1
        ... )
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[3.0, 1.0, 2.0]]])
        >>> labels, levels = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[1, 0, 0]])
        >>> list(objective(scores, labels, levels=levels).terms)
        ['cuts/stage_1', 'cuts/stage_2', 'conditional_survival']
        >>> round(objective(scores, labels, levels=levels).total.item(), 2)
        0.16

    Source: this project; see ``docs/methods/cut_likelihood.md``.
    """
    check_ground_truth(ground_truth, threshold)
    if isinstance(cuts, tuple):
        check_cut_sizes(cuts)
    elif cuts not in ("levels", "labels"):
        raise ConfigError(
            f"cuts must be 'levels', 'labels' or sizes such as (10, 20); got {cuts!r}"
        )
    schedule = make_temperature_schedule(
        temperature, operator=find_operator("sigmoid"), relative=relative_temperature, default=0.25
    )
    form = _Terms(quotas=quotas, k=ground_truth, threshold=threshold, cuts=cuts, schedule=schedule)
    terms = [
        Term(f"cuts/{name}", partial(form.of_stage, stage=t), stage=t)
        for t, name in enumerate(stages)
    ]
    weight = term_weight(coupling, "coupling")
    if weight != 0:
        cascade = SurvivalTerm(
            quotas=quotas, k=ground_truth, threshold=threshold, schedule=schedule
        )
        terms.append(Term("conditional_survival", cascade.loss, weight))
    return Objective(terms, stages=len(stages))


@dataclass(frozen=True, kw_only=True)
class _Terms:
    quotas: tuple[int, ...]
    k: int | None
    threshold: float | None
    cuts: Where
    schedule: TemperatureSchedule

    def of_stage(self, inputs: CascadeInputs, *, stage: int) -> Tensor:
        costs = inputs.once(self._of_stages)[stage]
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def _of_stages(self, inputs: CascadeInputs) -> Tensor:
        labels, cuts = self._cuts(inputs)
        return cut_likelihood_costs(
            inputs.scores,
            labels,
            quotas=self.quotas,
            cuts=cuts,
            temperature=self.schedule.of_stages(inputs),
            mask=inputs.mask,
        )

    def _cuts(
        self, inputs: CascadeInputs
    ) -> tuple[Tensor, Literal["labels"] | Sequence[int] | Tensor]:
        """Return the labels that are cut, and where."""
        if self.cuts != "levels":
            return inputs.labels, self.cuts
        if inputs.levels is not None:
            return inputs.levels, "labels"
        _, size = ground_truth_targets(
            inputs.labels, like=inputs.scores, k=self.k, threshold=self.threshold, mask=inputs.mask
        )
        quotas = torch.tensor(self.quotas, device=size.device)
        return inputs.labels, torch.cat([size[:, None], quotas.expand(len(size), -1)], -1)
