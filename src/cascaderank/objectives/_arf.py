"""Shared by ARF and its second version: per stage, a recall term and a term of the whole order."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cascaderank.losses.permutation import permutation_costs
from cascaderank.losses.relaxed_recall import relaxed_recall_costs
from cascaderank.losses.survival import survival_loss
from cascaderank.objectives._objective import CascadeInputs, Objective, Term
from cascaderank.objectives._published.arf_reference import ARF_CUTS, ArfReference
from cascaderank.objectives._published.preconditions import (
    check_as_published,
    check_published,
    published_temperature,
)
from cascaderank.objectives._sorting import (
    Temperature,
    TemperatureSchedule,
    make_temperature_schedule,
    permutation_operator,
)
from cascaderank.tensors import reduce_lists


@dataclass(frozen=True, kw_only=True)
class Arf:
    """The task and the options that both versions take."""

    name: str
    stages: tuple[str, ...]
    quotas: tuple[int, ...]
    k: int | None
    threshold: float | None
    published: bool
    operator: str
    temperature: Temperature | None
    relative: bool

    def objective(self, recall: Literal["relax", "top_m"]) -> Objective:
        """Return the objective with one of the two recall terms.

        Raises:
            ConfigError: if an option is unknown or out of range, or fixed by ``published``.
        """
        schedule = make_temperature_schedule(
            self.temperature,
            operator=permutation_operator(self.operator, objective=self.name),
            relative=self.relative,
            default=200.0,
        )
        cuts = self.quotas
        if self.published:
            count = len(self.stages)
            check_published(self.name, stages=count, threshold=self.threshold)
            fixed = {
                "operator": (self.operator, "neural_sort"),
                "relative_temperature": (self.relative, False),
            }
            check_as_published(self.name, fixed)
            cuts = ARF_CUTS[count]
        terms = []
        for t, stage in enumerate(self.stages):
            form: _StageTerms | ArfReference
            if self.published:
                temperature = published_temperature(self.name, schedule)
                form = ArfReference(stage=t, m=cuts[t], k=self.k, temperature=temperature)
            else:
                form = _StageTerms(
                    stage=t, m=cuts[t], k=self.k, threshold=self.threshold, schedule=schedule
                )
            recall_term = form.relax if recall == "relax" else form.top_m
            terms.append(Term(f"{recall}/{stage}", recall_term, stage=t))
            terms.append(Term(f"global/{stage}", form.whole, "learned", stage=t))
        return Objective(terms, stages=len(self.stages), raw_weights=self.published)


@dataclass(frozen=True, kw_only=True)
class _StageTerms:
    """The terms of one stage in this library's form: masks, log space, exact label sets."""

    stage: int
    m: int
    k: int | None
    threshold: float | None
    schedule: TemperatureSchedule

    def relax(self, inputs: CascadeInputs) -> Tensor:
        _, column_sums = inputs.once(self._order)
        costs = relaxed_recall_costs(
            inputs.scores[self.stage],
            inputs.labels,
            m=self.m,
            k=self.k,
            threshold=self.threshold,
            operator=self.schedule.operator,
            temperature=self.schedule.of_stage(inputs, self.stage),
            mask=inputs.mask,
            totals=column_sums,
        )
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def top_m(self, inputs: CascadeInputs) -> Tensor:
        return survival_loss(
            inputs.scores[self.stage : self.stage + 1],
            inputs.labels,
            quotas=(self.m,),
            k=self.k,
            threshold=self.threshold,
            operator=self.schedule.operator,
            temperature=self.schedule.of_stage(inputs, self.stage),
            mask=inputs.mask,
        )

    def whole(self, inputs: CascadeInputs) -> Tensor:
        costs, _ = inputs.once(self._order)
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def _order(self, inputs: CascadeInputs) -> tuple[Tensor, Tensor]:
        """Return the costs and column sums of the soft permutation, which both terms use."""
        return permutation_costs(
            inputs.scores[self.stage],
            inputs.labels,
            operator=self.schedule.operator,
            temperature=self.schedule.of_stage(inputs, self.stage),
            mask=inputs.mask,
        )
