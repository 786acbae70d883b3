"""Collects the trace of an answer while the stages run."""

from collections.abc import Sequence
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from cascaderank.serving.answer import FILTERS, Trace
from cascaderank.serving.cut import best_first

Places = NDArray[np.int64]
Scores = NDArray[np.float32]


@final
class TraceRecorder:
    """Collects scores, ranks and cuts of every candidate.

    Args:
        keys: ``[candidates]`` keys of the items.
        alive: positions of the candidates that no filter leaves out; ``None`` for all.
    """

    def __init__(self, keys: Sequence[Any], alive: Places | None) -> None:
        self._keys = keys
        self._scores: dict[str, Scores] = {}
        self._ranks: dict[str, Places] = {}
        self._kept: dict[str, NDArray[np.bool_]] = {}
        self._cut_by: list[str | None] = [None] * len(keys)
        if alive is not None:
            self.cut(np.setdiff1d(np.arange(len(keys)), alive), FILTERS)

    def cut(self, candidates: Places, step: str) -> None:
        """Note the step that cuts candidates, given by their positions."""
        for candidate in candidates.tolist():
            self._cut_by[candidate] = step

    def record(
        self, name: str, alive: Places | None, scores: Scores, kept: Places, *, scored: bool
    ) -> None:
        """Note the result of a stage.

        Args:
            name: name of the stage.
            alive: positions of the candidates that it received; ``None`` for all.
            scores: their scores.
            kept: those that it keeps, as positions in ``scores``.
            scored: whether the stage computed the scores itself.
        """
        count = len(self._keys)
        places = np.arange(count) if alive is None else alive
        if scored:
            self._scores[name] = np.full(count, np.nan, np.float32)
            self._scores[name][places] = scores
            self._ranks[name] = np.zeros(count, np.int64)
            self._ranks[name][places[best_first(scores)]] = np.arange(1, len(places) + 1)
        self._kept[name] = np.zeros(count, dtype=bool)
        self._kept[name][places[kept]] = True
        self.cut(np.setdiff1d(places, places[kept]), name)

    def trace(self) -> Trace:
        """Return what was noted."""
        return Trace(
            keys=list(self._keys),
            scores=self._scores,
            ranks=self._ranks,
            kept=self._kept,
            cut_by=self._cut_by,
        )
