"""NeuralNDCG: NDCG of a soft permutation with normalised rows and columns."""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.errors import ConfigError
from cascaderank.losses import LOSSES
from cascaderank.losses._gains import soft_ndcg_loss
from cascaderank.relevance import Gain
from cascaderank.sorting import PermutationOperator, permutation
from cascaderank.tensors import Reduction, at_least_float32, check_lists, reduce_lists

_MOST_SCALINGS = 10_000

_MIN_SUM = 1e-6
"""Rows and columns with a sum of at most this are not scaled, as they may be padding."""

_ENTRIES_PER_CHUNK = {"cpu": 2**18}
"""Number of matrix entries scaled together; on a CPU, as many as fit into its cache."""

_ENTRIES_PER_CHUNK_ELSEWHERE = 2**24
"""On other devices, enough to use all of their processors."""


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
    r"""Compute ``1 - NDCG`` of gains sorted by a soft permutation with normalised columns.

    .. math::
        \ell = 1 - \sum_{r \le m} \frac{(P G)_r}{\log_2(1 + r)}

    where P is the soft permutation and G the gain divided by the ideal DCG of the list. Columns
    and rows of P are scaled in turn until both add up to about 1 (Sinkhorn iteration); otherwise a
    gain could be counted more than once. Time and memory are quadratic in the length of the list.

    Args:
        scores: ``[..., list]``, higher is better.
        labels: ``[..., list]``, at least 0; higher is better.
        m: cut-off of NDCG@m, at least 1; ``None`` for NDCG of the whole list.
        gain: ``"exponential"`` for ``2^y - 1``, ``"linear"`` for ``y``.
        scalings: number of Sinkhorn iterations, 0 to 10,000.
        operator: operator with a permutation: a name in ``cascaderank.sorting.OPERATORS``, or an
            instance.
        temperature: temperature of the operator, positive: a number, or a tensor ``[...]`` with
            one value per list.
        mask: ``[..., list]`` bool, ``True`` for a real candidate.
        reduction: reduction over lists: ``"mean"``, ``"sum"``, or ``"none"`` for one value per
            list.

    Returns:
        Loss in [0, 1], of the scores' dtype; exactly 0 for a list without positive gain.

    Raises:
        ShapeError: if shapes or dtypes do not agree.
        ConfigError: if an option is unknown or out of range.

    Examples:
        >>> labels = torch.tensor([2.0, 1.0, 0.0])
        >>> neural_ndcg_loss(torch.tensor([3.0, 2.0, 1.0]), labels)
        tensor(0.0615)
        >>> neural_ndcg_loss(torch.tensor([1.0, 2.0, 3.0]), labels)
        tensor(0.3669)

    Source: Pobrotyn and Bialobrzeski 2021 (arXiv 2102.07831).
    """
    is_integer = isinstance(scalings, int) and not isinstance(scalings, bool)
    if not is_integer or not 0 <= scalings <= _MOST_SCALINGS:
        raise ConfigError(
            f"scalings must be an integer of at least 0 and at most {_MOST_SCALINGS:,}; "
            f"got {scalings!r}"
        )
    mask = check_lists(scores, labels, mask)
    rows = permutation(
        at_least_float32(scores), operator=operator, temperature=temperature, mask=mask
    )
    if scalings and rows.numel():
        flat = rows.reshape(-1, *rows.shape[-2:])
        scaled = _Sinkhorn.apply(flat, scalings)  # type: ignore[no-untyped-call]
        rows = cast("Tensor", scaled).view(rows.shape)
    loss = soft_ndcg_loss(rows, labels, m=m, gain=gain, mask=mask)
    return reduce_lists(loss, reduction).to(scores.dtype)


class _Sinkhorn(torch.autograd.Function):
    """Scale columns and rows of ``[lists, rank, list]`` in turn, so that each adds up to 1.

    Scaled rows are ``left_i P_ij right_j``. An iteration therefore changes only ``left`` and
    ``right``: ``right_j`` becomes ``1 / sum_i left_i P_ij`` where the sum of the scaled column
    exceeds ``_MIN_SUM``, and is unchanged elsewhere. ``left_i`` is updated likewise.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, scalings: int) -> Tensor:
        scaled = torch.empty_like(rows)
        steps: list[tuple[Tensor, ...]] = []
        for lists in _chunks(rows):
            chunk = rows[lists]
            left, right = chunk.new_ones(chunk.shape[:-1]), chunk.new_ones(chunk.shape[::2])
            for _ in range(scalings):
                column_sums = (chunk * left[..., None]).sum(-2)
                scale_column = column_sums * right > _MIN_SUM
                right = torch.where(scale_column, 1 / column_sums, right)
                row_sums = (chunk * right[..., None, :]).sum(-1)
                scale_row = row_sums * left > _MIN_SUM
                steps.append((left, scale_column, right, scale_row))
                left = torch.where(scale_row, 1 / row_sums, left)
            steps.append((left, right))
            torch.mul(chunk * left[..., None], right[..., None, :], out=scaled[lists])
        ctx.scalings = scalings
        ctx.save_for_backward(rows, *(x for step in steps for x in step))
        return scaled

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
        rows, *saved = ctx.saved_tensors
        grad_rows, tensors = torch.empty_like(rows), iter(saved)
        for lists in _chunks(rows):
            chunk = rows[lists]
            steps = [[next(tensors) for _ in range(4)] for _ in range(ctx.scalings)]
            left, right = next(tensors), next(tensors)
            weighted = grad_output[lists] * chunk
            grad_left = (weighted * right[..., None, :]).sum(-1)
            grad_right = (weighted * left[..., None]).sum(-2)
            grad_chunk = grad_output[lists] * left[..., None] * right[..., None, :]
            row_factors, column_factors = [], []  # their outer products are added to the gradient
            for earlier_left, scale_column, right, scale_row in reversed(steps):
                # Where a row was scaled, left is the reciprocal of its sum.
                grad_row_sums = torch.where(scale_row, -grad_left * left.square(), 0.0)
                grad_left = torch.where(scale_row, 0.0, grad_left)
                grad_right += (chunk * grad_row_sums[..., None]).sum(-2)
                row_factors.append(grad_row_sums)
                column_factors.append(right)
                grad_column_sums = torch.where(scale_column, -grad_right * right.square(), 0.0)
                grad_right = torch.where(scale_column, 0.0, grad_right)
                grad_left += (chunk * grad_column_sums[..., None, :]).sum(-1)
                row_factors.append(earlier_left)
                column_factors.append(grad_column_sums)
                left = earlier_left
            grad_chunk.baddbmm_(torch.stack(row_factors, -1), torch.stack(column_factors, -2))
            grad_rows[lists] = grad_chunk
        return grad_rows, None


def _chunks(rows: Tensor) -> Iterator[slice]:
    """Yield slices of the lists of ``[lists, rank, list]`` that are scaled together."""
    entries = _ENTRIES_PER_CHUNK.get(rows.device.type, _ENTRIES_PER_CHUNK_ELSEWHERE)
    lists = max(1, entries // rows[0].numel())
    return (slice(start, start + lists) for start in range(0, len(rows), lists))
