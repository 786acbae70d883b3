"""NeuralNDCG: NDCG of a soft permutation whose rows and columns add up to 1."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES
from cascaderank.losses._gains import soft_ndcg_cost
from cascaderank.relevance import Gain
from cascaderank.sorting import PermutationOperator, permutation
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists

_LEAST = 1e-6
"""A column that adds up to less is left as it is: there may be nothing in it."""

_AT_ONCE = {"cpu": 2**18}
"""How many numbers of rows are scaled together: on a CPU, as many as stay in the cache."""

_MANY = 2**24
"""On other devices, to keep all of them busy."""


@LOSSES.register
def neural_ndcg_loss(
    scores: Tensor,
    labels: Tensor,
    *,
    m: int | None = None,
    gain: Gain = "exponential",
    scalings: int = 20,
    operator: str | PermutationOperator = "neural_sort",
    temperature: float | Tensor = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""What the NDCG of softly sorted gains lacks to 1.

    .. math::
        \ell = 1 - \sum_{r \le m} \frac{(P G)_r}{\log_2(1 + r)}

    P is the soft permutation, its columns and rows scaled in turn so that both add up to 1 (else
    a gain could be counted twice); G the gain over the best DCG of the list. Takes memory of the
    square of the list's length.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, at least 0; higher is better.
        m: the metric is NDCG@m; ``None`` for NDCG of the whole list.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        scalings: how often columns and rows are scaled; at least 0.
        operator: a name in ``cascaderank.sorting.OPERATORS``, or an operator, that has a
            permutation.
        temperature: of the operator: positive; a number, or a tensor ``[...]``, one per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per list.

    Returns:
        In [0, 1], of the scores' dtype. Exactly 0 for a list where nothing gains.

    Raises:
        ShapeError: if shapes or kinds of numbers do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> neural_ndcg_loss(torch.tensor([3.0, 2.0, 1.0]), labels)
        tensor(0.0615)
        >>> neural_ndcg_loss(torch.tensor([1.0, 2.0, 3.0]), labels)
        tensor(0.3669)

    Source: Pobrotyn and Bialobrzeski 2021 (arXiv 2102.07831).
    """
    if not isinstance(scalings, int) or isinstance(scalings, bool) or scalings < 0:
        raise ConfigError(f"scalings must be a whole number of at least 0; got {scalings!r}")
    mask = check_lists(scores, labels, mask)
    rows = permutation(
        at_least_float32(scores), operator=operator, temperature=temperature, mask=mask
    )
    if scalings and rows.numel():
        flat = rows.reshape(-1, *rows.shape[-2:])
        balanced = _Balanced.apply(flat, scalings)  # type: ignore[no-untyped-call]
        rows = cast("Tensor", balanced).view(rows.shape)
    return reduce_lists(soft_ndcg_cost(rows, labels, m=m, gain=gain, mask=mask), reduction).to(
        scores.dtype
    )


class _Balanced(torch.autograd.Function):
    """Scale the columns and the rows of ``[lists, rank, list]`` in turn, so that each adds up to 1.

    Scaled rows are ``left_i P_ij right_j``, so no more than ``left`` and ``right`` change from one
    scaling to the next: ``right_j`` becomes ``1 / sum_i left_i P_ij`` where the column, as scaled
    so far, adds up to enough, and stays what it was elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, scalings: int) -> Tensor:
        balanced = torch.empty_like(rows)
        steps: list[tuple[Tensor, ...]] = []
        for some in _chunks(rows):
            these = rows[some]
            left, right = these.new_ones(these.shape[:-1]), these.new_ones(these.shape[::2])
            for _ in range(scalings):
                column = (these * left[..., None]).sum(-2)
                full = column * right > _LEAST
                right = torch.where(full, 1 / column, right)
                row = (these * right[..., None, :]).sum(-1)
                real = row * left > _LEAST
                steps.append((left, full, right, real))
                left = torch.where(real, 1 / row, left)
            steps.append((left, right))
            torch.mul(these * left[..., None], right[..., None, :], out=balanced[some])
        ctx.scalings = scalings
        ctx.save_for_backward(rows, *(x for step in steps for x in step))
        return balanced

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None]:
        rows, *saved = ctx.saved_tensors
        of_rows, tensors = torch.empty_like(rows), iter(saved)
        for some in _chunks(rows):
            these = rows[some]
            steps = [[next(tensors) for _ in range(4)] for _ in range(ctx.scalings)]
            left, right = next(tensors), next(tensors)
            reached = above[some] * these
            of_left = (reached * right[..., None, :]).sum(-1)
            of_right = (reached * left[..., None]).sum(-2)
            found = above[some] * left[..., None] * right[..., None, :]
            one_side, other_side = [], []  # the gradient is a sum of their products
            for earlier, full, now, real in reversed(steps):
                of_row = torch.where(real, -of_left * left.square(), 0.0)  # left was 1 / row
                of_left = torch.where(real, 0.0, of_left)
                of_right += (these * of_row[..., None]).sum(-2)
                one_side.append(of_row)
                other_side.append(now)
                of_column = torch.where(full, -of_right * now.square(), 0.0)
                of_right = torch.where(full, 0.0, of_right)
                of_left += (these * of_column[..., None, :]).sum(-1)
                one_side.append(earlier)
                other_side.append(of_column)
                left = earlier
            found.baddbmm_(torch.stack(one_side, -1), torch.stack(other_side, -2))
            of_rows[some] = found
        return of_rows, None


def _chunks(rows: Tensor) -> Iterator[slice]:
    some = max(1, _AT_ONCE.get(rows.device.type, _MANY) // rows[0].numel())
    return (slice(start, start + some) for start in range(0, len(rows), some))
