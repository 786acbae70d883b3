"""Metrics of a server in the format of Prometheus, in a registry of their own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Final, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cascaderank.serving.answer import Answer
from cascaderank.serving.drift import QUANTILES, Drift

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
)  # fmt: skip
_SHARES: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


@final
class ServingMetrics:
    """Counts and times of a server.

    Args:
        drift: returns the statistics of each variant that is served.
        jobs: returns the number of requests in the queue and in the workers.
    """

    def __init__(
        self, drift: Callable[[], Mapping[str, Drift]], jobs: Callable[[], float] | None = None
    ) -> None:
        registry = CollectorRegistry()
        self.registry = registry
        self.requests = Counter(
            "cascaderank_requests", "Requests by outcome.", ["outcome"], registry=registry
        )
        self.seconds = Histogram(
            "cascaderank_request_seconds",
            "Time from the arrival of a body to its answer, the queue included.",
            registry=registry,
            buckets=_SECONDS,
        )
        self.queue_seconds = Histogram(
            "cascaderank_queue_seconds",
            "Time of a request in the queue.",
            registry=registry,
            buckets=_SECONDS,
        )
        self._stage_seconds = Histogram(
            "cascaderank_stage_seconds",
            "Time of each stage.",
            ["variant", "stage"],
            registry=registry,
            buckets=_SECONDS,
        )
        self._candidates = Counter(
            "cascaderank_stage_candidates",
            "Candidates that each stage received and passed on.",
            ["variant", "stage", "direction"],
            registry=registry,
        )
        self._skipped = Counter(
            "cascaderank_stage_skipped",
            "Requests in which a stage was left out to meet the deadline.",
            ["variant", "stage"],
            registry=registry,
        )
        self._left_out = Counter(
            "cascaderank_left_out_candidates",
            "Candidates that were left out before the first stage.",
            ["variant", "reason"],
            registry=registry,
        )
        self._stale = Counter(
            "cascaderank_stale_features",
            "Requests in which the source of a feature did not answer.",
            ["feature"],
            registry=registry,
        )
        self.answers = Counter(
            "cascaderank_answers", "Answers by variant.", ["variant"], registry=registry
        )
        self.feedback = Counter(
            "cascaderank_feedback", "Feedback by outcome.", ["outcome"], registry=registry
        )
        self.reloads = Counter(
            "cascaderank_reloads", "Reloads by outcome.", ["outcome"], registry=registry
        )
        self.background = Counter(
            "cascaderank_background_jobs",
            "Requests that were ranked again after the answer, by reason and outcome.",
            ["reason", "outcome"],
            registry=registry,
        )
        self.shadow_overlap = Histogram(
            "cascaderank_shadow_overlap",
            "Fraction of the items of an answer that the shadow's list has, too.",
            ["variant"],
            registry=registry,
            buckets=_SHARES,
        )
        self.not_logged = Counter(
            "cascaderank_not_logged", "Answers that the log did not accept.", registry=registry
        )
        if jobs is not None:
            Gauge("cascaderank_jobs", "Requests that wait or run.", registry=registry).set_function(
                jobs
            )
        registry.register(_DriftCollector(drift))

    def answered(self, variant: str, answer: Answer) -> None:
        """Count an answer and its stages."""
        self.answers.labels(variant).inc()
        for stage in answer.stages:
            name = stage.name
            self._candidates.labels(variant, name, "in").inc(stage.came)
            self._candidates.labels(variant, name, "out").inc(stage.left)
            if stage.skipped:
                self._skipped.labels(variant, name).inc()
            else:
                self._stage_seconds.labels(variant, name).observe(stage.milliseconds / 1000)
        for reason, count in (("filtered", answer.filtered), ("unknown", len(answer.unknown))):
            if count:
                self._left_out.labels(variant, reason).inc(count)
        for feature in answer.stale:
            self._stale.labels(feature).inc()

    def page(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self.registry)


@final
class _DriftCollector(Collector):
    """Computes drift when it is read."""

    def __init__(self, drift: Callable[[], Mapping[str, Drift]]) -> None:
        self._drift = drift

    def describe(self) -> Iterable[Metric]:
        """Return nothing: the names are known, and reading them would compute all."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of all variants."""
        quantiles = GaugeMetricFamily(
            "cascaderank_score_quantile",
            "Quantiles of the scores of the candidates that a stage received: of the golden "
            "requests (training), and of a sample of the last requests (serving).",
            labels=["variant", "stage", "source", "quantile"],
        )
        values = CounterMetricFamily(
            "cascaderank_sampled_values",
            "Values of a feature in a sample of the requests.",
            labels=["variant", "feature"],
        )
        unknown = CounterMetricFamily(
            "cascaderank_out_of_vocabulary_values",
            "Those of them that training did not have.",
            labels=["variant", "feature"],
        )
        rates = GaugeMetricFamily(
            "cascaderank_out_of_vocabulary_rate",
            "Fraction of the values of a feature that training did not have.",
            labels=["variant", "feature", "source"],
        )
        for variant, drift in self._drift().items():
            for source, of in (
                ("training", drift.training_quantiles),
                ("serving", drift.quantiles()),
            ):
                for stage, points in of.items():
                    for q, point in zip(QUANTILES, points.tolist(), strict=True):
                        quantiles.add_metric([variant, stage, source, str(q)], point)
            for feature, count in drift.unknown().items():
                values.add_metric([variant, feature], count.values)
                unknown.add_metric([variant, feature], count.unknown)
                rates.add_metric([variant, feature, "serving"], count.rate)
            for feature, count in drift.training_unknown.items():
                rates.add_metric([variant, feature, "training"], count.rate)
        return [quantiles, values, unknown, rates]
