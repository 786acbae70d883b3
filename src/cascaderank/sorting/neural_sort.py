"""NeuralSort: every rank chooses a candidate by a softmax."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast, final

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.sorting._fused import Fused, fused_gradient, is_for, sum_fused
from cascaderank.sorting._gentle import Gentle, gentle_gradient, sum_gently
from cascaderank.sorting._interface import OPERATORS, PermutationOperator, Ranks
from cascaderank.sorting._line_rows import CrossEntropyOfLines
from cascaderank.sorting._lines import (
    LOG2_E,
    Lines,
    Sorted,
    gradient_of_scores,
    gradient_of_temperature,
    lines_of,
)
from cascaderank.sorting._rows import log_softmax_of_real
from cascaderank.sorting._scaling import scale_lists, spread
from cascaderank.sorting._sorted_values import SumOfLines
from cascaderank.sorting._streamed import Sharp, sharp_gradient, sum_sharply
from cascaderank.tensors import count_real, full_precision, is_whole

_AT_ONCE = {"cpu": 2**16}
"""How many candidates are sorted at once: on a CPU, as many as stay in the cache. Torch works on
half as many in one thread; to wake another one takes about as long as a step does."""

_MANY = 2**22
"""On other devices, to keep all of them busy."""

_LONG = 512
"""Lists of this length are worth waiting for a device that is not the CPU."""

_GENTLE = 12.0
"""Pulls times slopes between this and its negative can be exponentiated as they are, and so can
intercepts, which are no larger."""


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
        slope = gain * unit
        distances = (slope[..., :, None] - slope[..., None, :]).abs()
        if not is_whole(mask):
            distances = distances * mask[..., None, :]
        rank = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
        pull = (mask.sum(-1, keepdim=True) + 1 - 2 * rank).to(slope)  # [..., rank]
        logits = pull[..., :, None] * slope[..., None, :] - distances.sum(-1)[..., None, :]
        return log_softmax_of_real(logits, mask)

    def log_top_k(
        self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors ``[..., list]``; see :class:`Operator`."""
        flat = _flat(scores, temperature, k, mask)
        logs = _TopK.apply(*flat, "logs")  # type: ignore[no-untyped-call]
        log_kept, log_dropped = cast("tuple[Tensor, Tensor]", logs)
        return log_kept.view(scores.shape), log_dropped.view(scores.shape)

    def top_k(self, scores: Tensor, k: Tensor, *, temperature: Tensor, mask: Tensor) -> Tensor:
        """Return ``[..., list]``; see :class:`Operator`."""
        flat = _flat(scores, temperature, k, mask)
        kept = _TopK.apply(*flat, "share")  # type: ignore[no-untyped-call]
        return cast("Tensor", kept).view(scores.shape)

    def cross_entropy(
        self, scores: Tensor, ranks: Ranks, *, temperature: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return two tensors, ``[...]`` and ``[..., list]``; see :class:`PermutationOperator`."""
        unit, gain = scale_lists(scores, temperature, mask)
        wanted = ranks.first + ranks.behind - 1
        flat = (x.reshape(-1, x.shape[-1]) for x in (unit, gain, wanted, mask))
        cost, totals = CrossEntropyOfLines.apply(*flat)  # type: ignore[no-untyped-call]
        return cost.view(scores.shape[:-1]), totals.view(scores.shape)

    def sum_sorted(
        self, scores: Tensor, values: Tensor, weights: Tensor, *, temperature: Tensor, mask: Tensor
    ) -> Tensor:
        """Return ``[...]``; see :class:`PermutationOperator`."""
        unit, gain = scale_lists(scores, temperature, mask)
        flat = (x.reshape(-1, x.shape[-1]) for x in (unit, gain, values, mask))
        sums = SumOfLines.apply(*flat, weights)  # type: ignore[no-untyped-call]
        return cast("Tensor", sums).view(scores.shape[:-1])

    def temperature_scale(self, scores: Tensor, *, mask: Tensor) -> Tensor:
        """Return the number of candidates times the spread of their scores, ``[...]``."""
        return count_real(mask).clamp(min=1) * spread(scores, mask)


def _flat(
    scores: Tensor, temperature: Tensor, k: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return one list a row; no mask if every candidate is real."""
    scores, temperature, k, mask = (
        x.reshape(-1, x.shape[-1]) for x in (scores, temperature[..., None], k[..., None], mask)
    )
    return scores, temperature, k, None if is_whole(mask) else mask


class _TopK(torch.autograd.Function):
    """From scores to what is kept, some lists at a time, each in the order of its scores.

    ``apply(scores, temperature, k, mask, what)`` returns ``[lists, list]``: the ``"share"`` that is
    kept, or the ``"logs"`` of the shares that are kept and dropped. Where there is nothing to say
    (under the mask, and where k keeps all or none), the numbers mean nothing, and must get no
    gradient from above.
    """

    @staticmethod
    def forward(
        ctx: Any, scores: Tensor, temperature: Tensor, k: Tensor, mask: Tensor | None, what: str
    ) -> Tensor | tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        results = tuple(torch.empty_like(scores) for _ in range(2 if what == "logs" else 1))
        chunks = []
        with full_precision(scores):
            for some in _chunks(scores):
                real = None if mask is None else mask[some]
                lines, how = lines_of(scores[some], temperature[some], k[some], real)
                sums = _sum(lines)
                found = sums.logs() if what == "logs" else (sums.share(),)
                for result, one in zip(results, found, strict=True):
                    result[some].scatter_(-1, how.order, one)
                chunks.append(_Chunk(lines, how, sums))
        ctx.some, ctx.emptied = list(_chunks(scores)), [_emptied(chunk) for chunk in chunks]
        share = () if what == "logs" else results
        ctx.save_for_backward(*(x for chunk in chunks for x in _tensors(chunk)), *share)
        return results if what == "logs" else results[0]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_kept: Tensor | None, of_dropped: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        if of_kept is None and of_dropped is None:
            return None, None, None, None, None
        tensors = iter(ctx.saved_tensors)
        chunks: list[_Chunk] = [_filled(emptied, tensors) for emptied in ctx.emptied]
        if of_kept is not None:
            for share in tensors:  # what is left: it was not the logarithm that was asked for
                of_kept = of_kept * share
        of_scores, of_temperature = [], []
        for some, chunk in zip(ctx.some, chunks, strict=True):
            with full_precision(chunk.lines.slope):
                of_lines = _gradient(
                    chunk, *(x if x is None else x[some] for x in (of_kept, of_dropped))
                )
            of_scores.append(gradient_of_scores(chunk.lines, chunk.how, *of_lines))
            if ctx.needs_input_grad[1]:
                one = gradient_of_temperature(chunk.lines, chunk.how, *of_lines)
                of_temperature.append(one)
        return _joined(of_scores), _joined(of_temperature), None, None, None


def _joined(parts: list[Tensor]) -> Tensor | None:
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Chunk(NamedTuple):
    """Some lists, and all that their gradient needs."""

    lines: Lines
    how: Sorted
    sums: Gentle | Sharp | Fused


def _chunks(scores: Tensor) -> Iterator[slice]:
    """Yield about as many lists at a time, and as few times as may be."""
    lists, length = scores.shape
    most = max(1, _AT_ONCE.get(scores.device.type, _MANY) // length)
    some = math.ceil(lists / math.ceil(lists / most))
    return (slice(start, start + some) for start in range(0, lists, some))


def _sum(lines: Lines) -> Gentle | Sharp | Fused:
    if is_for(lines.slope):
        return sum_fused(lines)
    length = lines.slope.shape[-1]
    if lines.slope.device.type == "cpu" or length >= _LONG:
        steepest = max(float(lines.slope.amax()), -float(lines.slope.amin())) / LOG2_E
        if length * steepest <= _GENTLE:
            return sum_gently(lines, max(steepest, torch.finfo(lines.slope.dtype).tiny))
    return sum_sharply(lines)


def _gradient(
    chunk: _Chunk, of_kept: Tensor | None, of_dropped: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients by slope and intercept to base e, given those by the logarithms."""
    above = (x if x is None else x.gather(-1, chunk.how.order) for x in (of_kept, of_dropped))
    if isinstance(chunk.sums, Fused):
        return fused_gradient(chunk.lines, chunk.sums, *above)
    if isinstance(chunk.sums, Gentle):
        return gentle_gradient(chunk.sums, *above)
    return sharp_gradient(chunk.lines, chunk.sums, *above)


def _tensors(record: tuple[Any, ...]) -> Iterator[Tensor]:
    """Yield the tensors that records of records are made of."""
    for x in record:
        if isinstance(x, tuple):
            yield from _tensors(x)
        elif isinstance(x, Tensor):
            yield x


def _emptied(record: Any) -> Any:
    """Return the same records without tensors."""
    return type(record)._make(
        _emptied(x) if isinstance(x, tuple) else Tensor if isinstance(x, Tensor) else x
        for x in record
    )


def _filled(record: Any, tensors: Iterator[Tensor]) -> Any:
    """Return the same records with tensors in them again."""
    return type(record)._make(
        _filled(x, tensors) if isinstance(x, tuple) else next(tensors) if x is Tensor else x
        for x in record
    )
