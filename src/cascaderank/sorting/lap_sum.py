"""LapSum top-k: a sum of Laplace distribution functions, whose threshold has a closed form."""

import math
from typing import final

import torch
from torch import Tensor

from cascaderank.sorting.operator import OPERATORS, Operator
from cascaderank.sorting.order import sort_best_first
from cascaderank.sorting.scaling import distance_from, positive_temperature, spread


@final
@OPERATORS.register
class LapSum(Operator):
    """Keep candidates above a threshold placed so that the probabilities add up to k.

    ``p_j = F((s_j - b) / temperature)``, where F is the distribution function of the Laplace
    distribution, ``exp(x) / 2`` below 0 and ``1 - exp(-x) / 2`` above, and b solves
    ``sum_j p_j = k``. Between two neighbouring scores that is a quadratic equation in
    ``exp(b)``, so b is found by a sort and prefix sums. The gradient through b is exact.

    The logits grow with the spread of the scores but not with the length of the list. Takes
    O(n log n) time and linear memory.

    Examples:
        >>> from cascaderank.sorting import top_k_probability
        >>> kept = top_k_probability(torch.tensor([1.0, 3.0, 2.0]), 1, operator="lap_sum")
        >>> kept, kept.sum()
        (tensor([0.0954, 0.6453, 0.2593]), tensor(1.))

    Source: LapSum 2025 (arXiv 2503.06242).
    """

    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors ``[..., list]``; see :class:`Operator`."""
        lowest = torch.finfo(scores.dtype).min
        best_first, order = sort_best_first(scores.masked_fill(~mask, lowest))
        # Distances from the k-th score: near the cut they are small at any temperature.
        anchor = best_first.gather(-1, (k[..., None] - 1).clamp(0, scores.shape[-1] - 1))
        distance = distance_from(scores, anchor, positive_temperature(temperature)[..., None])
        with torch.no_grad():
            count = mask.sum(-1, keepdim=True)
            cut = _solve(distance.gather(-1, order), k[..., None], count)
            far = (distance - cut).abs().masked_fill(~mask, torch.inf)
            far = torch.where(mask.any(-1, keepdim=True), far, 0.0)
            density = (-far).softmax(-1)  # Laplace densities at the cut, for its gradient
        moved = (density * (distance - distance.detach())).sum(-1, keepdim=True)
        logits = distance - (cut + moved)
        return _log_laplace(logits), _log_laplace(-logits)

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the spread of the scores, ``[...]``."""
        return spread(scores, mask)


def _log_laplace(x: Tensor) -> Tensor:
    """Return the logarithm of the Laplace distribution function, exact in both tails."""
    return torch.where(x > 0, torch.log1p(-(-x.abs()).exp() / 2), x - math.log(2))


def _solve(best_first: Tensor, k: Tensor, count: Tensor) -> Tensor:
    """Return ``b`` such that ``sum_j F(x_j - b) = k``, ``[..., 1]``.

    With i scores above b, U the sum of ``exp(-x_j)`` over them and V that of ``exp(x_j)`` over
    the others, ``B = exp(b)`` solves ``U B^2 + 2 (k - i) B - V = 0``.

    Args:
        best_first: ``[..., list]``, non-increasing along the first ``count``.
        k: ``[..., 1]``.
        count: ``[..., 1]``; number of real scores of each list.
    """
    nothing = torch.finfo(best_first.dtype).min / 4
    rank = torch.arange(best_first.shape[-1], device=best_first.device)
    real = rank < count
    up = (-best_first).masked_fill(~real, nothing).logcumsumexp(-1)
    down = best_first.masked_fill(~real, nothing).flip(-1).logcumsumexp(-1).flip(-1)
    # U and V for 0 to all scores above the cut.
    end = torch.full_like(up[..., :1], nothing)
    log_u, log_v = torch.cat([end, up], -1), torch.cat([down, end], -1)
    # Number kept if the cut is at each score; scores for which it is at most k are above the cut.
    lost = (log_u[..., 1:] + best_first).clamp(max=math.log(len(rank) + 1)).exp() / 2
    won = (log_v[..., 1:] - best_first).clamp(max=math.log(len(rank) + 1)).exp() / 2
    above = (real & (rank + 1 - lost + won <= k)).sum(-1, keepdim=True)
    log_u, log_v = log_u.gather(-1, above), log_v.gather(-1, above)
    rest = (k - above).to(best_first)
    log_rest = rest.abs().log().clamp(min=nothing)
    log_root = torch.logaddexp(2 * log_rest, log_u + log_v) / 2
    log_sum = torch.logaddexp(log_rest, log_root)
    return torch.where(rest > 0, log_v - log_sum, log_sum - log_u)
