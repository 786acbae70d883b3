"""SoftSort: for every rank, a softmax over the distances to the score of that rank."""

from typing import cast, final

import torch
from torch import Tensor

from cascaderank.sorting._soft_sort.cross_entropy_of_distances import CrossEntropyOfDistances
from cascaderank.sorting._soft_sort.top_k_of_distances import LogTopKOfDistances
from cascaderank.sorting.operator import OPERATORS, PermutationOperator, Ranks
from cascaderank.sorting.order import sorted_values
from cascaderank.sorting.rows import log_softmax_of_real
from cascaderank.sorting.scaling import distance_from, positive_temperature, spread


@final
@OPERATORS.register
class SoftSort(PermutationOperator):
    """Relax a permutation by the distance of each score to each sorted score.

    ``P[k, j] = softmax_j(-|s_[k] - s_j| / temperature)``, where ``s_[k]`` is the k-th largest.

    The logits grow with the spread of the scores but not with the length of the list. Rows add up
    to 1, columns only approximately. Time and memory of the permutation are quadratic in the list;
    the top k and the cross-entropy of ranks take a sort and linear memory.

    Examples:
        >>> from cascaderank.sorting import permutation
        >>> permutation(torch.tensor([1.0, 2.0]), operator="soft_sort", temperature=1.0)
        tensor([[0.2689, 0.7311],
                [0.7311, 0.2689]])

    Source: Prillo and Eisenschlos 2020 (arXiv 2006.16038), equation 2 with d = absolute value.
    """

    def log_permutation(self, scores: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return ``[..., rank, list]``; see :class:`PermutationOperator`."""
        lowest = torch.finfo(scores.dtype).min
        of_rank = sorted_values(scores.masked_fill(~mask, lowest))[..., :, None]  # padding last
        scale = positive_temperature(temperature)[..., None, None]
        distance = distance_from(scores[..., None, :], of_rank, scale).abs()
        return log_softmax_of_real(-distance, mask)

    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors ``[..., list]``; see :class:`Operator`."""
        scale = positive_temperature(temperature)[..., None]
        flat = (x.reshape(-1, x.shape[-1]) for x in (scores, scale, k[..., None], mask))
        logs = LogTopKOfDistances.apply(*flat)  # type: ignore[no-untyped-call]
        log_kept, log_dropped = cast("tuple[Tensor, Tensor]", logs)
        return log_kept.view(scores.shape), log_dropped.view(scores.shape)

    def cross_entropy(
        self, scores: Tensor, ranks: Ranks, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors, ``[...]`` and ``[..., list]``; see :class:`PermutationOperator`."""
        scale = positive_temperature(temperature)[..., None]
        flat = (x.reshape(-1, x.shape[-1]) for x in (scores, scale, *ranks, mask))
        cost, totals = CrossEntropyOfDistances.apply(*flat)  # type: ignore[no-untyped-call]
        return cost.view(scores.shape[:-1]), totals.view(scores.shape)

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the spread of the scores, ``[...]``."""
        return spread(scores, mask)
