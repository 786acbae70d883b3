"""NeuralSort: every rank chooses a candidate by a softmax."""

from typing import final

import torch
from torch import Tensor

from cascaderank.sorting._interface import OPERATORS, PermutationOperator
from cascaderank.sorting._rows import log_softmax_of_real, log_top_k_of_rows
from cascaderank.sorting._scaling import scale_lists, spread


@final
@OPERATORS.register
class NeuralSort(PermutationOperator):
    """Relax a permutation by the order statistics of sums of differences.

    ``P[k, j] = softmax_j(((n + 1 - 2k) s_j - sum_i |s_j - s_i|) / temperature)`` for k = 1..n.

    The logits grow with the length of the list and with the spread of its scores, so a
    temperature that is right for lists of 40 is cold for lists of 1,000. Rows add up to 1,
    columns only roughly. Time and memory grow with the square of the list.

    Example:
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
        log_rows = self.log_permutation(scores, temperature=temperature, mask=mask)
        return log_top_k_of_rows(log_rows, k, mask)

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the number of candidates times the spread of their scores, ``[...]``."""
        return mask.sum(-1).clamp(min=1) * spread(scores, mask)
