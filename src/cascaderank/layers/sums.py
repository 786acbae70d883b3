"""One hidden layer over all pairs of two sets, without a tensor of pairs times units."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.tensors import at_least_float32, full_precision


def relu_of_sums(left: Tensor, right: Tensor, weights: Tensor) -> Tensor:
    r"""Return the weighted sum of the hidden units of every pair: ReLUs of the sums of both sides.

    .. math:: o_{ij} = \sum_u w_u \max(0, l_{iu} + r_{ju})

    A ReLU is half of its input plus half of its input's absolute value. The sums of the first
    halves separate into the two sides. A weighted sum of absolute values is an L1 distance: the one
    over the units of positive weight minus the one over those of negative weight. On a CPU, memory
    is therefore that of the result for any number of units; on other devices, and in exported and
    compiled programs, the tensor of pairs times units is stored. At an input of exactly 0 the
    derivative is 1/2 there and 0 here.

    Args:
        left: ``[batch, n, units]``.
        right: ``[batch, m, units]``.
        weights: ``[units]``.

    Returns:
        ``[batch, n, m]``, in at least float32. Differentiable once.

    Examples:
        >>> left, right = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, -5.0], [-2.0, 0.0]]])
        >>> relu_of_sums(left, right, torch.tensor([1.0, 10.0]))
        tensor([[[ 4., 20.]]])

    Source: this project.
    """
    left, right, weights = (at_least_float32(t) for t in (left, right, weights))
    # The shapes of the fast path depend on the signs of the weights: not possible in an export.
    if left.device.type != "cpu" or torch.compiler.is_compiling():
        return (left.unsqueeze(-2) + right.unsqueeze(-3)).relu() @ weights
    with full_precision(left):  # autocast would narrow the products
        sums: Tensor = _ReluOfSums.apply(left, right, weights)  # type: ignore[no-untyped-call]
    return sums


class _ReluOfSums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(left, right, weights)
        sums = (left @ weights).unsqueeze(-1) + (right @ weights).unsqueeze(-2)
        for sign, units in ((1, weights > 0), (-1, weights < 0)):
            scale = weights[units].abs()
            sums.add_(
                torch.cdist(left[..., units] * scale, right[..., units] * -scale, p=1.0), alpha=sign
            )
        return sums.mul_(0.5)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_sums: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        left, right, weights = ctx.saved_tensors
        # Sum of the gradients of pairs whose unit is active. The indicator of an active unit is
        # half of 1 plus half of a sign, and signs are the gradient of an L1 distance.
        of_left = _signed(of_sums, left, -right).add_(of_sums.sum(-1, keepdim=True)).mul_(0.5)
        of_right = _signed(of_sums.mT, right, -left)
        of_right = of_right.add_(of_sums.sum(-2).unsqueeze(-1)).mul_(0.5)
        of_weights = (left * of_left).sum((0, 1)) + (right * of_right).sum((0, 1))
        return of_left * weights, of_right * weights, of_weights


def _signed(values: Tensor, points: Tensor, others: Tensor) -> Tensor:
    """Sum ``values[b, i, j] * sign(points[b, i, u] - others[b, j, u])`` over j."""
    if not values.numel():
        return torch.zeros_like(points)
    values = values.contiguous()
    # The operator requires the distance itself but, at p = 1, does not use it.
    backward = torch.ops.aten._cdist_backward  # noqa: SLF001 - what autograd itself calls
    signed: Tensor = backward(values, points, others, 1.0, values)
    return signed
