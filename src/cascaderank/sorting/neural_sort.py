"""NeuralSort: a softmax over the candidates for every rank."""

from typing import cast, final

import torch
from torch import Tensor

from cascaderank.sorting._neural_sort.cross_entropy_of_lines import CrossEntropyOfLines
from cascaderank.sorting._neural_sort.line_blocks import sort_lines
from cascaderank.sorting._neural_sort.sum_of_lines import SumOfLines
from cascaderank.sorting._neural_sort.top_k_of_lines import TopKOfLines
from cascaderank.sorting.operator import OPERATORS, PermutationOperator, Ranks
from cascaderank.sorting.rows import log_softmax_of_real
from cascaderank.sorting.scaling import distance_from_middle, spread
from cascaderank.tensors import count_real, is_whole


@final
@OPERATORS.register
class NeuralSort(PermutationOperator):
    """Relax a permutation by the order statistics of sums of differences.

    ``P[k, j] = softmax_j(((n + 1 - 2k) s_j - sum_i |s_j - s_i|) / temperature)`` for k = 1..n.

    The logits grow with the length of the list and with the spread of its scores. A temperature
    that suits lists of 40 is therefore too low for lists of 1,000. Rows add up to 1, columns only
    approximately. Time and memory of the permutation are quadratic in the list. The top k and the
    cross-entropy of ranks take linear memory. Their time is that of a few rows where the
    probabilities change slowly from row to row, as at temperatures near the number of candidates,
    and that of all rows where the probabilities are sharp.

    Examples:
        >>> from cascaderank.sorting import permutation
        >>> permutation(torch.tensor([1.0, 2.0]), operator="neural_sort", temperature=1.0)
        tensor([[0.2689, 0.7311],
                [0.7311, 0.2689]])

    Source: Grover et al. 2019 (arXiv 1903.08850), equation 5.
    """

    grows_with_length = True

    def log_permutation(self, scores: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return ``[..., rank, list]``; see :class:`PermutationOperator`."""
        slope = distance_from_middle(scores, temperature, mask)
        distances = (slope[..., :, None] - slope[..., None, :]).abs()
        if not is_whole(mask):
            distances = distances * mask[..., None, :]
        distances = distances.sum(-1)
        # The gradient is that of the sums. Their values would be rounded to the largest distance.
        distances = _offsets(scores, temperature, mask) + (distances - distances.detach())
        rank = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
        pull = (mask.sum(-1, keepdim=True) + 1 - 2 * rank).to(slope)  # [..., rank]
        logits = pull[..., :, None] * slope[..., None, :] - distances[..., None, :]
        return log_softmax_of_real(logits, mask)

    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors ``[..., list]``; see :class:`Operator`."""
        flat = _flat(scores, temperature, k, mask)
        logs = TopKOfLines.apply(*flat, "logs")  # type: ignore[no-untyped-call]
        log_kept, log_dropped = cast("tuple[Tensor, Tensor]", logs)
        return log_kept.view(scores.shape), log_dropped.view(scores.shape)

    def top_k(self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return ``[..., list]``; see :class:`Operator`."""
        flat = _flat(scores, temperature, k, mask)
        kept = TopKOfLines.apply(*flat, "share")  # type: ignore[no-untyped-call]
        return cast("Tensor", kept).view(scores.shape)

    def cross_entropy(
        self, scores: Tensor, ranks: Ranks, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors, ``[...]`` and ``[..., list]``; see :class:`PermutationOperator`."""
        targets = ranks.first + ranks.behind - 1
        flat = (x.reshape(-1, x.shape[-1]) for x in (scores, temperature[..., None], targets, mask))
        cost, totals = CrossEntropyOfLines.apply(*flat)  # type: ignore[no-untyped-call]
        return cost.view(scores.shape[:-1]), totals.view(scores.shape)

    def sum_sorted(
        self, scores: Tensor, values: Tensor, weights: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> Tensor:
        """Return ``[...]``; see :class:`PermutationOperator`."""
        flat = (x.reshape(-1, x.shape[-1]) for x in (scores, temperature[..., None], values, mask))
        sums = SumOfLines.apply(*flat, weights)  # type: ignore[no-untyped-call]
        return cast("Tensor", sums).view(scores.shape[:-1])

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the number of candidates times the spread of their scores, ``[...]``."""
        return count_real(mask).clamp(min=1) * spread(scores, mask)


def _offsets(scores: Tensor, temperature: Tensor, mask: Tensor) -> Tensor:
    """Return the sums of distances of :func:`distances_of`, ``[..., list]``, without gradient."""
    scores = scores.detach()
    flat = (x.reshape(-1, x.shape[-1]) for x in (scores, temperature.detach()[..., None], mask))
    lines = sort_lines(*flat)
    return (
        torch.empty_like(lines.distances)
        .scatter_(-1, lines.order, lines.distances)
        .view(scores.shape)
    )


def _flat(
    scores: Tensor, temperature: Tensor, k: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Flatten the leading dimensions: one list per row, and ``None`` for a mask without padding."""
    scores, temperature, k, mask = (
        x.reshape(-1, x.shape[-1]) for x in (scores, temperature[..., None], k[..., None], mask)
    )
    return scores, temperature, k, None if is_whole(mask) else mask
