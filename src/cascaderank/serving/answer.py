"""The answer to a request: the ranked list, and what each stage did."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.errors import ConfigError
from cascaderank.serving.logged_candidates import LoggedCandidates, interleaved

FILTERS = "filters"
"""Name of the step before the first stage in a trace: items that the request leaves out."""

RERANKING = "reranking"
"""Name of the step after the last stage: caps, pins and diversity."""


@final
@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What one stage did for a request."""

    name: str
    came: int
    """Number of candidates that the stage received; all that an index searched, if one did."""
    left: int
    """Number of candidates that it passed on."""
    milliseconds: float
    """Time that it took."""
    skipped: bool = False
    """Whether it was left out to meet the deadline; the scores of the stage before it then cut."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Trace:
    """Score and rank of every candidate in every stage that received it."""

    keys: list[Any]
    """``[candidates]`` keys of the items, in the order of the request or of the catalogue."""
    scores: Mapping[str, NDArray[np.float32]]
    """``[candidates]`` scores by stage; NaN for a candidate that the stage did not receive."""
    ranks: Mapping[str, NDArray[np.int64]]
    """``[candidates]`` ranks by stage, 1 is the best; 0 for one that it did not receive."""
    kept: Mapping[str, NDArray[np.bool_]]
    """``[candidates]`` by stage, whether the stage and all before it kept the candidate."""
    cut_by: list[str | None]
    """``[candidates]`` step that cut each candidate; ``None`` for those that no step cut: the list,
    and those that ``top`` leaves out."""

    def of(self, key: Any) -> dict[str, Any] | None:
        """Return score and rank in each stage, and the step that cut, of one item.

        Args:
            key: key of the item.

        Returns:
            JSON-compatible values; ``None`` if the item was no candidate.
        """
        if key not in self.keys:
            return None
        place = self.keys.index(key)
        received = {n: int(ranks[place]) for n, ranks in self.ranks.items() if ranks[place]}
        return {
            "item": key,
            "cut_by": self.cut_by[place],
            "stages": {
                name: {"score": float(self.scores[name][place]), "rank": rank}
                for name, rank in received.items()
            },
        }


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """A ranked list."""

    ids: list[Any]
    """Keys of the items, best first; without a catalogue, positions in the candidates, from 0."""
    scores: list[float]
    """Scores of the last stage that ran, in the order of :attr:`ids`."""
    stages: tuple[StageReport, ...]
    """What each stage did, first stage first."""
    milliseconds: float
    """Time of the whole answer."""
    filtered: int = 0
    """Number of candidates that the filters left out."""
    unknown: tuple[Any, ...] = ()
    """Keys of candidates that are not in the catalogue, and were left out."""
    degraded: tuple[str, ...] = ()
    """Stages that were left out to meet the deadline."""
    stale: tuple[str, ...] = ()
    """Features whose source did not answer, so that values of the catalogue were used."""
    approximate: bool = False
    """Whether an index found the candidates of the first stage: some that exact search finds may be
    missing. A trace then has only the items that the index found."""
    trace: Trace | None = None
    """Scores and ranks of all candidates, if requested."""
    logged: LoggedCandidates | None = None
    """Candidates for the log of what was served, if requested."""
    positions: list[int] = field(init=False)
    """Positions in the list, from 1."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "positions", list(range(1, len(self.ids) + 1)))

    def traced(self) -> Trace:
        """Return the trace.

        Raises:
            ConfigError: if the answer has none.
        """
        if self.trace is None:
            raise ConfigError("the answer has no trace; call Ranker.rank with trace=True")
        return self.trace

    def with_list(self, ids: Sequence[Any], scores: Sequence[float]) -> Self:
        """Return the answer with another list, and with what is logged of it.

        Args:
            ids: keys of the items, best first.
            scores: their scores.
        """
        logged = None if self.logged is None else interleaved(self.logged, ids)
        return replace(self, ids=list(ids), scores=list(scores), logged=logged)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict; NaN scores of a trace become null."""
        content: dict[str, Any] = {
            "items": [
                {"id": key, "score": score, "position": position}
                for key, score, position in zip(self.ids, self.scores, self.positions, strict=True)
            ],
            "stages": [vars(stage) for stage in self.stages],
            "milliseconds": self.milliseconds,
            "filtered": self.filtered,
            "unknown": list(self.unknown),
            "degraded": list(self.degraded),
            "stale": list(self.stale),
            "approximate": self.approximate,
        }
        if self.trace is not None:
            trace = self.trace
            content["trace"] = {
                "ids": trace.keys,
                "cut_by": trace.cut_by,
                "scores": {
                    name: [None if s != s else float(s) for s in scores]
                    for name, scores in trace.scores.items()
                },
                "ranks": {name: ranks.tolist() for name, ranks in trace.ranks.items()},
            }
        return content
