"""Baselines without training, as cascades.

A baseline ranks by the same score in every stage, so its result is the top of one ranking. It may
use features that the first stages of the cascade may not use. The exception is ``stage_fusion``, in
which each stage fuses the features that it may use. Features with several values are not used. In a
config, a baseline is named ``"random"``, ``"feature:NAME"``, ``"best_feature"`` or
``"best_feature:PATTERN"``, ``"rank_fusion:PATTERN"`` and ``"stage_fusion:PATTERN"``.
"""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.metrics.recall import recall_metric
from cascaderank.runs.data import RunData
from cascaderank.schema import Feature, Kind, Role
from cascaderank.selection import best_first
from cascaderank.settings.run import RunSettings

BASELINES = {
    "random": "Random order.",
    "feature": "One feature, in descending order.",
    "best_feature": "The feature and direction with the highest recall on training requests.",
    "rank_fusion": "Reciprocal rank fusion of features: the sum of 1 / (60 + rank).",
    "stage_fusion": "Reciprocal rank fusion in each stage, of the features that it may use.",
}
"""Baselines by name, with a description of their score."""

_MISSING_SCORE = -1e30  # score of a candidate without the feature: ranked last
_FUSION_CONSTANT = 60.0  # from Cormack, Clarke and Buettcher (SIGIR 2009)


def build_baseline(text: str, settings: RunSettings, data: RunData) -> tuple[str, Cascade]:
    """Build a baseline for the requests of a run.

    Args:
        text: ``"name"`` or ``"name:pattern"``.
        settings: settings of the run, for quotas, ground truth and seed.
        data: data of the run; choices are made on its training requests.

    Returns:
        The display name of the baseline, and its cascade.

    Raises:
        ConfigError: if the baseline is unknown, or needs a pattern.
        SchemaError: if the pattern matches no feature.
    """
    name, _, pattern = text.partition(":")
    if name not in BASELINES:
        raise ConfigError(
            f"unknown baseline '{name}'{did_you_mean(name, BASELINES)}; "
            f"available: {', '.join(BASELINES)}"
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
            name: RankFusion([f for f in data.schema.select(stage.features) if f in features])
            for name, stage in settings.stages.items()
        }
        return "rank fusion by stage", Cascade(stages, settings.quotas)
    if name == "feature":
        return features[0].name, _cascade(FeatureOrder(features[0].name), settings)
    feature, sign = _best_feature(features, settings, data)
    label = f"best single: {'-' if sign < 0 else ''}{feature}"
    return label, _cascade(FeatureOrder(feature, sign=sign), settings)


@final
class FeatureOrder(nn.Module):
    """Score candidates by one numeric feature; candidates without a value rank last."""

    def __init__(self, feature: str, *, sign: float = 1.0) -> None:
        super().__init__()
        self.feature, self.sign = feature, sign

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; higher is better."""
        return torch.nan_to_num(batch.items[self.feature] * self.sign, nan=_MISSING_SCORE)


@final
class RankFusion(nn.Module):
    """Score candidates by reciprocal rank fusion; a missing value adds 0."""

    def __init__(self, features: Sequence[Feature]) -> None:
        super().__init__()
        self.features = [f.name for f in features]

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; higher is better."""
        total = torch.zeros_like(batch.mask, dtype=torch.float32)
        for name in self.features:
            values = batch.items[name]
            present = batch.mask & ~values.isnan()
            ranks = best_first(values.masked_fill(~present, -torch.inf)).argsort(dim=-1) + 1
            total += present / (_FUSION_CONSTANT + ranks)
        return total


@final
class RandomOrder(nn.Module):
    """Score candidates at random, seeded by request row, independently of the batches."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; higher is better."""
        scores = torch.zeros(batch.mask.shape)
        rows = range(len(batch)) if batch.rows is None else batch.rows.tolist()
        for i, row in enumerate(rows):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + row)
            scores[i] = torch.rand(scores.shape[1], generator=generator)
        return scores.to(batch.mask.device)


def _cascade(scorer: nn.Module, settings: RunSettings) -> Cascade:
    # With the same scorer in every stage, the last stage keeps the top of that one ranking.
    return Cascade(dict.fromkeys(settings.stages, scorer), settings.quotas)


def _numeric(data: RunData, pattern: str) -> list[Feature]:
    features = [
        f
        for f in data.schema.select([pattern])
        if f.role is Role.ITEM and f.kind is Kind.NUMERIC and not f.several
    ]
    if not features:
        raise ConfigError(
            f"pattern '{pattern}' must match a numeric feature of the candidates with one value; "
            "it matches none"
        )
    return features


def _best_feature(
    features: Sequence[Feature], settings: RunSettings, data: RunData
) -> tuple[str, float]:
    """Feature and sign with the highest mean recall at the last quota on training requests."""
    recalls: dict[tuple[str, float], list[Tensor]] = {}
    for batch in data.loader(data.split.train).epoch(0):
        if batch.labels is None:
            raise ConfigError("baseline 'best_feature' needs labels; the data set has none")
        for feature in features:
            for sign in (1.0, -1.0):
                recall = recall_metric(
                    FeatureOrder(feature.name, sign=sign)(batch),
                    batch.labels,
                    m=settings.quotas[-1],
                    k=settings.ground_truth.top,
                    threshold=settings.ground_truth.threshold,
                    mask=batch.mask,
                )
                recalls.setdefault((feature.name, sign), []).append(recall)
    return max(recalls, key=lambda choice: float(torch.cat(recalls[choice]).nanmean()))
