"""Bundles behind an address: what answers a body, whatever carries it."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any, final

from pydantic_core import to_json

from cascaderank.errors import CascadeRankError, did_you_mean, shown
from cascaderank.serving.answer import Answer
from cascaderank.serving.bundle_files import BundleManifest
from cascaderank.serving.feature_source import FeatureSource
from cascaderank.serving.http.golden_bodies import GoldenBodies
from cascaderank.serving.http.http_limits import HttpLimits
from cascaderank.serving.http.json_body import check_keys, check_scalar, parsed_object
from cascaderank.serving.http.loaded_bundles import (
    Loaded,
    described,
    load_bundles,
    one_thread,
    release,
    settle,
)
from cascaderank.serving.http.problems import ProblemError, invalid
from cascaderank.serving.http.rank_body import RankBody, check_id, rank_body
from cascaderank.serving.http.serving_metrics import ServingMetrics
from cascaderank.serving.ranker import Ranker
from cascaderank.serving.served import Served, ServedSink
from cascaderank.serving.team_draft import team_draft
from cascaderank.serving.variant_routing import Routing, number_of
from cascaderank.serving.worker_pool import QueueFullError, WorkerPool

_SAMPLE, _BACKLOG = 64, 16  # one request of this number counts for drift; jobs in the background


@final
class Service:
    """Loaded bundles, the threads that rank, and what is counted and logged.

    Args:
        folders: folder of each bundle by variant; ``main`` is one of them.
        routing: which variant answers which request.
        limits: limits of requests.
        workers: number of threads that rank.
        queue: number of requests that may wait for a thread.
        deadline_ms: default deadline of a request, the time in the queue included.
        sink: receives what was served, and feedback to it.
        shadow_sinks: receives the answers of a shadow, which were not served, by variant.
        sample: one request of this number is ranked again in the background, for drift.
        source: values of item features that are newer than those of the bundles.

    Raises:
        RunError: if a folder is no bundle, is damaged or half-copied, or has another format.
        ConfigError: see :class:`~cascaderank.serving.variant_routing.Routing`.
    """

    def __init__(
        self,
        folders: Mapping[str, str | os.PathLike[str]],
        *,
        routing: Routing | None = None,
        limits: HttpLimits | None = None,
        workers: int = 2,
        queue: int = 8,
        deadline_ms: float | None = None,
        sink: ServedSink | None = None,
        shadow_sinks: Mapping[str, ServedSink] | None = None,
        sample: int = _SAMPLE,
        source: FeatureSource | None = None,
    ) -> None:
        self.folders = {name: Path(folder) for name, folder in folders.items()}
        self.routing = routing or Routing(variants=tuple(self.folders))
        self.limits, self.deadline_ms = limits or HttpLimits(), deadline_ms
        self.sink, self.shadow_sinks = sink, shadow_sinks or {}
        self.stopping = False
        """Whether the server finishes what it has begun, and is not ready for more."""
        self._sample, self._seen, self._source = sample, 0, source
        self._loaded = load_bundles(self.folders, source)
        settle()
        self.pool = WorkerPool(workers, queue=queue, name="rank", initializer=one_thread)
        self._background = WorkerPool(1, queue=_BACKLOG, name="background", initializer=one_thread)
        self._admin = WorkerPool(1, queue=0, name="reload", initializer=one_thread)
        self.metrics = ServingMetrics(
            lambda: {name: loaded.drift for name, loaded in self._loaded.items()},
            lambda: self.pool.jobs,
        )

    def close(self) -> None:
        """Finish all requests, and end the threads."""
        self.stopping = True
        for pool in (self.pool, self._background, self._admin):
            pool.close()
        release()

    @property
    def manifests(self) -> dict[str, BundleManifest]:
        """Manifest of each bundle by variant."""
        return {name: each.ranker.bundle.manifest for name, each in self._loaded.items()}

    @property
    def rankers(self) -> dict[str, Ranker]:
        """Ranker of each variant."""
        return {name: each.ranker for name, each in self._loaded.items()}

    def rank(self, body: bytes, received: float) -> bytes:
        """Answer a request; to be called in a thread of :attr:`pool`.

        Args:
            body: JSON, see :func:`~cascaderank.serving.http.rank_body.rank_body`.
            received: time at which the body was complete, of ``perf_counter``.

        Returns:
            JSON.

        Raises:
            ProblemError: if the request is invalid, or its deadline has passed.
            CascadeRankError: if a value or an argument is invalid.
        """
        loaded = self._loaded  # one reference: a reload does not change it under this request
        waited = (perf_counter() - received) * 1000
        self.metrics.queue_seconds.observe(waited / 1000)
        given = rank_body(body, self.limits)
        request_id = given.request_id or os.urandom(16).hex()
        deadline = self.deadline_ms if given.deadline_ms is None else given.deadline_ms
        if deadline is not None:
            deadline -= (perf_counter() - received) * 1000
            if deadline <= 0:
                raise ProblemError(
                    "deadline-missed",
                    f"the request waited {waited:.0f} ms in the queue, and its deadline passed",
                    headers={"retry-after": "1"},
                )
        key = self.routing.key_of(given.request, request_id)
        variant, content, answer, teams = self._answer(loaded, given, request_id, key, deadline)
        if given.record and self.sink is not None:
            self._record(self.sink, request_id, given, answer, loaded[variant], variant, teams)
        self._afterwards(loaded, given, request_id, variant, answer)
        self.metrics.requests.labels("degraded" if answer.degraded else "ok").inc()
        self.metrics.seconds.observe(perf_counter() - received)
        return content

    def feedback(self, body: bytes) -> bool:
        """Check feedback, and hand it to the sink.

        Args:
            body: JSON object of ``request_id``, ``item`` and ``value``.

        Returns:
            Whether it was accepted.

        Raises:
            ProblemError: if it is invalid, or the server writes no log.
        """
        content = parsed_object(body)
        names = ["item", "request_id", "value"]
        if sorted(content) != names:
            raise invalid("body", expected=f"an object of {', '.join(names)}", found=shown(content))
        if type(content["request_id"]) is not str:
            raise invalid("request_id", expected="a text", found=shown(content["request_id"]))
        check_id(content["request_id"])
        check_keys([content["item"]], "item")
        check_scalar(content["value"], "value")
        if type(content["value"]) not in (int, float):
            raise invalid("value", expected="a finite number", found=shown(content["value"]))
        if self.sink is None:
            raise ProblemError("not-found", "this server writes no log, and takes no feedback")
        accepted = self.sink.feedback(
            content["request_id"], content["item"], float(content["value"])
        )
        self.metrics.feedback.labels("accepted" if accepted else "refused").inc()
        return accepted

    def reload(self) -> dict[str, BundleManifest]:
        """Load all bundles from their folders again, and serve them in one step.

        Requests that have begun finish with the bundles that they began with. After an error, the
        bundles that were loaded before are served.

        Raises:
            RunError: if a bundle cannot be loaded.
        """
        try:
            self._loaded = load_bundles(self.folders, self._source)
        except CascadeRankError:
            self.metrics.reloads.labels("failed").inc()
            raise
        settle()
        self.metrics.reloads.labels("done").inc()
        return self.manifests

    def in_admin_thread(self, job: Callable[[], Any]) -> Any:
        """Return the future of a job that must not take a thread of the ranking, as a reload.

        Raises:
            ProblemError: if another one is running.
        """
        try:
            return self._admin.submit(job)
        except QueueFullError:
            raise ProblemError(
                "reload-running", "another reload is running", headers={"retry-after": "5"}
            ) from None

    def describe(self) -> dict[str, Any]:
        """Return what is served, JSON-compatible."""
        loaded = self._loaded
        return {
            "variants": {name: described(each.ranker) for name, each in loaded.items()},
            "ab": dict(self.routing.ab),
            "shadow": list(self.routing.shadow),
            "interleave": self.routing.interleave,
            "key": self.routing.key,
            "deadline_ms": self.deadline_ms,
            "limits": asdict(self.limits),
        }

    def golden(self, variant: str) -> GoldenBodies:
        """Return the golden requests of a variant.

        Raises:
            ProblemError: if there is no such variant.
        """
        return self._checked(self._loaded, variant).golden

    def _answer(
        self,
        loaded: Mapping[str, Loaded],
        given: RankBody,
        request_id: str,
        key: str,
        deadline: float | None,
    ) -> tuple[str, bytes, Answer, list[str] | None]:
        """Return the variant, the content of the answer, the answer, and the teams of its items."""
        other = None if given.variant is not None else self.routing.interleave
        variant = given.variant or self.routing.variant_of(key)
        ranker = self._checked(loaded, variant).ranker
        half = deadline / 2 if deadline is not None and other is not None else deadline
        answer = self._ranked(ranker, given, request_id, half, sink=self.sink)
        self.metrics.answered(variant, answer)
        teams = None
        content = {
            "request_id": request_id,
            "variant": variant,
            "bundle": ranker.name,
            **answer.to_json(),
        }
        if other is not None:
            second = self._ranked(loaded[other].ranker, given, request_id, half)
            self.metrics.answered(other, second)
            names = (variant, other)
            content |= self._interleaved(names, (answer, second), key, loaded[other].ranker.name)
            items = content["items"]
            teams = [item["team"] or "" for item in items]
            answer = answer.with_list([i["id"] for i in items], [i["score"] for i in items])
        return variant, to_json(content, inf_nan_mode="null"), answer, teams

    def _checked(self, loaded: Mapping[str, Loaded], variant: str) -> Loaded:
        if variant not in loaded:
            raise invalid(
                "variant",
                expected=f"one of {', '.join(loaded)}",
                found=f"{shown(variant)}{did_you_mean(variant, loaded)}",
            )
        return loaded[variant]

    def _interleaved(
        self, names: tuple[str, str], answers: tuple[Answer, Answer], key: str, bundle: str
    ) -> dict[str, Any]:
        """Return the members of the content that differ in an interleaved answer."""
        first, second = answers
        k = max(len(first.ids), len(second.ids))
        drafted = team_draft(first.ids, second.ids, k, Random(number_of(key)))
        return {
            "variant": "+".join(names),
            "items": [
                {
                    "id": answers[of].ids[place],
                    "score": answers[of].scores[place],
                    "position": position,
                    "team": None if team is None else names[team],
                }
                for position, (team, of, place) in enumerate(drafted, start=1)
            ],
            "interleaved": {
                "variant": names[1],
                "bundle": bundle,
                "stages": [vars(stage) for stage in second.stages],
                "degraded": list(second.degraded),
            },
        }

    def _ranked(
        self,
        ranker: Ranker,
        given: RankBody,
        request_id: str,
        deadline: float | None,
        *,
        sink: ServedSink | None = None,
        trace: bool = False,
    ) -> Answer:
        given.check_against(ranker, self.limits)
        logs = sink is not None and given.record
        return ranker.rank(
            given.request,
            given.candidates,
            top=given.top,
            quotas=given.quotas,
            filters=given.filters,
            rerank=given.rerank,
            trace=given.trace or trace,
            deadline_ms=deadline,
            request_id=request_id,
            sampling=sink.sampling if logs and sink is not None else None,
            exploration=sink.exploration if logs and sink is not None else None,
        )

    def _record(
        self,
        sink: ServedSink,
        request_id: str,
        given: RankBody,
        answer: Answer,
        loaded: Loaded,
        variant: str,
        teams: Sequence[str] | None = None,
    ) -> None:
        names = [variant, *([self.routing.interleave or ""] if teams is not None else [])]
        served = Served(
            request_id=request_id,
            request=given.request,
            answer=answer,
            time=datetime.now(UTC),
            bundle=loaded.ranker.name,
            variant="+".join(names) if len(self.folders) > 1 else "",
            teams=teams,
        )
        if not sink.record(served):
            self.metrics.not_logged.inc()

    def _afterwards(
        self,
        loaded: Mapping[str, Loaded],
        given: RankBody,
        request_id: str,
        variant: str,
        answer: Answer,
    ) -> None:
        """Start what no answer waits for: shadows, and statistics of a sample."""
        self._seen += 1
        if self._seen % self._sample == 0:
            of = loaded[variant]
            self._later("drift", lambda: self._add(of, given, request_id))
        if given.variant is None:
            for name in self.routing.shadow:
                self._later("shadow", self._shadow(loaded[name], name, given, request_id, answer))

    def _later(self, reason: str, job: Callable[[], None]) -> None:
        def counted() -> None:
            try:
                job()
            except (CascadeRankError, ProblemError):
                self.metrics.background.labels(reason, "failed").inc()
            else:
                self.metrics.background.labels(reason, "done").inc()

        try:
            self._background.submit(counted)
        except QueueFullError:
            self.metrics.background.labels(reason, "dropped").inc()

    def _add(self, loaded: Loaded, given: RankBody, request_id: str) -> None:
        items = loaded.ranker.bundle.items
        small = given.candidates is not None or len(items or ()) <= self.limits.candidates
        trace = None
        if small:
            trace = self._ranked(loaded.ranker, given, request_id, None, trace=True).trace
        loaded.drift.add(given.request, given.candidates, trace)

    def _shadow(
        self, loaded: Loaded, name: str, given: RankBody, request_id: str, answer: Answer
    ) -> Callable[[], None]:
        served = set(answer.ids)

        def job() -> None:
            sink = self.shadow_sinks.get(name)
            shadow = self._ranked(loaded.ranker, given, request_id, None, sink=sink)
            self.metrics.answered(name, shadow)
            if served:
                common = len(served.intersection(shadow.ids)) / len(served)
                self.metrics.shadow_overlap.labels(name).observe(common)
            if given.record and sink is not None:
                self._record(sink, request_id, given, shadow, loaded, name)

        return job
