"""What ARF and its second version share: a term of recall and one of the whole order per stage."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from cascaderank.losses.permutation import permutation_costs
from cascaderank.losses.relaxed_recall import relaxed_recall_costs
from cascaderank.losses.survival import survival_loss
from cascaderank.objectives._objective import CascadeInputs, Objective, Term
from cascaderank.objectives._published import (
    check_as_published,
    check_full_lists,
    check_published,
    published_temperature,
)
from cascaderank.objectives._sorting import (
    Temperature,
    Warmth,
    make_warmth,
    permutation_operator,
)
from cascaderank.relevance import ground_truth as top_by_label
from cascaderank.sorting import permutation
from cascaderank.tensors import at_least_float32, reduce_lists

_EPSILON = 1e-6
"""What the published code adds inside logarithms and to denominators."""

_PUBLISHED_CUTS = {2: (30, 20), 3: (40, 30, 20)}
"""How many ranks of each stage count as kept in the published code."""

_PUBLISHED_LABEL_TEMPERATURE = 1e-4
"""At which the published code sorts labels smoothly."""


@dataclass(frozen=True, kw_only=True)
class Arf:
    """The task and the options of either version."""

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
        """Return the objective with one of the two terms for recall.

        Raises:
            ConfigError: if an option is unknown or out of range, or ``published`` fixes it.
        """
        warmth = make_warmth(
            self.temperature,
            operator=permutation_operator(self.operator, objective=self.name),
            relative=self.relative,
            usual=200.0,
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
            cuts = _PUBLISHED_CUTS[count]
        terms = []
        for t, stage in enumerate(self.stages):
            form: _Ours | _Published
            if self.published:
                number = published_temperature(self.name, warmth)
                form = _Published(stage=t, m=cuts[t], k=self.k, temperature=number)
            else:
                form = _Ours(stage=t, m=cuts[t], k=self.k, threshold=self.threshold, warmth=warmth)
            kept = form.relax if recall == "relax" else form.top_m
            terms.append(Term(f"{recall}/{stage}", kept, stage=t))
            terms.append(Term(f"global/{stage}", form.whole, "learned", stage=t))
        return Objective(terms, stages=len(self.stages))


@dataclass(frozen=True, kw_only=True)
class _Ours:
    """The terms of this library: masks, log space, exact label sets."""

    stage: int
    m: int
    k: int | None
    threshold: float | None
    warmth: Warmth

    def relax(self, inputs: CascadeInputs) -> Tensor:
        _, totals = inputs.once(self._order)
        costs = relaxed_recall_costs(
            inputs.scores[self.stage],
            inputs.labels,
            m=self.m,
            k=self.k,
            threshold=self.threshold,
            operator=self.warmth.operator,
            temperature=self.warmth.of_stage(inputs, self.stage),
            mask=inputs.mask,
            totals=totals,
        )
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def top_m(self, inputs: CascadeInputs) -> Tensor:
        return survival_loss(
            inputs.scores[self.stage : self.stage + 1],
            inputs.labels,
            quotas=(self.m,),
            k=self.k,
            threshold=self.threshold,
            operator=self.warmth.operator,
            temperature=self.warmth.of_stage(inputs, self.stage),
            mask=inputs.mask,
        )

    def whole(self, inputs: CascadeInputs) -> Tensor:
        costs, _ = inputs.once(self._order)
        return reduce_lists(costs, "mean").to(inputs.scores.dtype)

    def _order(self, inputs: CascadeInputs) -> tuple[Tensor, Tensor]:
        """Return what both terms need of the whole order."""
        return permutation_costs(
            inputs.scores[self.stage],
            inputs.labels,
            operator=self.warmth.operator,
            temperature=self.warmth.of_stage(inputs, self.stage),
            mask=inputs.mask,
        )


@dataclass(frozen=True, kw_only=True)
class _Published:
    """The terms of the published code, with its epsilons."""

    stage: int
    m: int
    k: int | None
    temperature: float

    def relax(self, inputs: CascadeInputs) -> Tensor:
        share = self._rows(inputs)[:, : self.m].sum(1) / self.m
        return -(self._marks(inputs) * (share + _EPSILON).log()).mean()

    def top_m(self, inputs: CascadeInputs) -> Tensor:
        rows, marks = self._rows(inputs), self._marks(inputs)
        total = rows.sum(1).detach() + _EPSILON
        kept, dropped = rows[:, : self.m].sum(1) / total, rows[:, self.m :].sum(1) / total
        hit, miss = (kept + _EPSILON).log(), (dropped + _EPSILON).log()
        return -(marks * hit + (1 - marks) * miss).mean()

    def whole(self, inputs: CascadeInputs) -> Tensor:
        rows = self._rows(inputs)
        wanted = permutation(inputs.labels.double(), temperature=_PUBLISHED_LABEL_TEMPERATURE)
        return -(wanted.to(rows.dtype) * (rows + _EPSILON).log()).mean()

    def _rows(self, inputs: CascadeInputs) -> Tensor:
        check_full_lists(inputs)
        scores = at_least_float32(inputs.scores[self.stage])
        return permutation(scores, temperature=self.temperature)

    def _marks(self, inputs: CascadeInputs) -> Tensor:
        return top_by_label(inputs.labels, k=self.k)
