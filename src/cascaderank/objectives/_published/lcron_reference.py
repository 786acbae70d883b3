"""Reference form of LCRON."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from cascaderank.objectives._objective import CascadeInputs
from cascaderank.objectives._published.list_lengths import mean_over_lists
from cascaderank.relevance import ground_truth as top_by_label
from cascaderank.sorting import permutation

_EPSILON = 1e-6
"""Added inside logarithms and to denominators by the published code."""


@dataclass(frozen=True, kw_only=True)
class LcronReference:
    """The terms as the published code computes them, with its epsilons."""

    k: int
    temperature: float
    tied_rows_are_shared: bool
    """Whether the rows of a group of tied labels add up to 1 for each candidate of the group, as in
    the two-stage code. In the three-stage code, each of these rows is 1 for the whole group."""

    def end_to_end(self, inputs: CascadeInputs) -> Tensor:
        return mean_over_lists(inputs, self._end_to_end)

    def top_k(self, inputs: CascadeInputs, *, stage: int) -> Tensor:
        return mean_over_lists(inputs, partial(self._top_k, stage=stage))

    def _end_to_end(self, inputs: CascadeInputs) -> Tensor:
        kept, dropped = self._shares(inputs.scores)
        survived, lost = kept.prod(0), 1 - (1 - dropped).prod(0)
        relevance = top_by_label(inputs.labels, k=self.k)
        return _cross_entropy(survived, lost, relevance, 1 - relevance)

    def _top_k(self, inputs: CascadeInputs, *, stage: int) -> Tensor:
        kept, dropped = self._shares(inputs.scores[stage])
        relevance = top_by_label(inputs.labels, k=self.k)
        negative = 1 - relevance
        if not self.tied_rows_are_shared:
            negative = _rows_beyond(inputs.labels, self.k).to(relevance.dtype)
        return _cross_entropy(kept, dropped, relevance, negative)

    def _shares(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        rows = permutation(scores, operator="neural_sort", temperature=self.temperature)
        total = rows.sum(-2).detach() + _EPSILON
        return rows[..., : self.k, :].sum(-2) / total, rows[..., self.k :, :].sum(-2) / total


def _cross_entropy(kept: Tensor, dropped: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    log_kept, log_dropped = (kept + _EPSILON).log(), (dropped + _EPSILON).log()
    return -(positive * log_kept + negative * log_dropped).mean()


def _rows_beyond(labels: Tensor, k: int) -> Tensor:
    """Return how many rows beyond the k-th of the order by label have the label of a candidate.

    Args:
        labels: ``[batch, list]``.
        k: size of the ground truth.

    Returns:
        ``[batch, list]`` integers: 0 above the cut-off, and the size of its group of tied labels
        below it; a group at the cut-off counts with its rows beyond it.
    """
    better = (labels[..., None, :] > labels[..., :, None]).sum(-1)
    tied = (labels[..., None, :] == labels[..., :, None]).sum(-1)
    return (better + tied - k).clamp(min=0).minimum(tied)
