"""NeuralSort: every rank chooses a candidate by a softmax."""

from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.sorting._distances import distances_of, gradient_of_distances
from cascaderank.sorting._gentle import GentleGroup
from cascaderank.sorting._interface import OPERATORS, PermutationOperator, Ranks
from cascaderank.sorting._line_rows import CrossEntropyOfLines
from cascaderank.sorting._order import sort_best_first
from cascaderank.sorting._rows import log_softmax_of_real
from cascaderank.sorting._scaling import is_whole, scale_lists, spread
from cascaderank.sorting._streamed import Chunk, Group, gradient_of_lines, log_top_k_of_lines


@final
@OPERATORS.register
class NeuralSort(PermutationOperator):
    """Relax a permutation by the order statistics of sums of differences.

    ``P[k, j] = softmax_j(((n + 1 - 2k) s_j - sum_i |s_j - s_i|) / temperature)`` for k = 1..n.

    The logits grow with the length of the list and with the spread of its scores, so a
    temperature that is right for lists of 40 is cold for lists of 1,000. Rows add up to 1,
    columns only roughly. Time and memory of the permutation grow with the square of the list. The
    top k and the cross-entropy of ranks take linear memory, and the time of a few rows where the
    probabilities change slowly from row to row, as they do at temperatures near the number of
    candidates; that of all rows where they are sharp.

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
        flat = (x.reshape(-1, x.shape[-1]) for x in (unit, gain, k[..., None], mask))
        logs = _LogTopK.apply(*flat)  # type: ignore[no-untyped-call]
        log_kept, log_dropped = cast("tuple[Tensor, Tensor]", logs)
        return log_kept.view(scores.shape), log_dropped.view(scores.shape)

    def cross_entropy(
        self, scores: Tensor, ranks: Ranks, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors, ``[...]`` and ``[..., list]``; see :class:`PermutationOperator`."""
        unit, gain = scale_lists(scores, temperature, mask)
        wanted = ranks.first + ranks.behind - 1
        flat = (x.reshape(-1, x.shape[-1]) for x in (unit, gain, wanted, mask))
        cost, totals = CrossEntropyOfLines.apply(*flat)  # type: ignore[no-untyped-call]
        return cost.view(scores.shape[:-1]), totals.view(scores.shape)

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the number of candidates times the spread of their scores, ``[...]``."""
        return mask.sum(-1).clamp(min=1) * spread(scores, mask)


class _LogTopK(torch.autograd.Function):
    """All the way from scaled scores to logarithms, in the order of the scores."""

    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, gain: Tensor, k: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        whole = is_whole(mask)
        count = mask.sum(-1, keepdim=True)
        best_first, order = sort_best_first(unit if whole else unit.masked_fill(~mask, -2.0))
        real = None
        if not whole:  # all padding last, where it is 0
            real = mask.gather(-1, order)
            best_first.masked_fill_(~real, 0.0)
            real = real.to(unit)
        distances, ctx.ties = distances_of(best_first, count)
        slope, offset = gain * best_first, gain * distances
        with _full_precision(unit):
            *logs, chunks = log_top_k_of_lines(slope, offset, k, count, real)
        saved = [x for chunk in chunks for x in (*chunk[:2], *chunk.kept, *chunk.dropped)]
        ctx.kinds = [type(chunk.kept) for chunk in chunks]
        ctx.save_for_backward(order, best_first, distances, gain, count, *saved)
        log_kept, log_dropped = (torch.empty_like(log).scatter_(-1, order, log) for log in logs)
        return log_kept, log_dropped

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_kept: Tensor | None, of_dropped: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        order, best_first, distances, gain, count, *saved = ctx.saved_tensors
        chunks = _unpack(saved, ctx.kinds)
        above = [x if x is None else x.gather(-1, order) for x in (of_kept, of_dropped)]
        with _full_precision(gain):
            of_slope, of_offset = gradient_of_lines(chunks, *above)
        of_gain = None
        if ctx.needs_input_grad[1]:
            of_gain = (of_slope * best_first).addcmul_(of_offset, distances).sum(-1, keepdim=True)
        of_distances = gradient_of_distances(of_offset, count, ctx.ties)
        of_best_first = of_distances.add_(of_slope).mul_(gain)
        of_unit = torch.empty_like(of_best_first).scatter_(-1, order, of_best_first)
        return of_unit, of_gain, None, None


def _full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Turn mixed precision off where it is on, which takes longer than a short list does."""
    kind = like.device.type
    on = torch.is_autocast_enabled(kind)
    return torch.autocast(kind, enabled=False) if on else nullcontext()


def _unpack(saved: list[Any], kinds: list[type[Group] | type[GentleGroup]]) -> list[Chunk]:
    """Make chunks of their tensors."""
    tensors, chunks = iter(saved), []
    for kind in kinds:
        lines = [next(tensors) for _ in range(2)]
        groups = (kind(*islice(tensors, len(kind._fields))) for _ in range(2))
        chunks.append(Chunk(*lines, *groups))
    return chunks
