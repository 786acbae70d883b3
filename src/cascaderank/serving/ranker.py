"""Ranker: the trained cascade of a bundle as a function of one request."""

import os
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter
from typing import Any, Self, final

import torch

from cascaderank.batch import RequestBatch
from cascaderank.errors import ConfigError, DataError, SchemaError, did_you_mean, shown
from cascaderank.schema import abridged
from cascaderank.selection import check_size
from cascaderank.serving.answer import Answer
from cascaderank.serving.bundle import Bundle
from cascaderank.serving.bundle_files import INDEX
from cascaderank.serving.cascade_pass import CascadePass, SharedParts
from cascaderank.serving.exploration import Exploration, ExploredVector
from cascaderank.serving.feature_source import FeatureSource
from cascaderank.serving.filters import FilterColumns, Filters
from cascaderank.serving.logged_candidates import CandidateRecorder, Sampling
from cascaderank.serving.request_candidates import Candidates, Rows, candidates_of
from cascaderank.serving.rerank import Rerank
from cascaderank.serving.stage_plan import stage_plans
from cascaderank.serving.value_encoder import ValueEncoder
from cascaderank.stages import VectorStage
from cascaderank.tensors import check_quotas

Quotas = Sequence[int] | Mapping[str, int]
"""One quota per stage, or the quotas of some stages by name."""


@final
class Ranker:
    """Ranks the candidates of a request as the trained cascade does.

    A ranker has no global state and changes nothing that another thread could see half of: one
    ranker serves many threads. Stages after the first receive only the candidates that are left.
    What depends on the request alone is computed once per request; what depends on an item alone
    was computed at export.

    Args:
        bundle: a loaded bundle.
        source: values of item features that are newer than those of the bundle, or that no
            catalogue has.
        exact: whether to search all items exactly even if the bundle has an index.

    Raises:
        ConfigError: if the source provides a feature that no stage reads, or one that is
            standardised by request.
    """

    def __init__(
        self, bundle: Bundle, *, source: FeatureSource | None = None, exact: bool = False
    ) -> None:
        self.bundle = bundle
        self.source = source
        schema = bundle.stage_schema
        known = bundle.items.features if bundle.items is not None else ()
        self.plans = stage_plans(
            bundle.cascade, bundle.schema, bundle.settings, known=known, parts=bundle.parts
        )
        provided = set(source.features) if source is not None else set()
        read = dict.fromkeys(name for plan in self.plans for name in plan.features)
        strange = sorted(provided - set(read))
        if strange:
            raise ConfigError(
                f"the feature source provides {abridged(strange)}, which no stage reads; the "
                f"stages read {abridged(read)}"
            )
        encoder = ValueEncoder(schema, history_length=bundle.manifest.history_length)
        relative = sorted(provided & encoder.by_request)
        if relative:
            raise ConfigError(
                f"the feature source provides {abridged(relative)}, standardised by request over "
                "all candidates, of which a source sees those that are left; give it with the rows"
            )
        for plan in self.plans:
            if provided & set(plan.features):
                plan.parts = None  # of values that the source replaces
        self._needed = tuple(name for name in read if name not in provided)
        needs = {p.name: tuple(f for f in p.pair_features if f not in provided) for p in self.plans}
        self._needs_rows = {name: features for name, features in needs.items() if features}
        self._shared = SharedParts(
            plans=self.plans,
            encoder=encoder,
            items=bundle.items,
            source=source,
            columns=FilterColumns(bundle.items.raw if bundle.items is not None else None),
            # The vectors in an index are stale where a source replaces features of the stage.
            index=None if exact or self.plans[0].parts is None else bundle.index,
        )

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        *,
        source: FeatureSource | None = None,
        exact: bool = False,
        warm_up: int = 8,
    ) -> Self:
        """Load a bundle, after checking its files against their checksums.

        Args:
            folder: folder that ``cascaderank export`` wrote.
            source: see :class:`Ranker`.
            exact: see :class:`Ranker`.
            warm_up: number of golden requests to rank first, which measures the expected time of
                each stage for deadlines.

        Raises:
            RunError: if the folder is no bundle, is damaged or half-copied, or has another format.
            ConfigError: see :class:`Ranker`.
            MissingExtraError: if the bundle has an index and faiss is not installed.
        """
        from cascaderank.serving.golden import golden_requests

        ranker = cls(Bundle.load(folder), source=source, exact=exact)
        if source is None:
            longer = tuple(10 * quota for quota in ranker.bundle.manifest.quotas)
            for golden in golden_requests(ranker.bundle, most=warm_up):
                ranker.rank(golden.request, golden.rows)
                if ranker.searches:  # with short and long lists, as requests may have
                    ranker.rank(golden.request)
                    ranker.rank(golden.request, quotas=longer)
        return ranker

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.bundle.manifest.name

    @property
    def needs_rows(self) -> dict[str, tuple[str, ...]]:
        """Features that candidates must bring as rows, by stage that reads them.

        They are of request and item together, or the bundle has no catalogue. Empty if keys of
        items suffice.
        """
        return dict(self._needs_rows)

    @property
    def searches(self) -> bool:
        """Whether ``candidates=None`` ranks all items: no stage needs rows."""
        return self.bundle.items is not None and not self.needs_rows

    @property
    def approximate(self) -> bool:
        """Whether ``candidates=None`` searches by the index of the bundle."""
        return self._shared.index is not None

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of weights, of encoded items, of the index, and of the parts of items by stage.

        Items and their parts are mapped from files: only what was read is in memory. The index is
        in memory.
        """
        cascade, items = self.bundle.cascade, self.bundle.items
        return {
            "weights": sum(p.nbytes for p in cascade.state_dict().values()),
            "items": items.bytes if items is not None else 0,
            **({"index": self.bundle.manifest.files[INDEX].bytes} if self.approximate else {}),
            **{f"parts/{p.name}": p.parts.nbytes for p in self.plans if p.parts is not None},
        }

    def rank(
        self,
        request: Mapping[str, Any],
        candidates: Sequence[Any] | Rows | None = None,
        *,
        top: int | None = None,
        quotas: Quotas | None = None,
        filters: Filters | None = None,
        rerank: Rerank | None = None,
        trace: bool = False,
        deadline_ms: float | None = None,
        request_id: str = "",
        sampling: Sampling | None = None,
        exploration: Exploration | None = None,
    ) -> Answer:
        """Rank the candidates of a request.

        Args:
            request: raw values of the features of the request and of its histories, by the names of
                the log; other names are ignored.
            candidates: ``None`` to search all items, by the index of the bundle if it has one; keys
                of items; or rows of raw features: a
                mapping per candidate, or a mapping of one list per feature, which is faster. Rows
                name the item by its key, and features that a row has replace those of the
                catalogue. Keys that are not in the catalogue are left out and reported.
            top: maximum length of the list; default: the quota of the last stage.
            quotas: number of candidates that each stage keeps, or of some stages by name; default:
                those of the run.
            filters: candidates to leave out before the first stage.
            rerank: rules for the final list.
            trace: whether the answer has the score and the rank of every candidate in each stage.
            deadline_ms: time for the answer. A stage after the first that is expected to exceed it
                is left out: the scores of the stage before it then decide in its place, and the
                answer names it in ``degraded``.
            request_id: id of the request, which determines its samples and its noise.
            sampling: candidates to log, see ``logged`` of the answer; default: none.
            exploration: noise on the request vector of the first stage; default: none.

        Returns:
            The list, and what each stage did. Of equal scores the earlier candidate wins.

        Raises:
            SchemaError: if a feature is missing or has another type.
            DataError: if a number is not finite, a score is NaN, or there is nothing to search.
            ConfigError: if an argument is out of range, a filter names no feature, or there is
                exploration and the first stage has no vectors.
        """
        started = perf_counter()
        with torch.inference_mode():
            encoded = self._shared.encoder.request(request)
            pins = tuple(rerank.pins) if rerank is not None else ()
            given = candidates_of(candidates, self.bundle.items, self._needed, also=pins)
            self._check_rows(given)
            one_pass = CascadePass(
                shared=self._shared,
                request=request,
                encoded=encoded,
                candidates=given,
                filters=filters,
                rerank=rerank,
                started=started,
                explored=self._explored(encoded, exploration, request_id),
                recorder=None
                if sampling is None
                else CandidateRecorder(sampling, request_id, self.bundle),
            )
            return one_pass.run(
                quotas=self._quotas(quotas),
                top=None if top is None else check_size(top, "top"),
                trace=trace,
                deadline_ms=_checked_deadline(deadline_ms),
            )

    def rank_many(
        self,
        requests: Iterable[Mapping[str, Any]],
        candidates: Iterable[Sequence[Any] | Rows | None] | None = None,
        **options: Any,
    ) -> list[Answer]:
        """Rank the candidates of several requests.

        Args:
            requests: raw values of each request.
            candidates: candidates of each request; ``None`` to search all items for each.
            options: as in :meth:`rank`, for all requests.

        Raises:
            DataError: see :meth:`rank`; also if the numbers of requests and candidates differ.
        """
        requests = list(requests)
        lists = [None] * len(requests) if candidates is None else list(candidates)
        if len(lists) != len(requests):
            raise DataError(
                f"expected candidates of each request, found {len(lists)} for {len(requests)} "
                "requests"
            )
        return [self.rank(r, c, **options) for r, c in zip(requests, lists, strict=True)]

    def check_exploration(self) -> VectorStage:
        """Return the first stage, whose request vector exploration changes.

        Raises:
            ConfigError: if it has no vectors.
        """
        first = self.plans[0]
        if not isinstance(first.stage, VectorStage):
            raise ConfigError(
                f"exploration needs a first stage with vectors, such as two_tower; '{first.name}' "
                "has none; serve without exploration"
            )
        return first.stage

    def _explored(
        self, encoded: RequestBatch, exploration: Exploration | None, request_id: str
    ) -> ExploredVector | None:
        if exploration is None or not exploration.scale:
            return None
        own = self.check_exploration().request_vectors(encoded)[0].float()
        noisy = torch.from_numpy(exploration.noisy(own.numpy(), request_id))
        return ExploredVector(own=own, noisy=noisy)

    def _check_rows(self, candidates: Candidates) -> None:
        for stage, features in self._needs_rows.items():
            missing = [name for name in features if name not in candidates.given]
            if missing:
                raise SchemaError(
                    f"candidates: expected rows with {abridged(missing)}, of request and item "
                    f"together, which stage '{stage}' reads and no catalogue has, found no such "
                    "feature; give candidates as rows with these features, or a feature source"
                )

    def _quotas(self, quotas: Quotas | None) -> tuple[int, ...]:
        if quotas is None:
            return tuple(plan.quota for plan in self.plans)
        if isinstance(quotas, Mapping):
            names = [plan.name for plan in self.plans]
            for name in quotas:
                if name not in names:
                    raise ConfigError(
                        f"quotas: no stage called '{name}'{did_you_mean(str(name), names)}; the "
                        f"stages are {', '.join(names)}"
                    )
            quotas = [quotas.get(plan.name, plan.quota) for plan in self.plans]
        return check_quotas(quotas, stages=len(self.plans))


def _checked_deadline(deadline_ms: float | None) -> float | None:
    if deadline_ms is not None and not (
        isinstance(deadline_ms, int | float) and 0 < deadline_ms < float("inf")
    ):
        raise ConfigError(f"deadline_ms must be a positive number; got {shown(deadline_ms)}")
    return deadline_ms
