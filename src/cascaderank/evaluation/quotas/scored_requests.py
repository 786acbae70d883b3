"""Scores of all stages for the candidates of some requests, in memory, with their ground truth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError, DataError, ShapeError
from cascaderank.evaluation.evaluate import Batches, evaluation_mode
from cascaderank.evaluation.quotas.request_block import Block, Floats, Integers
from cascaderank.selection import relevance_of, total
from cascaderank.tensors import check_mask, check_quotas

_CELLS_AT_ONCE = 1 << 21
"""Number of pairs of a target and a candidate of one block."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRequests:
    """Candidates of some requests without padding: scores of all stages, and the ground truth.

    A candidate of the ground truth is a *target*. Memory: 4 bytes per stage and candidate for
    float32 scores, 16 bytes per target.

    Examples:
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
        >>> labels = torch.tensor([[0.0, 1.0, 0.0]])
        >>> requests = ScoredRequests.of(scores, labels, k=1)
        >>> requests.recall((2, 1)).tolist(), requests.recall((3, 1)).tolist()
        ([1.0], [0.0])

    Source: this project.
    """

    lengths: Integers
    """``[requests]`` number of candidates of each request."""
    scores: NDArray[np.floating]
    """``[stages, candidates]``, requests one after another; higher is better."""
    targets: Integers
    """``[targets]`` index of the candidates of the ground truth, ascending."""
    weights: Floats
    """``[targets]`` share of each target in the ground truth of its request, in (0, 1]."""

    @classmethod
    def of(
        cls,
        scores: Tensor,
        labels: Tensor,
        *,
        k: int | None = None,
        threshold: float | None = None,
        mask: Tensor | None = None,
    ) -> "ScoredRequests":
        """Return the requests of a batch.

        Args:
            scores: ``[stages, batch, list]`` floating point, first stage first; higher is better.
            labels: ``[batch, list]``, higher is better.
            k: size of the ground truth, the top ``k`` candidates by label.
            threshold: minimum label of the ground truth; at least one of ``k`` and ``threshold``.
            mask: ``[batch, list]`` bool, ``True`` for a real candidate.

        Raises:
            ShapeError: if the shapes or dtypes do not agree.
            ConfigError: if neither ``k`` nor ``threshold`` is given.
            DataError: if a score or a label of a real candidate is NaN.
        """
        if scores.dim() != 3 or scores.shape[1:] != labels.shape:
            raise ShapeError(
                "scores must be [stages, batch, list] and labels [batch, list]; got "
                f"{list(scores.shape)} and {list(labels.shape)}"
            )
        mask = check_mask(scores[0], mask).cpu()
        scores, labels = scores.detach().cpu(), labels.detach().cpu()
        real = scores[:, mask]
        for what, values in (("scores", real), ("labels", labels[mask])):
            wrong = int(values.isnan().sum()) if values.is_floating_point() else 0
            if wrong:
                raise DataError(
                    f"{what} must be numbers; got NaN for {wrong} of {values.numel()} values; "
                    "check the features and the training of the stages"
                )
        relevance = relevance_of(labels, k=k, threshold=threshold, mask=mask)
        shares = (relevance / total(relevance).clamp(min=1e-300)[:, None])[mask].numpy()
        targets = np.flatnonzero(shares)
        wide = torch.float64 if scores.dtype is torch.float64 else torch.float32
        return cls(
            lengths=mask.sum(-1).numpy(),
            scores=real.to(wide).numpy(),
            targets=targets,
            weights=shares[targets],
        )

    @classmethod
    def joined(cls, parts: Sequence["ScoredRequests"]) -> "ScoredRequests":
        """Return the requests of several batches, one after another; at least one batch."""
        starts = np.cumsum([0, *(part.scores.shape[1] for part in parts)])
        return cls(
            lengths=np.concatenate([part.lengths for part in parts]),
            scores=np.concatenate([part.scores for part in parts], axis=1),
            targets=np.concatenate(
                [part.targets + start for part, start in zip(parts, starts, strict=False)]
            ),
            weights=np.concatenate([part.weights for part in parts]),
        )

    @property
    def stages(self) -> int:
        """Number of stages."""
        return len(self.scores)

    @property
    def longest(self) -> int:
        """Number of candidates of the longest list."""
        return int(self.lengths.max(initial=0))

    @property
    def offsets(self) -> Integers:
        """``[requests + 1]`` index of the first candidate of each request, and of the end."""
        return np.concatenate([[0], self.lengths.cumsum()])

    @property
    def with_truth(self) -> NDArray[np.bool_]:
        """``[requests]`` whether a request has ground truth."""
        found = np.zeros(len(self.lengths), dtype=bool)
        found[self.offsets.searchsorted(self.targets, side="right") - 1] = True
        return found

    def without(self, stage: int) -> "ScoredRequests":
        """Return the same requests for the cascade without one of its stages."""
        return replace(self, scores=np.delete(self.scores, stage, axis=0))

    @property
    def number_of_blocks(self) -> int:
        """Number of blocks of :meth:`blocks`."""
        return len(self._bounds) - 1

    def blocks(self) -> Iterator[Block]:
        """Yield all requests, in blocks of similar length."""
        by_length, offsets = self.lengths.argsort(kind="stable"), self.offsets
        firsts = self.targets.searchsorted(offsets)
        for start, end in pairwise(self._bounds):
            yield self._block(by_length[start:end], offsets, firsts)

    @cached_property
    def _bounds(self) -> list[int]:
        by_length = self.lengths.argsort(kind="stable")
        targets = np.diff(self.targets.searchsorted(self.offsets))[by_length]
        # The last request of a block is its longest.
        lengths, bounds = np.maximum(self.lengths[by_length], 1), [0]
        while bounds[-1] < len(by_length):
            cells = np.maximum(targets[bounds[-1] :], 1).cumsum() * lengths[bounds[-1] :]
            bounds.append(bounds[-1] + max(1, int(cells.searchsorted(_CELLS_AT_ONCE, "right"))))
        return bounds

    def _block(self, requests: Integers, offsets: Integers, firsts: Integers) -> Block:
        lengths = self.lengths[requests]
        places = np.arange(int(lengths.max(initial=0)))
        real = places < lengths[:, None]
        source = np.where(real, offsets[requests][:, None] + places, 0)
        scores = np.where(real, self.scores[:, source], np.nan).astype(self.scores.dtype)
        order = np.argsort(-scores, axis=-1, kind="stable")  # NaN last
        ranks = np.empty(order.shape, dtype=np.int32)
        np.put_along_axis(ranks, order, places.astype(np.int32)[None, None], axis=-1)
        counts = firsts[requests + 1] - firsts[requests]
        rows = np.repeat(np.arange(len(requests)), counts)
        within = np.arange(len(rows)) - np.repeat(counts.cumsum() - counts, counts)
        chosen = firsts[requests][rows] + within
        return Block(
            requests=requests,
            scores=scores,
            order=order,
            ranks=ranks,
            lengths=lengths,
            target_rows=rows,
            target_columns=self.targets[chosen] - offsets[requests][rows],
            weights=self.weights[chosen],
        )

    def recall(self, quotas: Sequence[int]) -> Floats:
        """Return the joint recall of each request with other quotas.

        Args:
            quotas: number of candidates that each stage keeps; positive and non-increasing.

        Returns:
            ``[requests]`` in [0, 1]; NaN for a request without ground truth. It is the joint recall
            of :class:`~cascaderank.evaluation.Evaluator`, ties included.

        Raises:
            ShapeError: if the number of quotas is not that of the stages.
            ConfigError: if the quotas are not positive or increase.
        """
        return self.recalls([quotas]).reshape(-1)

    def recalls(self, vectors: Sequence[Sequence[int]]) -> Floats:
        """Return the joint recall of each request for several vectors of quotas.

        Args:
            vectors: quotas, as those of :meth:`recall`.

        Returns:
            ``[vectors, requests]``.
        """
        quotas = np.array([check_quotas(v, stages=self.stages) for v in vectors], dtype=np.int64)
        found = np.full((len(quotas), len(self.lengths)), np.nan)
        for block in self.blocks():
            capped = np.minimum(quotas, max(block.scores.shape[-1], 1))
            for row, received in enumerate(block.received(capped[:, :-1])):
                place, present = block.places(received, self.stages - 1)
                hits = block.weights * (present & (place < capped[row, -1]))
                found[row, block.requests] = np.bincount(
                    block.target_rows, hits, len(block.lengths)
                )
        found[:, ~self.with_truth] = np.nan
        return found


def score_requests(
    cascade: Cascade,
    loader: Batches,
    *,
    k: int | None = None,
    threshold: float | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] | None = None,
) -> ScoredRequests:
    """Score the requests of a loader once by all stages of a cascade.

    Args:
        cascade: cascade on ``device``; scored in evaluation mode, and its modes are restored.
        loader: requests with labels.
        k: size of the ground truth, the top ``k`` candidates by label.
        threshold: minimum label of the ground truth; at least one of ``k`` and ``threshold``.
        device: device of the computation.
        progress: callback, called with 1 after each batch.

    Raises:
        ConfigError: if neither ``k`` nor ``threshold`` is given.
        DataError: if there are no requests or labels, no request has ground truth, or a score is
            NaN.
    """
    if k is None and threshold is None:
        raise ConfigError("the ground truth must be defined by k, by threshold, or by both")
    parts = []
    with evaluation_mode(cascade), torch.no_grad():
        for batch in loader.epoch(0):
            if batch.labels is None:
                raise DataError("quotas need labels; prepare the requests with a target")
            scores = cascade(batch.to(device))
            parts.append(
                ScoredRequests.of(scores, batch.labels, k=k, threshold=threshold, mask=batch.mask)
            )
            if progress is not None:
                progress(1)
    if not parts:
        raise DataError("expected at least one request to choose quotas; got none")
    found = ScoredRequests.joined(parts)
    if not len(found.targets):
        raise DataError(
            "no request has ground truth, so the recall of quotas is undefined; check relevance "
            "and data.target of the run"
        )
    return found
