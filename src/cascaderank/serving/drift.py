"""Drift: scores and unknown values of a sample of served requests, beside those of training."""

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import torch
from numpy.typing import NDArray

from cascaderank.batch import RequestBatch
from cascaderank.errors import CascadeRankError
from cascaderank.schema import Kind, Role
from cascaderank.serving.answer import Trace
from cascaderank.serving.golden import GoldenScores, golden_requests
from cascaderank.serving.ranker import Ranker
from cascaderank.serving.value_encoder import ValueEncoder

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
_KEPT, _OF_REQUEST = 8_192, 256  # scores per stage: of all requests, and of one


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Unknown:
    """Values of a feature: how many there were, and how many are out of vocabulary."""

    values: int
    unknown: int

    @property
    def rate(self) -> float:
        """Fraction out of vocabulary; NaN without values."""
        return self.unknown / self.values if self.values else float("nan")


@final
class Drift:
    """Statistics of the requests that one ranker has ranked, beside those of its golden requests.

    Scores of a stage are those of the candidates that it received. Golden requests have the
    candidates of the log; where a server searches all items, its scores are of other candidates.

    Args:
        ranker: a loaded ranker.
    """

    def __init__(self, ranker: Ranker) -> None:
        schema = ranker.bundle.stage_schema
        self._encoder = ValueEncoder(schema, history_length=ranker.bundle.manifest.history_length)
        self._names = [
            f.name
            for f in schema.features
            if f.role is not Role.ITEM and f.kind is not Kind.NUMERIC and f.buckets is None
        ]
        self._items = [
            f.name
            for f in schema.of(Role.ITEM)
            if f.kind is not Kind.NUMERIC and f.buckets is None and not f.several
        ]
        self._lock = threading.Lock()
        self._values: Counter[str] = Counter()
        self._unknown: Counter[str] = Counter()
        self._scores: dict[str, deque[float]] = {
            plan.name: deque(maxlen=_KEPT) for plan in ranker.plans
        }
        for golden in golden_requests(ranker.bundle):
            self.add(golden.request, golden.plain_rows, None)
        self.training_unknown = self.unknown()
        """Values of the golden requests by feature."""
        self.training_quantiles = _golden_quantiles(ranker)
        """``[quantiles]`` of the golden requests by stage."""
        self._values.clear()
        self._unknown.clear()

    def add(self, request: Mapping[str, Any], rows: Any, trace: Trace | None) -> None:
        """Add a request that was ranked.

        Args:
            request: raw values.
            rows: candidates; raw features of columns count.
            trace: trace of its answer; ``None`` to add no scores.
        """
        counts = list(self._counts(request, rows))
        with self._lock:
            for name, values, unknown in counts:
                self._values[name] += values
                self._unknown[name] += unknown
            for name, scores in (trace.scores if trace is not None else {}).items():
                received = scores[~np.isnan(scores)]
                step = max(1, len(received) // _OF_REQUEST)
                self._scores[name].extend(received[::step][:_OF_REQUEST].tolist())

    def unknown(self) -> dict[str, Unknown]:
        """Return the number of values and of unknown ones, by feature with a vocabulary."""
        with self._lock:
            return {
                name: Unknown(values=self._values[name], unknown=self._unknown[name])
                for name in (*self._names, *self._items)
            }

    def quantiles(self) -> dict[str, NDArray[np.float64]]:
        """Return :data:`QUANTILES` of recent scores by stage; NaN without any."""
        with self._lock:
            scores = {name: np.array(kept, np.float64) for name, kept in self._scores.items()}
        return {name: _quantiles(values) for name, values in scores.items()}

    def _counts(self, request: Mapping[str, Any], rows: Any) -> list[tuple[str, int, int]]:
        encoded: RequestBatch = self._encoder.request(request)
        found = []
        for name in self._names:
            raw = request.get(name)
            values = [v for v in (raw if isinstance(raw, list) else [raw]) if v is not None]
            codes = encoded.history.get(name, encoded.request.get(name))
            if codes is None or not values:
                continue
            known = int(torch.count_nonzero(codes > 0))
            counted = min(len(values), codes.numel())  # of a history, the most recent entries
            found.append((name, counted, max(0, counted - known)))
        if isinstance(rows, Mapping):
            for name in self._items:
                values = [v for v in rows.get(name, ()) if v is not None]
                try:
                    codes_of = self._encoder.column(name, values) if values else np.zeros(0)
                except CascadeRankError:
                    continue
                found.append((name, len(values), int(np.count_nonzero(codes_of == 0))))
        return found


def _golden_quantiles(ranker: Ranker) -> dict[str, NDArray[np.float64]]:
    golden = GoldenScores.open(ranker.bundle.folder)
    received = np.ones(golden.kept.shape[1], dtype=bool)
    found = {}
    for plan, scores, kept in zip(ranker.plans, golden.scores, golden.kept, strict=True):
        found[plan.name] = _quantiles(scores[received].astype(np.float64))
        received = kept
    return found


def _quantiles(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(scores):
        return np.full(len(QUANTILES), np.nan)
    return np.quantile(scores, QUANTILES)
