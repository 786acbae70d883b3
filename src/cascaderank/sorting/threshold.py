"""Threshold top-k: a logistic function around the midpoint of the k-th and the (k+1)-th score."""

from typing import final

from torch import Tensor
from torch.nn import functional as F

from cascaderank.sorting.cut_scores import cut_scores
from cascaderank.sorting.operator import OPERATORS, Operator
from cascaderank.sorting.scaling import distance_from, positive_temperature, spread


@final
@OPERATORS.register
class Threshold(Operator):
    """Keep candidates above the midpoint of the two scores at the cut.

    ``p_j = sigmoid((s_j - theta) / temperature)`` with ``theta = (s_[k] + s_[k+1]) / 2``, where
    ``s_[k]`` is the k-th largest score. The gradient through theta reaches these two scores only,
    one half each; scores that tie with one of them share its half. The probabilities need not add
    up to k: the higher the temperature, the farther their sum is from it.

    The logits grow with the spread of the scores but not with the length of the list. Memory is
    linear. Time is linear on a CPU, for lists of more than 800 candidates and at most 4 different k
    in a batch, where the two scores are selected without a sort; otherwise it is that of a sort.

    Examples:
        >>> import torch
        >>> from cascaderank.sorting import top_k_probability
        >>> top_k_probability(torch.tensor([1.0, 3.0, 2.0]), 1, operator="threshold")
        tensor([0.1824, 0.6225, 0.3775])

    Source: DFTopK 2025 (arXiv 2510.11472).
    """

    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors ``[..., list]``; see :class:`Operator`."""
        borders = cut_scores(scores, k, mask=mask)
        origin, scale = borders[..., :1].detach(), positive_temperature(temperature)[..., None]
        cut = distance_from(borders, origin, scale).mean(-1, keepdim=True)
        logits = distance_from(scores, origin, scale) - cut
        return F.logsigmoid(logits), F.logsigmoid(-logits)

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the spread of the scores, ``[...]``."""
        return spread(scores, mask)
