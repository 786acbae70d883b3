"""Top-k probabilities of NeuralSort: chunks of lists, each by the fastest of three methods."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from cascaderank.sorting._neural_sort.fused import (
    FusedSums,
    fused_gradient,
    sum_fused,
    use_kernels,
)
from cascaderank.sorting._neural_sort.lines import (
    LOG2_E,
    SYNC_LENGTH,
    Lines,
    Sorted,
    gradient_of_scores,
    gradient_of_temperature,
    lines_of,
)
from cascaderank.sorting._neural_sort.small_logits import (
    SmallLogitSums,
    small_logits_gradient,
    sum_small_logits,
)
from cascaderank.sorting._neural_sort.streamed import (
    StreamedSums,
    streamed_gradient,
    sum_streamed,
)
from cascaderank.tensors import full_precision

_CHUNK = {"cpu": 2**16}
"""Number of candidates sorted at once: on a CPU, as many as stay in the cache. Torch processes half
as many in one thread; starting another thread takes about as long as a step does."""

_LARGE_CHUNK = 2**22
"""Number of candidates sorted at once on other devices: enough to occupy the whole device."""

_SMALL = 12.0
"""Largest absolute value of a pull times a slope, and so of an intercept, that can be exponentiated
without subtracting the maximum."""


class TopKOfLines(torch.autograd.Function):
    """Top-k probabilities as a function of scores, computed for chunks of lists in order of score.

    ``apply(scores, temperature, k, mask, what)`` returns ``[lists, list]``: the probability of
    being kept (``"share"``), or the log-probabilities of being kept and of being dropped
    (``"logs"``). Where the result is undefined or trivial (under the mask, and where k keeps all or
    none), the values are arbitrary and must receive no gradient.
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
                lines, sorting = lines_of(scores[some], temperature[some], k[some], real)
                sums = _sum(lines)
                shares = sums.logs() if what == "logs" else (sums.share(),)
                for result, one in zip(results, shares, strict=True):
                    result[some].scatter_(-1, sorting.order, one)
                chunks.append(_Chunk(lines, sorting, sums))
        ctx.some, ctx.emptied = list(_chunks(scores)), [_without_tensors(chunk) for chunk in chunks]
        share = () if what == "logs" else results
        ctx.save_for_backward(*(x for chunk in chunks for x in _tensors_in(chunk)), *share)
        return results if what == "logs" else results[0]

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_kept: Tensor | None, of_dropped: Tensor | None = None
    ) -> tuple[Tensor | None, ...]:
        if of_kept is None and of_dropped is None:
            return None, None, None, None, None
        tensors = iter(ctx.saved_tensors)
        chunks: list[_Chunk] = [_with_tensors(emptied, tensors) for emptied in ctx.emptied]
        if of_kept is not None:
            for share in tensors:  # saved only for "share": d share = share * d log share
                of_kept = of_kept * share
        of_scores, of_temperature = [], []
        for some, chunk in zip(ctx.some, chunks, strict=True):
            with full_precision(chunk.lines.slope):
                of_lines = _gradient(
                    chunk, *(x if x is None else x[some] for x in (of_kept, of_dropped))
                )
            of_scores.append(gradient_of_scores(chunk.lines, chunk.sorting, *of_lines))
            if ctx.needs_input_grad[1]:
                one = gradient_of_temperature(chunk.lines, chunk.sorting, *of_lines)
                of_temperature.append(one)
        return _concatenated(of_scores), _concatenated(of_temperature), None, None, None


def _concatenated(parts: list[Tensor]) -> Tensor | None:
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class _Chunk(NamedTuple):
    """Some lists, and the tensors that their gradient needs."""

    lines: Lines
    sorting: Sorted
    sums: SmallLogitSums | StreamedSums | FusedSums


def _chunks(scores: Tensor) -> Iterator[slice]:
    """Yield slices of lists of about equal size, as few as possible."""
    lists, length = scores.shape
    most = max(1, _CHUNK.get(scores.device.type, _LARGE_CHUNK) // length)
    some = math.ceil(lists / math.ceil(lists / most))
    return (slice(start, start + some) for start in range(0, lists, some))


def _sum(lines: Lines) -> SmallLogitSums | StreamedSums | FusedSums:
    if use_kernels(lines.slope):
        return sum_fused(lines)
    length = lines.slope.shape[-1]
    if lines.slope.device.type == "cpu" or length >= SYNC_LENGTH:
        steepest = max(float(lines.slope.amax()), -float(lines.slope.amin())) / LOG2_E
        if length * steepest <= _SMALL:
            return sum_small_logits(lines, max(steepest, torch.finfo(lines.slope.dtype).tiny))
    return sum_streamed(lines)


def _gradient(
    chunk: _Chunk, of_kept: Tensor | None, of_dropped: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients with respect to slope and intercept to base e, given those above."""
    above = (x if x is None else x.gather(-1, chunk.sorting.order) for x in (of_kept, of_dropped))
    if isinstance(chunk.sums, FusedSums):
        return fused_gradient(chunk.lines, chunk.sums, *above)
    if isinstance(chunk.sums, SmallLogitSums):
        return small_logits_gradient(chunk.sums, *above)
    return streamed_gradient(chunk.lines, chunk.sums, *above)


def _tensors_in(record: tuple[Any, ...]) -> Iterator[Tensor]:
    """Yield the tensors of nested records."""
    for x in record:
        if isinstance(x, tuple):
            yield from _tensors_in(x)
        elif isinstance(x, Tensor):
            yield x


def _without_tensors(record: Any) -> Any:
    """Return the same nested records with a placeholder for each tensor."""
    return type(record)._make(
        _without_tensors(x) if isinstance(x, tuple) else Tensor if isinstance(x, Tensor) else x
        for x in record
    )


def _with_tensors(record: Any, tensors: Iterator[Tensor]) -> Any:
    """Return the same nested records with tensors in place of the placeholders."""
    return type(record)._make(
        _with_tensors(x, tensors) if isinstance(x, tuple) else next(tensors) if x is Tensor else x
        for x in record
    )
