"""Reference form of ARF and of its second version."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._published.list_lengths import mean_over_lists
from cascaderank.relevance import ground_truth as top_by_label
from cascaderank.sorting import permutation
from cascaderank.tensors import at_least_float32

ARF_CUTS = {2: (30, 20), 3: (40, 30, 20)}
"""By number of stages: how many ranks of each stage count as kept in the published code."""

_EPSILON = 1e-6
"""Added inside logarithms and to denominators by the published code."""

_LABEL_TEMPERATURE = 1e-4
"""Temperature at which the published code sorts the labels smoothly."""


@dataclass(frozen=True, kw_only=True)
class ArfReference:
    """The terms of one stage as the published code computes them, with its epsilons."""

    stage: int
    m: int
    k: int | None
    temperature: float

    def relax(self, inputs: CascadeInputs) -> Tensor:
        return mean_over_lists(inputs, self._relax)

    def top_m(self, inputs: CascadeInputs) -> Tensor:
        return mean_over_lists(inputs, self._top_m)

    def whole(self, inputs: CascadeInputs) -> Tensor:
        return mean_over_lists(inputs, self._whole)

    def _relax(self, inputs: CascadeInputs) -> Tensor:
        share = self._rows(inputs)[:, : self.m].sum(1) / self.m
        return -(self._relevance(inputs) * (share + _EPSILON).log()).mean()

    def _top_m(self, inputs: CascadeInputs) -> Tensor:
        rows, relevance = self._rows(inputs), self._relevance(inputs)
        total = rows.sum(1).detach() + _EPSILON
        kept, dropped = rows[:, : self.m].sum(1) / total, rows[:, self.m :].sum(1) / total
        log_kept, log_dropped = (kept + _EPSILON).log(), (dropped + _EPSILON).log()
        return -(relevance * log_kept + (1 - relevance) * log_dropped).mean()

    def _whole(self, inputs: CascadeInputs) -> Tensor:
        rows = self._rows(inputs)
        target = permutation(inputs.labels.double(), temperature=_LABEL_TEMPERATURE)
        return -(target.to(rows.dtype) * (rows + _EPSILON).log()).mean()

    def _rows(self, inputs: CascadeInputs) -> Tensor:
        scores = at_least_float32(inputs.scores[self.stage])
        return permutation(scores, temperature=self.temperature)

    def _relevance(self, inputs: CascadeInputs) -> Tensor:
        return top_by_label(inputs.labels, k=self.k)
