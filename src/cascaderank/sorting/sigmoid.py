"""Sigmoid top-k: a logistic choice around the threshold at which exactly k are kept."""

from typing import final

import torch
from torch import Tensor

from cascaderank.sorting.gate import log_gate
from cascaderank.sorting.operator import OPERATORS, Operator
from cascaderank.sorting.scaling import spread


@final
@OPERATORS.register
class Sigmoid(Operator):
    """Keep what scores above a threshold, placed so that the probabilities add up to k.

    ``p_j = sigmoid((s_j - theta) / temperature)`` with theta solving ``sum_j p_j = k``. It is
    learned through theta exactly, so that all gradients of a list add up to 0: to raise one
    candidate is to lower those that it competes with, which are those near the cut.

    The logits grow with the spread of the scores but not with the length of the list. Takes a
    sort, some twenty passes over the list, and linear memory.

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
