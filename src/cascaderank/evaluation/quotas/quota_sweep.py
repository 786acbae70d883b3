"""Joint recall of all vectors of quotas, from the ranks of the ground truth."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError, counted
from cascaderank.evaluation.quotas.request_block import Block, Floats, Integers
from cascaderank.evaluation.quotas.scored_requests import ScoredRequests
from cascaderank.limits import check_fits
from cascaderank.selection import check_size

MOST_VECTORS = 1_000
"""Largest number of vectors of the gridded quotas that :func:`quota_grids` returns."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class QuotaRecalls:
    """Joint recall of many vectors of quotas: gridded quotas first, then all of the next stage."""

    leading: Integers
    """``[vectors, stages - 2]`` quotas of the stages before the last two."""
    recalls: Floats
    """``[vectors, longest + 1]`` mean joint recall, by the quota of the last stage but one, from 0.
    NaN where that quota is below the last one or above the one before it."""
    last: int
    """Quota of the last stage."""

    def quotas(self, vector: int, quota: int) -> tuple[int, ...]:
        """Return all quotas of an entry of :attr:`recalls`."""
        return (*(int(q) for q in self.leading[vector]), int(quota), self.last)


def quota_grids(
    requests: ScoredRequests, *, last: int, values: int = 40, present: Sequence[int] = ()
) -> list[Integers]:
    """Return the quotas to evaluate for the stages before the last two.

    They are all integers from ``last`` to the longest list if there are at most ``values`` of them;
    otherwise ``values`` integers in geometric progression. Fewer are used if the number of
    non-increasing vectors would exceed :data:`MOST_VECTORS`, which happens from five stages on.

    Args:
        requests: requests with at least two stages.
        last: quota of the last stage, positive.
        values: number of quotas per stage, at least 2.
        present: quotas to include, one per stage.

    Examples:
        >>> scores = np.zeros((3, 100), dtype=np.float32)
        >>> none = np.zeros(0, dtype=np.int64)
        >>> args = {"lengths": np.array([100]), "targets": none, "weights": none.astype(float)}
        >>> quota_grids(ScoredRequests(scores=scores, **args), last=10, values=4)[0].tolist()
        [10, 22, 46, 100]
    """
    check_size(last, "last")
    if values < 2:
        raise ConfigError(f"values must be at least 2; got {values}")
    gridded, longest = requests.stages - 2, max(requests.longest, last)
    while gridded > 1 and values > 2 and math.comb(values + gridded - 1, gridded) > MOST_VECTORS:
        values -= 1
    if longest - last < values:
        grid = np.arange(last, longest + 1)
    else:
        grid = np.unique(np.rint(np.geomspace(last, longest, values)).astype(np.int64))
    own = [min(max(q, last), longest) for q in present[:gridded]]
    return [np.unique([*grid, *own[i : i + 1]]) for i in range(max(gridded, 0))]


def quota_recalls(
    requests: ScoredRequests,
    *,
    last: int,
    grids: Sequence[Integers],
    progress: Callable[[int], None] | None = None,
) -> QuotaRecalls:
    r"""Return the mean joint recall of every vector of quotas, exactly.

    Let :math:`A_0` be all candidates of a request and :math:`A_s` the best :math:`q_s` of
    :math:`A_{s-1}` by stage s; of equal scores, the candidate earlier in the list is better.
    Candidate i of the ground truth survives if it is in :math:`A_S`. For given
    :math:`q_1, \ldots, q_{S-2}`, sort :math:`A_{S-2}` by stage :math:`S-1`, best first, and let

    * p be the rank of i in this order, from 1;
    * u be the rank, minus 1, of the :math:`q_S`-th candidate that the last stage ranks before i; if
      there are fewer, :math:`u = |A_{S-2}|`.

    :math:`A_{S-1}` is the first :math:`q_{S-1}` of this order. It contains i if
    :math:`q_{S-1} \ge p`, and fewer than :math:`q_S` candidates that are better than i if
    :math:`q_{S-1} \le u`. Hence i survives exactly for

    .. math::
        p \le q_{S-1} \le u

    The two ends give the recall for *all* :math:`q_{S-1}` by a cumulative sum. The upper end exists
    because more candidates for the last stage mean more competitors: recall can fall as a quota
    grows. The earlier quotas run over a grid: for each vector of them, :math:`A_{S-2}` is sorted
    again.

    Time is proportional to the number of vectors of gridded quotas, times the mean of
    :math:`q_{S-2}` over them, times the number of targets. With 40 quotas per stage, four stages
    and 1,000 candidates, that are 820 vectors, some 150 candidates, and 10,000 targets of 1,000
    requests: about three seconds on one core. Two stages have no grid, and need milliseconds.
    Memory is bounded: requests are processed in blocks.

    Args:
        requests: scored requests with at least two stages; those without ground truth are excluded.
        last: quota of the last stage, which is the length of the final list.
        grids: ascending quotas to evaluate for each stage before the last two; vectors that
            increase, or have a quota below ``last``, are omitted.
        progress: callback, called with 1 after each block.

    Raises:
        ConfigError: if there are fewer than two stages, the number of grids does not match, no
            vector remains, or no request has ground truth.

    Examples:
        >>> import torch
        >>> scores = torch.tensor([[[3.0, 2.0, 1.0]], [[1.0, 2.0, 3.0]]])
        >>> requests = ScoredRequests.of(scores, torch.tensor([[0.0, 1.0, 0.0]]), k=1)
        >>> quota_recalls(requests, last=1, grids=[]).recalls.tolist()
        [[nan, 0.0, 1.0, 0.0]]

    Source: this project.
    """
    gridded = requests.stages - 2
    if gridded < 0 or len(grids) != gridded:
        raise ConfigError(
            "quota_recalls needs at least two stages and a grid for each stage before the last "
            f"two; got {counted(requests.stages, 'stage')} and {counted(len(grids), 'grid')}"
        )
    check_size(last, "last")
    leading = _vectors(grids, last)
    longest, with_truth = max(requests.longest, last), int(requests.with_truth.sum())
    if not len(leading) or not with_truth:
        missing = "vector of quotas" if with_truth else "request with ground truth"
        raise ConfigError(f"quota_recalls needs at least one {missing}; got none")
    check_fits(
        16.0 * len(leading) * (longest + 1),
        f"the recall of {len(leading):,} vectors with {longest:,} quotas each",
        "evaluate fewer quotas per stage",
    )
    sums = np.zeros((len(leading), longest + 1))
    for block in requests.blocks():
        width = block.scores.shape[-1]
        # Quotas beyond the lists of a block keep everything, as the length of the longest list.
        capped, which = np.unique(np.minimum(leading, width), axis=0, return_inverse=True)
        of_block = np.zeros((len(capped), width + 1))
        for row, found in enumerate(_sweep(block, capped, last)):
            of_block[row, : len(found)] = found
            of_block[row, len(found) :] = found[-1]
        which = which.reshape(-1)
        sums[:, : width + 1] += of_block[which]
        sums[:, width + 1 :] += of_block[which, -1:]
        if progress is not None:
            progress(1)
    recalls, quotas = sums / with_truth, np.arange(longest + 1)
    most = leading[:, -1:] if gridded else np.array([[longest]])
    recalls[(quotas < last) | (quotas > most)] = np.nan
    return QuotaRecalls(leading=leading, recalls=recalls, last=last)


def _vectors(grids: Sequence[Integers], last: int) -> Integers:
    """Return all non-increasing vectors of a grid in lexicographic order, ``[vectors, grids]``."""
    vectors = np.zeros((1, 0), dtype=np.int64)
    for grid in grids:
        next_quotas = np.tile(grid[grid >= last], len(vectors))[:, None]
        pairs = np.hstack([np.repeat(vectors, (grid >= last).sum(), axis=0), next_quotas])
        vectors = pairs if not vectors.shape[1] else pairs[pairs[:, -1] <= pairs[:, -2]]
    return vectors


def _sweep(block: Block, leading: Integers, last: int) -> Iterator[Floats]:
    """Yield, for each vector of leading quotas, the sum over requests of recall by the next quota.

    Args:
        block: requests.
        leading: ``[vectors, stages - 2]`` in lexicographic order, at most the width of the block.
        last: quota of the last stage.

    Yields:
        ``[members + 1]``, by the quota of the last stage but one, from 0.
    """
    by_last = np.take_along_axis(block.ranks[-1], block.order[-2], axis=1).ravel()
    by_last = by_last.astype(_counter(block.scores.shape[-1]))
    for received in block.received(leading):
        yield _by_next_quota(block, received, by_last, last)


def _by_next_quota(
    block: Block, received: Integers, by_last: NDArray[np.signedinteger], last: int
) -> Floats:
    """Return the sum of recall for every quota of the last stage but one, ``[members + 1]``.

    Args:
        block: requests.
        received: ``[block, members]`` what this stage receives, see :meth:`Block.received`.
        by_last: ``[block * width]`` rank in the last stage of the same candidates.
        last: quota of the last stage.
    """
    size, width = received.shape[1], block.scores.shape[-1]
    place, present = block.places(received, len(block.ranks) - 2)
    alive = np.flatnonzero(present)
    place, rows = place[alive], block.target_rows[alive]
    own = by_last[received[rows, place]]
    better = by_last[received][rows] < own[:, None]
    end = np.full(len(alive), size)
    crossed = np.flatnonzero(np.count_nonzero(better, axis=1) >= last)
    numbers = better[crossed].cumsum(axis=1, dtype=_counter(width))
    end[crossed] = (numbers >= last).argmax(axis=1)
    weights = block.weights[alive]
    steps = np.bincount(place + 1, weights, size + 2)
    steps -= np.bincount(np.maximum(place, end) + 1, weights, size + 2)
    return steps[:-1].cumsum()


def _counter(size: int) -> type[np.signedinteger]:
    return np.int16 if size < 2**15 else np.int32
