"""NeuralSort: every rank chooses a candidate by a softmax."""

from typing import final

import torch
from torch import Tensor

from cascaderank.sorting._distances import sums_of_distances
from cascaderank.sorting._interface import OPERATORS, PermutationOperator
from cascaderank.sorting._rows import log_softmax_of_real
from cascaderank.sorting._scaling import scale_lists, spread
from cascaderank.sorting._streamed import log_top_k_of_lines


@final
@OPERATORS.register
class NeuralSort(PermutationOperator):
    """Relax a permutation by the order statistics of sums of differences.

    ``P[k, j] = softmax_j(((n + 1 - 2k) s_j - sum_i |s_j - s_i|) / temperature)`` for k = 1..n.

    The logits grow with the length of the list and with the spread of its scores, so a
    temperature that is right for lists of 40 is cold for lists of 1,000. Rows add up to 1,
    columns only roughly. Time grows with the square of the list; memory too for the permutation,
    but not for the top k, which never holds more than a few rows at once.

    Examples:
        >>> from cascaderank.sorting import permutation
        >>> permutation(torch.tensor([1.0, 2.0]), operator="neural_sort", temperature=1.0)
        tensor([[0.2689, 0.7311],
                [0.7311, 0.2689]])

    Source: Grover et al. 2019 (arXiv 1903.08850), equation 5.
    """

    def log_permutation(self, scores: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return ``[..., rank, list]``; see :class:`PermutationOperator`."""
        unit, gain = scale_lists(scores, temperature, mask)
        distances = (unit[..., :, None] - unit[..., None, :]).abs()
        distance = (distances * mask[..., None, :]).sum(-1)  # [..., list]
        rank = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
        pull = mask.sum(-1, keepdim=True) + 1 - 2 * rank  # [..., rank]
        logits = pull[..., :, None] * unit[..., None, :] - distance[..., None, :]
        return log_softmax_of_real(gain[..., None] * logits, mask)

    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors ``[..., list]``; see :class:`Operator`."""
        unit, gain = scale_lists(scores, temperature, mask)
        count = mask.sum(-1, keepdim=True)
        order = unit.detach().masked_fill(~mask, -2.0).argsort(-1, descending=True)
        best_first = unit.gather(-1, order)  # all padding last, where it is 0
        offset = gain * sums_of_distances(best_first, count)
        logs = log_top_k_of_lines(gain * best_first, offset, k[..., None], count)
        log_kept, log_dropped = (torch.empty_like(log).scatter(-1, order, log) for log in logs)
        return log_kept, log_dropped

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the number of candidates times the spread of their scores, ``[...]``."""
        return mask.sum(-1).clamp(min=1) * spread(scores, mask)
