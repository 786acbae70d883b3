"""Settings of the evaluation of a run."""

from dataclasses import replace
from itertools import combinations
from typing import Self

from pydantic import Field, StrictInt, model_validator

from cascaderank.errors import ConfigError
from cascaderank.metrics import named_metric
from cascaderank.settings.base import Count, Seed, Settings

_REPLICATES = 10_000_000


class EvaluationSettings(Settings):
    """Batches, confidence intervals and metrics of the evaluation."""

    batch_size: Count = Field(
        256, description="Number of requests per batch; does not affect results."
    )
    bootstrap: StrictInt = Field(
        1_000,
        ge=1,
        le=_REPLICATES,
        description="Number of bootstrap replicates for the 95 % intervals.",
    )
    seed: Seed = Field(0, description="Seed of the bootstrap.")
    metrics: tuple[str, ...] = Field(
        (),
        description='Additional metrics, such as "ndcg@15", "map", "mrr", "recall@10" and "opa": '
        "of the list that the cascade returns, and of each stage over all candidates.",
    )

    @model_validator(mode="after")
    def _metrics_exist(self) -> Self:
        try:
            named = [named_metric(name) for name in self.metrics]
        except ConfigError as error:
            raise ValueError(f"metrics: {error}") from None
        if any(replace(a, text=b.text) == b for a, b in combinations(named, 2)):
            raise ValueError(f"metrics: metrics must be distinct; got {list(self.metrics)}")
        # Canonical names are the keys of reports.
        object.__setattr__(self, "metrics", tuple(metric.text for metric in named))
        return self
