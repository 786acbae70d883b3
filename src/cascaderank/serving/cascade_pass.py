"""One pass of a request through the cascade: scores, cuts, times and the trace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.evaluation.vector_search import VectorIndex
from cascaderank.schema import abridged
from cascaderank.serving.answer import RERANKING, Answer, StageReport
from cascaderank.serving.cut import best_first, kept_places
from cascaderank.serving.exploration import ExploredVector
from cascaderank.serving.exploration_propensities import Explored
from cascaderank.serving.feature_source import ABSENT, FeatureSource
from cascaderank.serving.filters import FilterColumns, Filters
from cascaderank.serving.item_index import best_places
from cascaderank.serving.item_table import ItemTable
from cascaderank.serving.logged_candidates import CandidateRecorder, LoggedCandidates
from cascaderank.serving.request_candidates import Candidates
from cascaderank.serving.rerank import Rerank, reranked
from cascaderank.serving.stage_plan import StagePlan
from cascaderank.serving.trace_recorder import TraceRecorder
from cascaderank.serving.value_encoder import ValueEncoder
from cascaderank.stages import VectorStage

Places = NDArray[np.int64]
Scores = NDArray[np.float32]


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class SharedParts:
    """Parts of a ranker that all requests use; only expected times and cached conditions change."""

    plans: Sequence[StagePlan]
    encoder: ValueEncoder
    items: ItemTable | None
    source: FeatureSource | None
    columns: FilterColumns
    index: VectorIndex | None = None


@final
@dataclass(kw_only=True, eq=False)
class CascadePass:
    """One request with its candidates; :meth:`run` ranks them once."""

    shared: SharedParts
    request: Mapping[str, Any]
    """Raw values of the request."""
    encoded: RequestBatch
    """The same values, encoded."""
    candidates: Candidates
    filters: Filters | None
    rerank: Rerank | None
    started: float
    """Time at which the request began, of ``perf_counter``."""
    explored: ExploredVector | None = None
    """Request vector of the first stage with noise; ``None`` without exploration."""
    recorder: CandidateRecorder | None = None
    """Collects the candidates to log."""
    _stale: dict[str, None] = field(default_factory=dict, init=False)
    _by_request: dict[str, Tensor] = field(default_factory=dict, init=False)
    """Encoded numbers of all candidates that are standardised over them."""

    def run(
        self,
        *,
        quotas: Sequence[int],
        top: int | None,
        trace: bool,
        deadline_ms: float | None,
    ) -> Answer:
        """Return the answer; see :meth:`cascaderank.serving.ranker.Ranker.rank`."""
        count = len(self.candidates)
        alive = self._unfiltered()
        pinned = self._pinned(alive)
        searched = count if alive is None else len(alive)
        begun = perf_counter()
        approximate = self._search_index(alive, quotas[0], pinned)
        if approximate:
            alive, pinned = None, self._pinned(None)
        recorder = TraceRecorder(self.candidates.keys, alive) if trace else None
        scores: Scores = np.zeros(len(self.candidates) if alive is None else len(alive), np.float32)
        reports, first = list[StageReport](), True
        for plan, quota in zip(self.shared.plans, quotas, strict=True):
            begun, came = begun if first else perf_counter(), len(scores)
            skipped = deadline_ms is not None and not first and self._late(plan, came, deadline_ms)
            if came and not skipped:
                scores = self._scores(plan, alive, scores)
            cuts = plan is not self.shared.plans[-1] or self.rerank is None
            kept = _kept(scores, quota, alive, pinned) if cuts else np.arange(came)
            if recorder is not None:
                recorder.record(plan.name, alive, scores, kept, scored=not skipped)
            if self.recorder is not None:
                self.recorder.record(plan.name, alive, scores, scored=not skipped)
            alive, scores = kept if alive is None else alive[kept], scores[kept]
            took = (perf_counter() - begun) * 1000
            if skipped:
                plan.pace.left_out()
            elif came:
                plan.pace.took(took, came)
            reports.append(
                StageReport(
                    name=plan.name,
                    came=searched if first else came,
                    left=len(alive),
                    milliseconds=took,
                    skipped=skipped,
                )
            )
            first = False
        left = np.arange(len(scores)) if alive is None else alive
        begun, came = perf_counter(), len(left)
        length = min(quotas[-1], quotas[-1] if top is None else top)
        order = best_first(scores)
        if self.rerank is not None:
            rules = self.rerank
            order = order[self._reranked(rules, left[order], scores[order], length, pinned)]
            took = (perf_counter() - begun) * 1000
            reports.append(
                StageReport(name=RERANKING, came=came, left=len(order), milliseconds=took)
            )
        chosen, scores = left[order][:length], scores[order][:length]
        if recorder is not None and self.rerank is not None:
            recorder.cut(np.setdiff1d(left, chosen), RERANKING)
        keys = self.candidates.keys
        return Answer(
            ids=[keys[i] for i in chosen.tolist()],
            scores=scores.tolist(),
            stages=tuple(reports),
            milliseconds=(perf_counter() - self.started) * 1000,
            filtered=count - searched,
            unknown=self.candidates.unknown,
            degraded=tuple(report.name for report in reports if report.skipped),
            stale=tuple(self._stale),
            approximate=approximate,
            trace=recorder.trace() if recorder is not None else None,
            logged=None
            if self.recorder is None
            else self._logged(self.recorder, chosen, quotas, length, reports),
        )

    def _logged(
        self,
        recorder: CandidateRecorder,
        chosen: Places,
        quotas: Sequence[int],
        length: int,
        reports: Sequence[StageReport],
    ) -> LoggedCandidates:
        places, explored = recorder.drawn(chosen, len(self.candidates)), None
        skipped = any(report.skipped for report in reports)
        if self.explored is not None and self.rerank is None and not skipped:
            explored = Explored(
                vector=self.explored.own.numpy(),
                encoded=self.encoded,
                plans=self.shared.plans,
                start=self._start,
                scores=self._scores,
                quotas=quotas,
                length=length,
                logged=places,
            )
        return recorder.logged(
            places,
            self.candidates,
            source=self.shared.source,
            explored=explored,
        )

    def _start(self) -> tuple[Places, Tensor]:
        """Return the candidates that no filter leaves out, and their parts in the first stage."""
        alive = self._unfiltered()
        start = np.arange(len(self.candidates)) if alive is None else alive
        return start, self._parts(self.shared.plans[0], alive, len(start))

    def _late(self, plan: StagePlan, candidates: int, deadline_ms: float) -> bool:
        elapsed = (perf_counter() - self.started) * 1000
        return elapsed + plan.pace.expected(candidates) > deadline_ms

    def _unfiltered(self) -> Places | None:
        """Return the positions of the candidates that no filter leaves out; ``None`` for all."""
        filters, given = self.filters, self.candidates
        if filters is None or not (filters.items or filters.where):
            return None
        out = np.zeros(len(given), dtype=bool)
        if filters.items:
            if given.places is None and self.shared.items is not None:
                places = self.shared.items.places(filters.items)
                out[places[places >= 0]] = True
            else:
                left_out = set(filters.items)
                out |= np.array([key in left_out for key in given.keys], dtype=bool)
        for condition in filters.where:
            out |= self.shared.columns.met(condition, given.places, given.given)
        return np.flatnonzero(~out)

    def _pinned(self, alive: Places | None) -> dict[int, int]:
        """Return the position from 1 of each pinned candidate that no filter leaves out."""
        if self.rerank is None or not self.rerank.pins:
            return {}
        pins, found = self.rerank.pins, dict[int, int]()
        if self.candidates.places is None and self.shared.items is not None:
            places = self.shared.items.places(pins)
            found = {int(p): at for p, at in zip(places, pins.values(), strict=True) if p >= 0}
        else:
            for place, key in enumerate(self.candidates.keys):
                if key in pins and pins[key] not in found.values():
                    found[place] = pins[key]
        left = None if alive is None else set(alive.tolist())
        return {place: at for place, at in found.items() if left is None or place in left}

    def _search_index(self, alive: Places | None, quota: int, pinned: Mapping[int, int]) -> bool:
        """Narrow all items to those that the index finds, and return whether it was used."""
        index, items, first = self.shared.index, self.shared.items, self.shared.plans[0]
        if self.candidates.places is not None or index is None or items is None:
            return False
        if self.explored is not None or not isinstance(first.stage, VectorStage):
            return False  # propensities need the scores of all items
        places = best_places(index, first.stage.request_vectors(self.encoded), quota, alive)
        if places is None:
            return False
        places = np.union1d(places, np.array([*pinned], dtype=np.int64))
        self.candidates = Candidates(keys=[items.keys[i] for i in places.tolist()], places=places)
        return True

    def _scores(self, plan: StagePlan, alive: Places | None, previous: Scores) -> Scores:
        """Return the scores of the remaining candidates, which the previous stage scored."""
        if self.explored is not None and plan is self.shared.plans[0]:
            parts = self._parts(plan, alive, len(previous))
            return plan.scores_of_parts(self.encoded, parts, self.explored.noisy)
        stored = self._stored_parts(plan, alive)
        if stored is not None:
            return plan.scores_of_parts(self.encoded, stored)
        features = self._features(plan, alive)
        if "score" in plan.previous:
            features["previous_score"] = torch.from_numpy(previous)[None]
        if "rank" in plan.previous:
            ranks = np.empty(len(previous), np.float32)
            ranks[best_first(previous)] = np.arange(1, len(previous) + 1)
            features["previous_rank"] = torch.from_numpy(ranks).log()[None]
        return plan.scores_of_features(self.encoded, features, len(previous))

    def _parts(self, plan: StagePlan, alive: Places | None, count: int) -> Tensor:
        stored = self._stored_parts(plan, alive)
        if stored is not None:
            return stored
        return plan.parts_of_features(self.encoded, self._features(plan, alive), count)

    def _stored_parts(self, plan: StagePlan, alive: Places | None) -> Tensor | None:
        """Return the parts of the remaining candidates that were computed at export, if any."""
        places, given = self.candidates.places, self.candidates.given
        if plan.parts is None or not given.keys().isdisjoint(plan.features):
            return None
        if places is None and alive is None:
            return plan.parts
        rows = alive if places is None else places if alive is None else places[alive]
        return plan.parts.index_select(0, torch.from_numpy(rows))

    def _features(self, plan: StagePlan, alive: Places | None) -> dict[str, Tensor]:
        """Return the features of the remaining candidates: of rows, the source, the catalogue."""
        given, source, items = self.candidates.given, self.shared.source, self.shared.items
        chosen = range(len(self.candidates)) if alive is None else alive.tolist()
        raw: dict[str, Sequence[Any]] = {
            n: [given[n][i] for i in chosen]
            for n in plan.features
            if n in given and n not in self.shared.encoder.by_request
        }
        provided = source.features if source is not None else ()
        fetched = [name for name in plan.features if name in provided and name not in raw]
        if fetched and source is not None:
            keys = [self.candidates.keys[i] for i in chosen]
            try:
                values = source.values(self.request, keys, fetched)
                raw |= {name: self._filled(name, values[name], chosen) for name in fetched}
            except OSError as error:
                self._stale |= dict.fromkeys(fetched)
                if any(name in plan.pair_features for name in fetched):
                    raise DataError(
                        f"the source of {', '.join(fetched)} did not answer ({error}), and the "
                        "catalogue does not have these features"
                    ) from None
        encoder = self.shared.encoder
        several = {f.name for f in encoder.schema.features if f.several}
        found = {
            name: torch.from_numpy(
                encoder.lists(name, values) if name in several else encoder.column(name, values)
            )[None]
            for name, values in raw.items()
        }
        for name in encoder.by_request.intersection(plan.features):
            if name not in self._by_request:
                self._by_request[name] = torch.from_numpy(encoder.column(name, given[name]))
            whole = self._by_request[name]
            found[name] = (whole if alive is None else whole[torch.from_numpy(alive)])[None]
        rest = [name for name in plan.features if name not in found]
        if rest and items is not None:
            places = self.candidates.places
            if places is None:
                places = np.arange(len(items))
            found |= items.encoded(rest, places if alive is None else places[alive])
        return found

    def _filled(self, name: str, values: Sequence[Any], chosen: Sequence[int]) -> Sequence[Any]:
        """Return values of a source, with those of the catalogue where the source has none."""
        absent = [place for place, value in enumerate(values) if value is ABSENT]
        if not absent:
            return values
        items, places = self.shared.items, self.candidates.places
        candidates = [chosen[place] for place in absent]
        rows = candidates if places is None else places[candidates].tolist()
        if items is None or name not in items.raw.columns or min(rows) < 0:
            keys = [self.candidates.keys[c] for c in candidates]
            raise DataError(
                f"the source of '{name}' has no value for {abridged(map(str, keys))}, and the "
                "catalogue does not have it"
            )
        filled = list(values)
        for place, value in zip(absent, items.raw[name].gather(rows).to_list(), strict=True):
            filled[place] = value
        return filled

    def _reranked(
        self,
        rules: Rerank,
        alive: Places,
        scores: Scores,
        length: int,
        pinned: Mapping[int, int],
    ) -> list[int]:
        """Return the final list as positions in ``alive``, which is best first."""
        place_of = {candidate: place for place, candidate in enumerate(alive.tolist())}
        return reranked(
            scores,
            length,
            rules,
            pinned={place_of[c]: at for c, at in pinned.items() if c in place_of},
            groups={name: self._groups(name, alive) for name in rules.caps},
            vectors=self._vectors(alive) if rules.diversity else None,
        )

    def _groups(self, name: str, alive: Places) -> Places:
        """Return the number of the value of a feature of each candidate, -1 if it is missing."""
        given, items, places = self.candidates.given, self.shared.items, self.candidates.places
        if name in given:
            values = [given[name][i] for i in alive.tolist()]
        elif items is not None and name in items.raw.columns:
            rows = alive if places is None else places[alive]
            values = items.raw[name].gather(rows).to_list()
        else:
            known = [*given, *(items.raw.columns if items is not None else ())]
            raise ConfigError(
                f"caps: no feature '{name}'{did_you_mean(name, known)} of items; available: "
                f"{', '.join(known) or 'none'}"
            )
        numbers: dict[Any, int] = {None: -1}
        try:
            return np.array([numbers.setdefault(v, len(numbers)) for v in values], dtype=np.int64)
        except TypeError:
            raise ConfigError(
                f"caps: expected a feature with one value per item; '{name}' has several"
            ) from None

    def _vectors(self, alive: Places) -> NDArray[np.float32]:
        for plan in self.shared.plans:
            if isinstance(plan.stage, VectorStage) and plan.parts is not None:
                places = self.candidates.places
                rows = alive if places is None else places[alive]
                if not len(rows) or rows.min() >= 0:
                    return plan.parts.index_select(0, torch.from_numpy(rows)).numpy()
        raise ConfigError(
            "diversity needs vectors of the items: a stage such as two_tower or "
            "matrix_factorisation, and candidates of the catalogue; set diversity to 0"
        )


def _kept(scores: Scores, quota: int, alive: Places | None, pinned: Mapping[int, int]) -> Places:
    """Return the positions that a stage keeps: its quota, and the pinned ones in addition."""
    if not pinned:
        return kept_places(scores, quota)
    always = np.isin(np.arange(len(scores)) if alive is None else alive, list(pinned))
    rest = np.flatnonzero(~always)
    return np.union1d(rest[kept_places(scores[rest], quota)], np.flatnonzero(always))
