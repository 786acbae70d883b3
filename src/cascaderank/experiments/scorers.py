"""Scorers fitted by an external library, as alternatives to neural networks.

A scorer is named in ``compare.objectives`` like any method. It is tuned with the same number of
trials by ``[compare.grid.<name>]`` and evaluated on the same requests. It ranks by the same score
in every stage and uses the features of the last stage: numeric features as encoded for a network,
and categorical features as categories. Histories and features with several values are not used.
Weights of candidates are those of LightGBM's rows; weights of requests are not used.
"""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, StrictFloat, StrictInt, ValidationError, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.extras import require
from cascaderank.layers.feature_matrix import category_columns, feature_matrix, matrix_features
from cascaderank.limits import LARGEST_FLOAT32
from cascaderank.metrics.ndcg import ndcg_metric
from cascaderank.metrics.recall import recall_metric
from cascaderank.runs.data import RunData
from cascaderank.runs.folder import RunFolder
from cascaderank.schema import Feature, abridged
from cascaderank.settings.base import Count, Settings
from cascaderank.settings.run import RunSettings
from cascaderank.training.evaluate_run import evaluate_rows
from cascaderank.training.memory import PeakMemory
from cascaderank.training.run_result import RunResult

SCORERS = {
    "lightgbm_lambdarank": "lambdarank",
    "lightgbm_xendcg": "rank_xendcg",
}
"""LightGBM objectives by name of the scorer; LightGBM is in the extra ``baselines``."""

_MAX_GRADES = 31
_MAX_CANDIDATES = 10_000  # per request, a limit of LightGBM


@final
class TreeSettings(Settings):
    """Settings of gradient-boosted trees, with the names and meanings of LightGBM."""

    num_leaves: StrictInt = Field(31, ge=2, le=131_072)
    learning_rate: StrictFloat = Field(0.1, gt=0, le=1_000)
    min_data_in_leaf: Count = 20
    lambda_l2: StrictFloat = Field(0.0, ge=0, le=LARGEST_FLOAT32)
    feature_fraction: StrictFloat = Field(0.8, gt=0, le=1)
    bagging_fraction: StrictFloat = Field(0.8, gt=0, le=1)
    truncation: Count | None = None
    """Truncation level of lambdarank; by default the quota of the last stage."""
    rounds: Count = 500
    """Maximum number of trees."""
    min_rounds: Count = 100
    """Minimum number of trees, or ``rounds`` if that is less: the first trees hardly separate
    candidates, and with few validation requests the best of them is chance."""
    patience: Count = 50
    """Number of trees without an improved validation NDCG before early stopping."""

    @model_validator(mode="after")
    def _patience_can_run_out(self) -> Self:
        if self.patience > self.rounds:
            raise ValueError(
                f"patience must be at most rounds; got patience={self.patience} and "
                f"rounds={self.rounds}"
            )
        return self


def tree_settings(name: str, options: Mapping[str, Any]) -> TreeSettings:
    """Validate the options of a scorer.

    Raises:
        ConfigError: for all invalid options, in one message.

    Examples:
        >>> tree_settings("lightgbm_lambdarank", {"num_leaves": 7}).num_leaves
        7
    """
    try:
        return TreeSettings.model_validate(dict(options))
    except ValidationError as error:
        messages = []
        for mistake in error.errors():
            option = ".".join(map(str, mistake["loc"]))
            text = f"{option}: {mistake['msg'].removeprefix('Value error, ')}"
            if mistake["type"] == "extra_forbidden":
                known = TreeSettings.model_fields
                text = f"unknown option '{option}'{did_you_mean(option, known)}"
                text += f"; available: {', '.join(known)}"
            messages.append(text)
        raise ConfigError(f"scorer '{name}': {'; '.join(messages)}") from None


@final
class TreeScorer(nn.Module):
    """Score candidates by the trees of a LightGBM booster."""

    def __init__(self, booster: Any, features: Sequence[Feature]) -> None:
        super().__init__()
        self.booster, self.features = booster, tuple(features)

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; scores of padding are 0."""
        scores = torch.zeros(batch.mask.shape, dtype=torch.float64)
        scores[batch.mask.cpu()] = torch.from_numpy(
            self.booster.predict(
                feature_matrix(batch, self.features), num_threads=torch.get_num_threads()
            )
        )
        return scores.to(batch.mask.device)


def fit_scorer(
    name: str, options: Mapping[str, Any], settings: RunSettings, data: RunData
) -> tuple[Cascade, float | None]:
    """Fit a scorer to the training requests, with early stopping by the validation NDCG.

    NDCG (exponential gain, whole list) uses the grades of all candidates, so that it varies less
    than recall if there are few validation requests.

    Args:
        name: one of :data:`SCORERS`.
        options: options of the scorer; see :class:`TreeSettings`.
        settings: settings of the run, for features, quotas, ground truth and seed.
        data: data of the run.

    Returns:
        A cascade that ranks by the scorer in every stage, and its joint recall on the validation
        requests; ``None`` if no validation request has ground truth.

    Raises:
        ConfigError: if an option is invalid, if the last stage has no feature with one value per
            candidate or request, or if the labels are not integer grades from 0 to 30.
        DataError: if a request has more than 10,000 candidates.
        MissingExtraError: if the library is not installed.

    Source: Burges, From RankNet to LambdaRank to LambdaMART (2010); Bruch, An Alternative Cross
    Entropy Loss for Learning-to-Rank (2021, arXiv 1911.09798); both as implemented in LightGBM.
    """
    lightgbm = require("lightgbm", extra="baselines")
    trees, last = tree_settings(name, options), list(settings.stages.values())[-1]
    chosen = [f for f in matrix_features(data.schema.select(last.features)) if not f.several]
    if not chosen:
        raise ConfigError(
            f"scorer '{name}' needs a feature of candidates or requests with one value each; the "
            f"last stage has none: {abridged(last.features)}"
        )
    if not len(data.split.validation):
        raise ConfigError(
            f"scorer '{name}' stops by validation requests; got data.split.validation_days = 0; "
            "set it to 1 or more, or leave the scorer out"
        )
    categories = category_columns(data.schema, chosen)
    train = _requests(data, data.split.train, chosen, name)
    validation = _requests(data, data.split.validation, chosen, name)

    def dataset(requests: "_Requests", reference: Any = None) -> Any:
        return lightgbm.Dataset(
            requests.values, requests.labels, weight=requests.weights, group=requests.sizes,
            reference=reference, categorical_feature=categories,  # by number: LightGBM alters names
            params={"verbosity": -1}, free_raw_data=False,
        )  # fmt: skip

    values: list[float] = []

    def ndcg(scores: NDArray[np.float64], _: Any) -> tuple[str, float, bool]:
        values.append(validation.ndcg(scores))
        return "ndcg", values[-1], True

    def stop(_: Any) -> None:
        best = best_round(values, trees.min_rounds)
        if len(values) - best >= trees.patience:
            raise lightgbm.callback.EarlyStopException(best - 1, [])  # keeps `best` trees

    parameters = trees.model_dump(exclude={"rounds", "min_rounds", "patience", "truncation"})
    if SCORERS[name] == "lambdarank":
        parameters["lambdarank_truncation_level"] = trees.truncation or settings.quotas[-1]
        parameters["label_gain"] = [2**grade - 1 for grade in range(_MAX_GRADES)]
    train_set = dataset(train)
    booster = lightgbm.train(
        {
            **parameters,
            "objective": SCORERS[name],
            "metric": "none",
            "bagging_freq": 1,
            "seed": settings.train.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": torch.get_num_threads(),
            "verbosity": -1,
        },
        train_set,
        num_boost_round=trees.rounds,
        valid_sets=[dataset(validation, train_set)],
        feval=ndcg,
        callbacks=[stop],
    )
    booster.best_iteration = best_round(values, trees.min_rounds)
    best_recall = validation.recall(booster.predict(validation.values), settings)
    scorer = TreeScorer(booster, chosen)
    cascade = Cascade(dict.fromkeys(settings.stages, scorer), settings.quotas)
    return cascade, None if np.isnan(best_recall) else best_recall


def best_round(values: Sequence[float], least: int) -> int:
    """Return the number of trees with the highest validation value, the smallest if several.

    Args:
        values: validation value after each tree; NaN if undefined.
        least: minimum number of trees; with fewer values, all are taken.

    Examples:
        >>> best_round([0.5, 0.1, 0.3, 0.2], least=2)
        3
        >>> best_round([0.5], least=2)
        1
    """
    late = np.nan_to_num(values[least - 1 :], nan=-np.inf)
    return least + int(late.argmax()) if len(late) else len(values)


def run_scorer(
    name: str,
    options: Mapping[str, Any],
    settings: RunSettings,
    folder: str | os.PathLike[str],
    data: RunData,
) -> RunResult:
    """Fit a scorer and evaluate it on the test requests, like a run of a cascade.

    Nothing is stored in the folder, so the scorer is fitted again at each call.

    Raises:
        ConfigError, DataError, MissingExtraError: as :func:`fit_scorer`.
    """
    started, memory = time.monotonic(), PeakMemory(torch.device("cpu"))
    cascade, validation = fit_scorer(name, options, settings, data)
    seconds = time.monotonic() - started
    report = evaluate_rows(settings, cascade, data, data.split.test, bootstrap=1)
    return RunResult(
        folder=RunFolder(folder),
        test=report,
        validation=validation,
        seconds=seconds,
        peak_memory=memory.bytes(),
    )


@final
class _Requests:
    """Features, labels and weights of the candidates of several requests, and their numbers."""

    def __init__(
        self,
        values: NDArray[np.float32],
        labels: NDArray[np.float32],
        sizes: NDArray[np.int64],
        weights: NDArray[np.float32] | None,
    ) -> None:
        self.values, self.labels, self.sizes, self.weights = values, labels, sizes, weights
        self._padded = self._lists(torch.from_numpy(labels))
        self._mask = self._lists(torch.ones(len(labels))) > 0

    def _lists(self, flat: Tensor) -> Tensor:
        return pad_sequence(list(torch.split(flat, self.sizes.tolist())), batch_first=True)

    def recall(self, scores: NDArray[np.float64], settings: RunSettings) -> float:
        """Return the joint recall if every stage has these scores; NaN if undefined."""
        values = recall_metric(
            self._lists(torch.from_numpy(np.asarray(scores))),
            self._padded,
            m=settings.quotas[-1],
            k=settings.ground_truth.top,
            threshold=settings.ground_truth.threshold,
            mask=self._mask,
        )
        return float(values.nanmean())

    def ndcg(self, scores: NDArray[np.float64]) -> float:
        """Return the NDCG of whole lists, with exponential gain; NaN if undefined."""
        lists = self._lists(torch.from_numpy(np.asarray(scores)))
        return float(ndcg_metric(lists, self._padded, mask=self._mask).nanmean())


def _requests(
    data: RunData, rows: NDArray[np.int64], features: Sequence[Feature], name: str
) -> _Requests:
    values, labels, sizes, weights = [], [], [], []
    for batch in data.loader(rows).epoch(0):
        if batch.labels is None:
            raise ConfigError(f"scorer '{name}' needs labels; the data set has none")
        values.append(feature_matrix(batch, features))
        labels.append(batch.labels[batch.mask].numpy())
        sizes.append(batch.mask.sum(-1).numpy())
        if batch.weights is not None:
            weights.append(batch.weights[batch.mask].numpy())
    requests = _Requests(
        np.concatenate(values),
        np.concatenate(labels),
        np.concatenate(sizes),
        np.concatenate(weights) if weights else None,
    )
    grades = requests.labels
    if (grades != grades.round()).any() or grades.min() < 0 or grades.max() >= _MAX_GRADES:
        raise ConfigError(
            f"scorer '{name}' needs labels that are whole numbers from 0 to {_MAX_GRADES - 1}; got "
            f"labels from {grades.min():g} to {grades.max():g}; choose another data.target"
        )
    if requests.sizes.max() > _MAX_CANDIDATES:
        raise DataError(
            f"scorer '{name}' takes at most {_MAX_CANDIDATES:,} candidates per request; got "
            f"{requests.sizes.max():,}"
        )
    return requests
