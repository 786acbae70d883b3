"""Scorers without training, as cascades: what a learnt cascade has to beat.

A baseline ranks by one score in every stage, so what comes out is the top of that one ranking; it
may use features that the first stages of the cascade may not. The one exception is
``stage_fusion``, in which each stage fuses what it may use. In a config a baseline is named as
``"random"``, ``"feature:NAME"``, ``"best_feature"`` or ``"best_feature:PATTERN"``,
``"rank_fusion:PATTERN"`` and ``"stage_fusion:PATTERN"``.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.config import RunSettings
from cascaderank.data.loader import RequestLoader
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.metrics.recall import recall_metric
from cascaderank.schema import Feature, Kind, Role
from cascaderank.selection import best_first
from cascaderank.training.run_data import RunData

BASELINES = {
    "random": "A random order.",
    "feature": "One feature, the highest value first.",
    "best_feature": "The one feature, in the one direction, that does best on training requests.",
    "rank_fusion": "Reciprocal-rank fusion of features: the sum of 1 / (60 + rank).",
    "stage_fusion": "The same in each stage, of those features that the stage may use.",
}
"""Baselines by name, with what they rank by."""

_LAST = -1e30  # score of a candidate without the feature: after all that have it
_FUSION_DEPTH = 60.0  # of Cormack, Clarke and Buettcher (SIGIR 2009)


def build_baseline(text: str, settings: RunSettings, data: RunData) -> tuple[str, Cascade]:
    """Build a baseline for the requests of a run.

    Args:
        text: ``"name"`` or ``"name:pattern"``.
        settings: of the run; gives quotas and ground truth.
        data: of the run; what has to be chosen is chosen on its training requests.

    Returns:
        How to call it in a table, and its cascade.

    Raises:
        ConfigError: if there is no such baseline, or it needs a pattern.
        SchemaError: if a pattern matches no feature.
    """
    name, _, pattern = text.partition(":")
    if name not in BASELINES:
        raise ConfigError(
            f"no baseline called '{name}'{did_you_mean(name, BASELINES)}; "
            f"there are {', '.join(BASELINES)}"
        )
    if name == "random":
        return "random order", _cascade(RandomOrder(settings.train.seed), settings)
    if name != "best_feature" and not pattern:
        raise ConfigError(f"baseline '{name}' needs a feature, such as '{name}:f1'")
    features = _numeric(data, pattern or "*")
    if name == "rank_fusion":
        return f"rank fusion of {len(features)}", _cascade(RankFusion(features), settings)
    if name == "stage_fusion":
        stages = {
            stage: RankFusion([f for f in data.schema.select(of.features) if f in features])
            for stage, of in settings.stages.items()
        }
        return "rank fusion by stage", Cascade(stages, settings.quotas)
    if name == "feature":
        return features[0].name, _cascade(FeatureOrder(features[0].name), settings)
    feature, sign = _best(features, settings, data)
    shown = f"best single: {'-' if sign < 0 else ''}{feature}"
    return shown, _cascade(FeatureOrder(feature, sign=sign), settings)


@final
class FeatureOrder(nn.Module):
    """Score by one numeric feature; candidates without it come last."""

    def __init__(self, feature: str, *, sign: float = 1.0) -> None:
        super().__init__()
        self.feature, self.sign = feature, sign

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``."""
        return torch.nan_to_num(batch.items[self.feature] * self.sign, nan=_LAST)


@final
class RankFusion(nn.Module):
    """Score by reciprocal-rank fusion; a feature that a candidate lacks adds nothing."""

    def __init__(self, features: Sequence[Feature]) -> None:
        super().__init__()
        self.features = [f.name for f in features]

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``."""
        total = torch.zeros_like(batch.mask, dtype=torch.float32)
        for name in self.features:
            values = batch.items[name]
            there = batch.mask & ~values.isnan()
            ranks = best_first(values.masked_fill(~there, -torch.inf)).argsort(dim=-1) + 1
            total += there / (_FUSION_DEPTH + ranks)
        return total


@final
class RandomOrder(nn.Module):
    """Score by chance, seeded by the request, so that batches change nothing."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``."""
        scores = torch.zeros(batch.mask.shape)
        rows = range(len(batch)) if batch.rows is None else batch.rows.tolist()
        for i, row in enumerate(rows):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + row)
            scores[i] = torch.rand(scores.shape[1], generator=generator)
        return scores.to(batch.mask.device)


def _cascade(scorer: nn.Module, settings: RunSettings) -> Cascade:
    # The same scorer in every stage: what the last keeps is the top of the one ranking.
    return Cascade(dict.fromkeys(settings.stages, scorer), settings.quotas)


def _numeric(data: RunData, pattern: str) -> list[Feature]:
    features = [
        f for f in data.schema.select([pattern]) if f.role is Role.ITEM and f.kind is Kind.NUMERIC
    ]
    if not features:
        raise ConfigError(f"'{pattern}' matches no numeric feature of the candidates")
    return features


def _best(features: Sequence[Feature], settings: RunSettings, data: RunData) -> tuple[str, float]:
    """The feature and direction of the best recall at the last quota, on training requests."""
    loader = RequestLoader(
        data.encoded, data.split.train, batch_size=settings.evaluation.batch_size
    )
    recalls: dict[tuple[str, float], list[Tensor]] = {}
    for batch in loader.epoch(0):
        if batch.labels is None:
            raise ConfigError("a baseline is chosen by labels; the data set has none")
        for feature in features:
            for sign in (1.0, -1.0):
                recall = recall_metric(
                    FeatureOrder(feature.name, sign=sign)(batch),
                    batch.labels,
                    m=settings.quotas[-1],
                    k=settings.relevance.top,
                    threshold=settings.relevance.threshold,
                    mask=batch.mask,
                )
                recalls.setdefault((feature.name, sign), []).append(recall)
    return max(recalls, key=lambda choice: float(torch.cat(recalls[choice]).nanmean()))
