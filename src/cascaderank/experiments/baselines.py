"""Baselines without training, as cascades.

``best_feature`` and ``rank_fusion`` use in each stage only the features that this stage of the
cascade may use, so they are the first numbers that a trained cascade has to exceed. The baselines
that end in ``_of_all``, and ``feature``, rank by one score in every stage; they may use features
that the first stages may not use, and are then marked in the tables (``Baseline.sees_more``). In a
config, a baseline is named ``"random"``, ``"best_feature"``, ``"rank_fusion"``,
``"best_feature_of_all"``, ``"rank_fusion_of_all"`` (each also as ``"rank_fusion:PATTERN"``, for
some of the features), and ``"feature:NAME"``. Features with several values are not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.evaluation.feature_order import FeatureOrder
from cascaderank.runs.data import RunData
from cascaderank.schema import Feature, Kind, Role
from cascaderank.selection import best_first, keep, relevance_of, share
from cascaderank.settings.run import RunSettings

BASELINES = {
    "random": "Random order.",
    "best_feature": "In each stage, the best feature that it may use, chosen on training requests.",
    "rank_fusion": "In each stage, reciprocal rank fusion of the features that it may use: the sum "
    "of 1 / (60 + rank).",
    "feature": "One feature, in descending order.",
    "best_feature_of_all": "The best feature of all, chosen on training requests, in every stage.",
    "rank_fusion_of_all": "Reciprocal rank fusion of all features, in every stage.",
    "stage_fusion": "The name of rank_fusion in version 0.2.",
}
"""Baselines by name, with a description of their score."""

_ONE_FEATURE = "best single feature"
_DEFAULT = ("random", "best_feature", "rank_fusion")
_FUSION_CONSTANT = 60.0  # from Cormack, Clarke and Buettcher (SIGIR 2009)
_MOST_REQUESTS = 4_000  # training requests that a feature is chosen on


@final
@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A baseline for the requests of a run."""

    name: str
    """Name of its row in tables."""
    cascade: Cascade
    """Cascade without trained parameters."""
    chosen: Mapping[str, str]
    """Feature chosen on training requests, by stage, or as ``"feature"`` if all stages have one; a
    leading ``-`` means ascending order. Empty for a baseline without a choice."""
    sees_more: bool
    """Whether a stage uses a feature that this stage of the cascade may not use."""


def default_baselines(data: RunData) -> tuple[str, ...]:
    """Return the baselines of a comparison that names none.

    These are ``random`` and, if the candidates have a numeric feature with one value,
    ``best_feature`` and ``rank_fusion``.
    """
    numeric = [f for f in data.schema.of(Role.ITEM, Kind.NUMERIC) if not f.several]
    return _DEFAULT if numeric else _DEFAULT[:1]


def build_baseline(text: str, settings: RunSettings, data: RunData) -> Baseline:
    """Build a baseline for the requests of a run.

    A stage that may use none of the features ranks at random.

    Args:
        text: ``"name"`` or ``"name:pattern"``.
        settings: settings of the run, for stages, quotas, ground truth and seed.
        data: data of the run; features are chosen on up to 4,000 of its training requests.

    Raises:
        ConfigError: if the baseline is unknown, needs a pattern, or no numeric feature of the
            candidates matches.
        SchemaError: if the pattern matches no feature.
    """
    name, _, pattern = text.partition(":")
    if name not in BASELINES:
        raise ConfigError(
            f"unknown baseline '{name}'{did_you_mean(name, BASELINES)}; "
            f"available: {', '.join(BASELINES)}"
        )
    if name == "random":
        order = dict.fromkeys(settings.stages, RandomOrder(settings.train.seed))
        cascade = Cascade(order, settings.quotas)
        return Baseline(name="random order", cascade=cascade, chosen={}, sees_more=False)
    if name == "feature" and not pattern:
        raise ConfigError(f"baseline '{name}' needs a feature, such as '{name}:f1'")
    features = _numeric(data, pattern or "*")
    if name == "feature":
        features = features[:1]
    visible = {
        stage: [f for f in data.schema.select(own.features) if f in features]
        for stage, own in settings.stages.items()
    }
    label, scorers = _scorers(name, features, visible, settings, data)
    chosen = {
        stage: f"{'-' if scorer.sign < 0 else ''}{scorer.feature}"
        for stage, scorer in scorers.items()
        if isinstance(scorer, FeatureOrder) and name != "feature"
    }
    if label == _ONE_FEATURE:
        chosen = {"feature": next(iter(chosen.values()))}
    return Baseline(
        name=label,
        cascade=Cascade(scorers, settings.quotas),
        chosen=chosen,
        sees_more=any(
            not set(scorer.features) <= {f.name for f in visible[stage]}
            for stage, scorer in scorers.items()
        ),
    )


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
        self.features: list[str] = []

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; higher is better."""
        scores = torch.zeros(batch.mask.shape)
        rows = range(len(batch)) if batch.rows is None else batch.rows.tolist()
        for i, row in enumerate(rows):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + row)
            scores[i] = torch.rand(scores.shape[1], generator=generator)
        return scores.to(batch.mask.device)


Scorer = FeatureOrder | RankFusion | RandomOrder
"""Order of candidates in a stage; ``features`` are the names of the features that it uses."""


def _scorers(
    name: str,
    features: Sequence[Feature],
    visible: Mapping[str, Sequence[Feature]],
    settings: RunSettings,
    data: RunData,
) -> tuple[str, dict[str, Scorer]]:
    """Name of the row, and the scorer of each stage.

    Args:
        name: name of a baseline with features.
        features: features of the baseline.
        visible: those of them that each stage may use.
        settings: settings of the run.
        data: data of the run.
    """
    several = len(visible) > 1
    if name == "feature":
        return features[0].name, dict.fromkeys(visible, FeatureOrder(features[0].name))
    if name == "best_feature_of_all":
        best = _best_features({"all": features}, settings.quotas[-1:], settings, data)["all"]
        return _ONE_FEATURE, dict.fromkeys(visible, best)
    if name == "best_feature":
        label = "best feature by stage" if several else _ONE_FEATURE
        return label, _best_features(visible, settings.quotas, settings, data)
    if name == "rank_fusion_of_all":
        return f"rank fusion of {len(features)}", dict.fromkeys(visible, RankFusion(features))
    label = "rank fusion by stage" if several else f"rank fusion of {len(features)}"
    seed = settings.train.seed
    return label, {s: RankFusion(own) if own else RandomOrder(seed) for s, own in visible.items()}


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


def _best_features(
    features: Mapping[str, Sequence[Feature]],
    quotas: Sequence[int],
    settings: RunSettings,
    data: RunData,
) -> dict[str, Scorer]:
    """Choose a feature and a direction for each stage, on training requests.

    The choice keeps the largest share of the ground truth at the quota of the stage, among the
    candidates that the choices of the stages before it keep. A stage without features has a random
    order.
    """
    step = -(-len(data.split.train) // _MOST_REQUESTS)
    loader = data.loader(data.split.train[:: max(1, step)])
    chosen: dict[str, Scorer] = {}
    for (stage, own), quota in zip(features.items(), quotas, strict=True):
        choices = [FeatureOrder(f.name, sign=sign) for f in own for sign in (1.0, -1.0)]
        if not choices:
            chosen[stage] = RandomOrder(settings.train.seed)
            continue
        shares: list[list[Tensor]] = [[] for _ in choices]
        for batch in loader.epoch(0):
            if batch.labels is None:
                raise ConfigError("baseline 'best_feature' needs labels; the data set has none")
            relevant = relevance_of(
                batch.labels,
                k=settings.ground_truth.top,
                threshold=settings.ground_truth.threshold,
                mask=batch.mask,
            )
            alive = batch.mask
            for earlier, size in zip(chosen.values(), quotas, strict=False):
                alive = keep(best_first(earlier(batch)), alive, size)
            for choice, values in zip(choices, shares, strict=True):
                values.append(share(keep(best_first(choice(batch)), alive, quota), relevant))
        means = [float(torch.cat(values).nanmean()) for values in shares]
        chosen[stage] = choices[means.index(max(means))]
    return chosen
