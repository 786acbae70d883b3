"""Weighted sums of values softly sorted by NeuralSort, computed some rows at a time."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.sorting._neural_sort.line_blocks import (
    best_logit,
    block_size,
    blocks_of_rows,
    sort_lines,
)


class SumOfLines(torch.autograd.Function):
    """``sum_ij w_i P_ij v_j`` of each list as a function of the scores.

    The gradient is computed in the forward pass.

    ``apply(scores, temperature, values, mask, weights)`` takes ``[lists, list]``, ``[lists, 1]``,
    ``[lists, list]`` (0 under the mask), ``[lists, list]`` bool and ``[rank]``, for the first
    ranks. It returns ``[lists]``.
    """

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        temperature: Tensor,
        values: Tensor,
        mask: Tensor,
        weights: Tensor,
    ) -> Tensor:
        lines = sort_lines(scores, temperature, mask)
        values = values.gather(-1, lines.order)
        weights = weights.masked_fill(lines.behind[:, : len(weights)], 0.0)
        sums, of_slope, of_intercept = _sums_of_rows(
            lines.slope, lines.intercept, lines.candidates, values, weights
        )
        of_slope.masked_fill_(lines.behind, 0.0)
        of_offset = of_intercept.neg_().masked_fill_(lines.behind, 0.0)
        ctx.save_for_backward(*lines.gradients(of_slope, of_offset))
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, ...]:
        of_scores, of_temperature = ctx.saved_tensors
        return above[:, None] * of_scores, above[:, None] * of_temperature, None, None, None


def _sums_of_rows(
    slope: Tensor, intercept: Tensor, count: Tensor, values: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``sum_ij w_i P_ij v_j`` of each list, and its gradients with respect to the lines.

    The gradient with respect to the logit of an entry is ``w_i P_ij (v_j - v_i)``, where ``v_i`` is
    the mean of the row.

    Returns:
        ``[lists]``, and the gradients with respect to slope and intercept, ``[lists, list]`` each.
    """
    lists, rows = weights.shape
    pull = (count - 1 - 2 * torch.arange(rows, device=slope.device)).to(slope)
    best = best_logit(slope, intercept, count, pull)
    of_slope, of_intercept = torch.zeros_like(slope), torch.zeros_like(slope)
    sums, other = slope.new_zeros(lists), slope.new_empty(0)
    some = max(1, block_size(slope) // (slope.shape[-1] * rows))
    for start in range(0, lists, some):
        these = slice(start, start + some)
        lines = (x[these] for x in (slope, intercept, pull, best))
        for at, block in blocks_of_rows(*lines):
            total, share = block.sum(-1), weights[these, at]
            weighted = torch.mul(block, values[these, None], out=other.resize_(0))
            mean = weighted.sum(-1).div_(total)
            sums[these] += (share * mean).sum(-1)
            # Entries of a column cancel. A matrix product accumulates them sequentially and loses
            # more precision than sums, which are pairwise.
            excess = torch.sub(values[these, None], mean[..., None], out=other)
            block.mul_(excess).mul_((share / total)[..., None])
            of_intercept[these] += block.sum(-2)
            of_slope[these] += block.mul_(pull[these, at, None]).sum(-2)
    return sums, of_slope, of_intercept
