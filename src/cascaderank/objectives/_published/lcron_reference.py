"""Reference form of LCRON."""

from dataclasses import dataclass

from torch import Tensor

from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._published.preconditions import check_full_lists
from cascaderank.relevance import ground_truth as top_by_label
from cascaderank.sorting import permutation

_EPSILON = 1e-6
"""Added inside logarithms and to denominators by the published code."""


@dataclass(frozen=True, kw_only=True)
class LcronReference:
    """The terms as the published code computes them, with its epsilons."""

    k: int | None
    temperature: float

    def end_to_end(self, inputs: CascadeInputs) -> Tensor:
        kept, dropped = self._shares(inputs, inputs.scores)
        survived, lost = kept.prod(0), 1 - (1 - dropped).prod(0)
        return self._cross_entropy(inputs, survived, lost)

    def top_k(self, inputs: CascadeInputs, *, stage: int) -> Tensor:
        return self._cross_entropy(inputs, *self._shares(inputs, inputs.scores[stage]))

    def _shares(self, inputs: CascadeInputs, scores: Tensor) -> tuple[Tensor, Tensor]:
        check_full_lists(inputs)
        rows = permutation(scores, operator="neural_sort", temperature=self.temperature)
        total = rows.sum(-2).detach() + _EPSILON
        return rows[..., : self.k, :].sum(-2) / total, rows[..., self.k :, :].sum(-2) / total

    def _cross_entropy(self, inputs: CascadeInputs, kept: Tensor, dropped: Tensor) -> Tensor:
        relevance = top_by_label(inputs.labels, k=self.k)
        log_kept, log_dropped = (kept + _EPSILON).log(), (dropped + _EPSILON).log()
        return -(relevance * log_kept + (1 - relevance) * log_dropped).mean()
