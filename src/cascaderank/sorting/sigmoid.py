"""Sigmoid top-k: a logistic function around the threshold at which exactly k are kept."""

from typing import final

import torch
from torch import Tensor

from cascaderank.sorting.gate import log_gate
from cascaderank.sorting.operator import OPERATORS, Operator
from cascaderank.sorting.scaling import spread


@final
@OPERATORS.register
class Sigmoid(Operator):
    """Keep candidates above a threshold placed so that the logistic probabilities add up to k.

    ``p_j = sigmoid((s_j - theta) / temperature)`` with theta solving ``sum_j p_j = k``. The
    gradient through theta is exact, so all gradients of a list add up to 0: raising one candidate
    lowers its competitors, which are the candidates near the cut.

    The logits grow with the spread of the scores but not with the length of the list. Takes a
    sort, about twenty passes over the list, and linear memory.

    Examples:
        >>> from cascaderank.sorting import top_k_probability
        >>> kept = top_k_probability(torch.tensor([1.0, 3.0, 2.0]), 1, operator="sigmoid")
        >>> kept
        tensor([0.1415, 0.5491, 0.3094])
        >>> f"{kept.sum():.6f}"
        '1.000000'

    Source: this project.
    """

    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors ``[..., list]``; see :class:`Operator`."""
        whole = torch.zeros_like(scores)
        return log_gate(scores, whole, k, temperature=temperature, mask=mask)

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the spread of the scores, ``[...]``."""
        return spread(scores, mask)
