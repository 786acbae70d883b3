"""Candidates of an answer that are logged: all served ones, and a sample of those of each stage."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.exploration_propensities import Explored
from cascaderank.serving.feature_source import FeatureSource
from cascaderank.serving.request_candidates import Candidates

Places = NDArray[np.int64]
Scores = NDArray[np.float32]

MOST_SAMPLED = 32_767
"""Largest sample of one stage: the format of a log stores positions in 16 bits."""


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Number of candidates to log of those that each stage dropped.

    The sample is uniform, without replacement, and a function of the seed and the id of the
    request. Served candidates are always logged.

    Args:
        size: sample of each stage; all that it dropped if these are fewer.
        stages: sample of some stages by name, instead of ``size``.
        seed: seed of the samples.

    Raises:
        ConfigError: if a size is negative, or above 32,767.
    """

    size: int = 20
    stages: Mapping[str, int] = field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        for name, size in {"": self.size, **self.stages}.items():
            if not 0 <= size <= MOST_SAMPLED:
                of = f" of stage '{name}'" if name else ""
                raise ConfigError(
                    f"the sample of dropped candidates{of} must be 0 to {MOST_SAMPLED}; got {size}"
                )

    def of(self, stage: str) -> int:
        """Return the size of the sample of a stage."""
        return self.stages.get(stage, self.size)

    def generator(self, request_id: str) -> np.random.Generator:
        """Return the generator of the samples of a request."""
        text = f"sample\0{self.seed}\0{request_id}"
        digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
        return np.random.default_rng(int.from_bytes(digest, "little"))


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class LoggedCandidates:
    """Logged candidates of one answer: served ones first, then those of later stages first."""

    keys: list[Any]
    """``[logged]`` keys of the items, or their positions among the candidates."""
    places: Places
    """``[logged]`` rows in the catalogue, -1 for an item outside it."""
    levels: NDArray[np.int8]
    """``[logged]`` number of stages that kept the candidate; all of them if it was served."""
    positions: NDArray[np.int16]
    """``[logged]`` position in the list, or rank among the logged candidates of the level by the
    score of the stage that dropped them; from 1."""
    scores: Mapping[str, Scores]
    """``[logged]`` scores by stage; NaN for a candidate that the stage did not receive, and of a
    stage that was left out."""
    rates: NDArray[np.float32]
    """``[logged]`` probability with which the candidate was logged, in (0, 1]."""
    given: Mapping[str, Sequence[Any]]
    """``[logged]`` raw features that replace those of the catalogue, by name."""
    bundle: Bundle
    """Bundle of the ranker, with the catalogue."""
    source: FeatureSource | None
    """Source of features that replace those of the catalogue."""
    explored: Explored | None = None
    """What the probability of being served is computed from; ``None`` without exploration."""


@final
class CandidateRecorder:
    """Collects what :class:`LoggedCandidates` needs while a request passes the stages.

    Arrays are kept as they are, so that recording takes no time that grows with the candidates, up
    to :meth:`logged`.

    Args:
        sampling: sizes of the samples.
        request_id: id of the request.
        bundle: bundle of the ranker.
    """

    def __init__(self, sampling: Sampling, request_id: str, bundle: Bundle) -> None:
        self._sampling, self._request_id, self._bundle = sampling, request_id, bundle
        self._stages: list[tuple[str, Places | None, Scores | None]] = []
        self._parts: list[tuple[int, Places, float]] = []

    def record(self, name: str, alive: Places | None, scores: Scores, *, scored: bool) -> None:
        """Take the candidates that a stage received, ascending, and their scores.

        Args:
            name: name of the stage.
            alive: positions of the candidates; ``None`` for all.
            scores: ``[alive]``.
            scored: whether the stage computed the scores; otherwise it was left out.
        """
        self._stages.append((name, alive, scores if scored else None))

    def drawn(self, chosen: Places, count: int) -> Places:
        """Draw the samples, and return the positions of all logged candidates.

        Args:
            chosen: positions of the served candidates, best first.
            count: number of candidates of the request.
        """
        generator = self._sampling.generator(self._request_id)
        self._parts = [(len(self._stages), chosen, 1.0)]
        left = np.sort(chosen)
        for level in reversed(range(len(self._stages))):
            name, alive, _ = self._stages[level]
            received = count if alive is None else len(alive)
            dropped = received - len(left)
            size = min(self._sampling.of(name), dropped)
            if size:
                places = left if alive is None else np.searchsorted(alive, left)
                drawn = generator.choice(dropped, size, replace=False, shuffle=False)
                drawn = _others(places, drawn)
                sample = drawn if alive is None else alive[drawn]
                self._parts.append((level, self._best_first(sample, level), size / dropped))
            if alive is not None:  # otherwise there is no earlier stage
                left = alive
        return np.concatenate([sample for _, sample, _ in self._parts])

    def logged(
        self,
        drawn: Places,
        candidates: Candidates,
        *,
        source: FeatureSource | None,
        explored: Explored | None,
    ) -> LoggedCandidates:
        """Return the logged candidates.

        Args:
            drawn: result of :meth:`drawn`.
            candidates: candidates of the request.
            source: source of features.
            explored: what the probability of being served is computed from.
        """
        lengths = [len(sample) for _, sample, _ in self._parts]
        keys, numbers = candidates.keys, drawn.tolist()
        return LoggedCandidates(
            keys=[keys[i] for i in numbers],
            places=drawn if candidates.places is None else candidates.places[drawn],
            levels=np.repeat([level for level, _, _ in self._parts], lengths).astype(np.int8),
            positions=np.concatenate([np.arange(1, n + 1) for n in lengths]).astype(np.int16),
            scores={name: self._scores(drawn, i) for i, (name, _, _) in enumerate(self._stages)},
            rates=np.repeat([rate for _, _, rate in self._parts], lengths).astype(np.float32),
            given={n: [values[i] for i in numbers] for n, values in candidates.given.items()},
            bundle=self._bundle,
            source=source,
            explored=explored,
        )

    def _scores(self, chosen: Places, level: int) -> Scores:
        """Return the scores of some candidates in a stage, NaN for those that it has none of."""
        _, alive, scores = self._stages[level]
        found = np.full(len(chosen), np.nan, np.float32)
        if scores is None or not len(scores):
            return found
        if alive is None:
            return scores[chosen].astype(np.float32)
        at = np.searchsorted(alive, chosen).clip(max=len(alive) - 1)
        received = alive[at] == chosen
        found[received] = scores[at[received]]
        return found

    def _best_first(self, sample: Places, level: int) -> Places:
        """Order candidates by their score in the last stage that scored them."""
        for stage in reversed(range(level + 1)):
            scores = self._scores(sample, stage)
            if not np.isnan(scores).any():
                return sample[np.lexsort((sample, -scores))]
        return sample


def _others(taken: Places, numbers: Places) -> Places:
    """Return the n-th integer from 0 that is not taken, of some n from 0.

    Args:
        taken: integers, ascending.
        numbers: the n.

    Examples:
        >>> _others(np.array([0, 2, 3]), np.array([0, 1, 2])).tolist()
        [1, 4, 5]
    """
    return numbers + np.searchsorted(taken - np.arange(len(taken)), numbers, side="right")


def interleaved(logged: LoggedCandidates, ids: Sequence[Any]) -> LoggedCandidates:
    """Return the candidates to log of a list that was interleaved with that of another ranker.

    Candidates that are in the final list are served; others that this ranker would have served
    were dropped after its last stage. Items of the list that are not among the logged candidates
    are added without scores, if they are in the catalogue.

    Args:
        logged: candidates of one of the rankers.
        ids: the interleaved list, best first.
    """
    items, top, own = logged.bundle.items, len(logged.scores), list(logged.keys)
    places_of = {key: place for place, key in enumerate(own)}
    missing = [key for key in ids if key not in places_of]
    rows = items.places(missing) if items is not None else np.full(len(missing), -1)
    added = [key for key, row in zip(missing, rows, strict=True) if row >= 0]
    shown = [key for key in ids if key in places_of or key in set(added)]
    order = [places_of.get(key, -1) for key in shown]
    rest = [place for place, key in enumerate(own) if key not in set(shown)]
    chosen = np.array([*order, *rest], dtype=np.int64)
    new = chosen < 0
    levels = np.where(new, top, logged.levels[chosen])
    levels[: len(shown)] = top
    levels[len(shown) :] = np.minimum(levels[len(shown) :], top - 1)
    positions = np.empty(len(chosen), np.int16)
    for level in range(top + 1):
        places = np.flatnonzero(levels == level)
        positions[places] = np.arange(1, len(places) + 1)
    where = dict(zip(missing, rows, strict=True))
    return replace(
        logged,
        keys=[*shown, *(own[place] for place in rest)],
        places=np.array(
            [where[key] if key in where else logged.places[places_of[key]] for key in shown]
            + [logged.places[place] for place in rest],
            dtype=np.int64,
        ),
        levels=levels.astype(np.int8),
        positions=positions,
        scores={n: np.where(new, np.nan, s[chosen]) for n, s in logged.scores.items()},
        rates=np.where(new, np.float32(1), logged.rates[chosen]),
        given={
            n: [None if place < 0 else values[place] for place in chosen.tolist()]
            for n, values in logged.given.items()
        },
        explored=None,
    )
