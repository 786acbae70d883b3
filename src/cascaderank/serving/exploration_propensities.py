"""Probability with which exploration serves each candidate, by Monte Carlo over its noise."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError
from cascaderank.serving.cut import best_first, kept_places
from cascaderank.serving.exploration import Exploration
from cascaderank.serving.stage_plan import StagePlan

Places = NDArray[np.int64]
Scores = NDArray[np.float32]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Explored:
    """A request with exploration, as a function of the request vector of the first stage."""

    vector: Scores
    """``[width]`` request vector without noise."""
    encoded: RequestBatch
    """The encoded request."""
    plans: Sequence[StagePlan]
    """Stages, first stage first."""
    start: Callable[[], tuple[Places, Tensor]]
    """Returns the candidates that the filters leave, ascending, and their vectors."""
    scores: Callable[[StagePlan, Places, Scores], Scores]
    """Scores of some candidates by a later stage, given those of the stage before it."""
    quotas: Sequence[int]
    """One per stage."""
    length: int
    """Maximum length of the list."""
    logged: Places
    """``[logged]`` positions of the candidates whose probability is requested."""

    def served_with(self, vectors: Scores) -> NDArray[np.bool_]:
        """Return which candidates would be served with other vectors, ``[draws, logged]``.

        Later stages score each candidate once, except those that read the previous stage.

        Args:
            vectors: ``[draws, width]``.
        """
        with torch.inference_mode():
            first, *others = self.plans
            start, parts = self.start()
            kept = []
            for vector in torch.from_numpy(vectors):
                scores = first.scores_of_parts(self.encoded, parts, vector)
                places = kept_places(scores, self.quotas[0])
                kept.append((start[places], scores[places]))
            for plan, quota in zip(others, self.quotas[1:], strict=True):
                union = np.unique(np.concatenate([places for places, _ in kept]))
                if not len(union):
                    break
                scores = np.zeros(len(union), np.float32)
                if not plan.previous:
                    scores = self.scores(plan, union, scores)
                for draw, (places, before) in enumerate(kept):
                    own = scores[np.searchsorted(union, places)]
                    if plan.previous and len(places):
                        own = self.scores(plan, places, before)
                    left = kept_places(own, quota)
                    kept[draw] = places[left], own[left]
            lists = [places[best_first(scores)[: self.length]] for places, scores in kept]
            return np.stack([np.isin(self.logged, places) for places in lists])


def served_propensities(
    explored: Explored, exploration: Exploration, *, draws: int, seed: int = 0
) -> NDArray[np.float64]:
    r"""Return the probability of each logged candidate to be served, given random noise.

    The noise of exploration is drawn anew, and the whole cascade cuts anew with each draw: the
    share of the draws in which a candidate is in the final list is its propensity :math:`\rho^0`
    of :class:`~cascaderank.evaluation.exposure_log.ExposureLog`. Its standard error is
    :math:`\sqrt{\rho (1 - \rho) / \text{draws}}`. It is exactly 0 for a candidate that no draw
    serves: use more draws if it was served.

    Args:
        explored: ``answer.logged.explored`` of an answer with exploration.
        exploration: the noise of that answer.
        draws: number of draws, at least 1.
        seed: seed of the draws, which are independent of the noise of the answer.

    Returns:
        ``[logged]`` in [0, 1].

    Raises:
        ConfigError: if ``draws`` is below 1.

    Source: this project.
    """
    if draws < 1:
        raise ConfigError(f"draws must be at least 1; got {draws}")
    text = f"draws {seed} {exploration.seed} ".encode() + explored.vector.tobytes()
    digest = hashlib.blake2b(text, digest_size=16).digest()
    generator = np.random.default_rng(int.from_bytes(digest, "little"))
    served = explored.served_with(exploration.draws(explored.vector, draws, generator))
    return served.mean(axis=0, dtype=np.float64)  # type: ignore[no-any-return]
