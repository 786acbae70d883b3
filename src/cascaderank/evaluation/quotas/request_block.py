"""Some requests, padded to one length, with the ranks of their candidates in every stage."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Block(NamedTuple):
    """Some requests, padded to the longest of them. Padding ranks last in every stage."""

    requests: Integers
    """``[block]`` index of each request."""
    scores: NDArray[np.floating]
    """``[stages, block, list]``; NaN is padding."""
    order: Integers
    """``[stages, block, list]`` candidates by stage, best first, then padding."""
    ranks: NDArray[np.int32]
    """``[stages, block, list]`` rank of each candidate in its list, 0 is the best."""
    lengths: Integers
    """``[block]`` number of real candidates."""
    target_rows: Integers
    """``[targets]`` row of each target in the block."""
    target_columns: Integers
    """``[targets]`` candidate of each target."""
    weights: Floats
    """``[targets]`` share of each target in the ground truth of its request."""

    @property
    def real(self) -> NDArray[np.bool_]:
        """``[block, list]`` whether a candidate is real, not padding."""
        return np.arange(self.scores.shape[-1]) < self.lengths[:, None]

    def best(self, stage: int, alive: NDArray[np.bool_], numbers: Integers) -> NDArray[np.bool_]:
        """Return the candidates that a stage keeps, ``[block, list]``.

        Args:
            stage: index of the stage.
            alive: ``[block, list]`` candidates that it receives.
            numbers: ``[block]`` number of candidates to keep.
        """
        in_order = np.take_along_axis(alive, self.order[stage], axis=1)
        first = in_order & (in_order.cumsum(1) <= numbers[:, None])
        kept = np.zeros_like(alive)
        np.put_along_axis(kept, self.order[stage], first, axis=1)
        return kept

    def received(self, vectors: Integers) -> Iterator[Integers]:
        """Yield, for each vector of quotas, what the stage after these quotas receives.

        A candidate is represented by its rank in that stage plus the index of its request times the
        width of the block, so that the candidates of all requests, by rank, are ascending.

        Args:
            vectors: ``[vectors, stages]`` quotas of fewer stages than there are, at most the width
                of the block; fast if vectors with a common beginning follow each other.

        Yields:
            ``[block, quota]`` ranks, from 0; ascending.
        """
        offsets = np.arange(len(self.lengths))[:, None] * self.scores.shape[-1]
        following = [
            (np.take_along_axis(ranks, order, axis=1) + offsets).ravel()
            for ranks, order in zip(self.ranks[1 : 1 + vectors.shape[1]], self.order, strict=False)
        ]
        received = [offsets + np.arange(self.scores.shape[-1])]
        former: tuple[int, ...] = ()
        for vector in map(tuple, vectors.tolist()):
            same = 0
            while same < len(former) and former[same] == vector[same]:
                same += 1
            del received[same + 1 :]
            for ranks, quota in zip(following[same:], vector[same:], strict=True):
                kept = ranks[received[-1][:, :quota]]
                kept.sort(axis=1)
                received.append(kept)
            former = vector
            yield received[-1]

    def places(self, received: Integers, stage: int) -> tuple[Integers, NDArray[np.bool_]]:
        """Return the place of each target among the candidates of :meth:`received`.

        Args:
            received: ``[block, size]`` ranks.
            stage: index of the stage that receives them.

        Returns:
            ``[targets]`` places from 0, and whether the target is among them.
        """
        target = self.ranks[stage, self.target_rows, self.target_columns]
        target = target + self.target_rows * self.scores.shape[-1]
        found = received.ravel().searchsorted(target)
        present = received.ravel()[np.minimum(found, received.size - 1)] == target
        return found - self.target_rows * received.shape[1], present

    def share(self, kept: NDArray[np.bool_]) -> Floats:
        """Return the share of the ground truth in some candidates, ``[block]``.

        Args:
            kept: ``[block, list]`` candidates.
        """
        hits = kept[self.target_rows, self.target_columns] * self.weights
        return np.bincount(self.target_rows, hits, len(self.lengths)).astype(np.float64)
