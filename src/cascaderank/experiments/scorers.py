"""Scorers that are fitted by a library of their own: what many would pick in place of a network.

A scorer is named in ``compare.objectives`` as a method, is tuned with as many trials as the others
by ``[compare.grid.<name>]``, and is judged on the same requests. It ranks by one score in every
stage and sees what the last stage may use: numbers as a network gets them, categories as such;
histories are left out.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.config import RunSettings
from cascaderank.data.loader import RequestLoader
from cascaderank.errors import ConfigError, DataError, did_you_mean
from cascaderank.evaluation import evaluate
from cascaderank.extras import require
from cascaderank.metrics.recall import recall_metric
from cascaderank.schema import Kind, Role
from cascaderank.training.memory import PeakMemory
from cascaderank.training.run import RunResult
from cascaderank.training.run_data import RunData
from cascaderank.training.run_folder import RunFolder

SCORERS = {
    "lightgbm_lambdarank": "lambdarank",
    "lightgbm_xendcg": "rank_xendcg",
}
"""By name, the objective that LightGBM calls so; the extra ``baselines`` brings LightGBM."""

_MOST_GRADES = 31
_MOST_CANDIDATES = 10_000  # of one request, as LightGBM has it


@final
class TreeSettings(BaseModel):
    """Of gradient-boosted trees; what LightGBM calls the same."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_leaves: int = Field(31, ge=2)
    learning_rate: float = Field(0.1, gt=0)
    min_data_in_leaf: int = Field(20, ge=1)
    lambda_l2: float = Field(0.0, ge=0)
    feature_fraction: float = Field(0.8, gt=0, le=1)
    bagging_fraction: float = Field(0.8, gt=0, le=1)
    truncation: int | None = Field(None, ge=1)
    """Of lambdarank: ranks that pairs are about; not given, the quota of the last stage."""
    rounds: int = Field(500, ge=1)
    """Trees, at most."""
    patience: int = Field(50, ge=1)
    """Trees without a better recall of the validation requests before the end."""

    @model_validator(mode="after")
    def _patience_can_run_out(self) -> Self:
        if self.patience > self.rounds:
            raise ValueError(f"patience is {self.patience}, more than {self.rounds} rounds")
        return self


def tree_settings(name: str, options: Mapping[str, Any]) -> TreeSettings:
    """Check the options of a scorer.

    Raises:
        ConfigError: for everything that is wrong, in one message.

    Examples:
        >>> tree_settings("lightgbm_lambdarank", {"num_leaves": 7}).num_leaves
        7
    """
    try:
        return TreeSettings.model_validate(dict(options))
    except ValidationError as error:
        told = []
        for mistake in error.errors():
            option = ".".join(map(str, mistake["loc"]))
            text = f"{option}: {mistake['msg'].removeprefix('Value error, ')}"
            if mistake["type"] == "extra_forbidden":
                known = TreeSettings.model_fields
                text = f"it has no option '{option}'{did_you_mean(option, known)}"
                text += f"; it takes {', '.join(known)}"
            told.append(text)
        raise ConfigError(f"scorer '{name}': {'; '.join(told)}") from None


@final
class TreeScorer(nn.Module):
    """Score by the trees of a booster."""

    def __init__(self, booster: Any, columns: Sequence[str]) -> None:
        super().__init__()
        self.booster, self.columns = booster, tuple(columns)

    def forward(self, batch: RequestBatch) -> Tensor:
        """Return scores ``[batch, list]``; those of padding mean nothing."""
        scores = torch.zeros(batch.mask.shape, dtype=torch.float64)
        scores[batch.mask.cpu()] = torch.from_numpy(
            self.booster.predict(_matrix(batch, self.columns), num_threads=torch.get_num_threads())
        )
        return scores.to(batch.mask.device)


def fit_scorer(
    name: str, options: Mapping[str, Any], settings: RunSettings, data: RunData
) -> tuple[Cascade, float | None]:
    """Fit a scorer to the training requests; the recall of validation requests says when to stop.

    Args:
        name: one of :data:`SCORERS`.
        options: see :class:`TreeSettings`.
        settings: of the run; quotas, ground truth and seed count.
        data: of the run.

    Returns:
        A cascade that ranks by the scorer in every stage, and its joint recall on validation
        requests; ``None`` if no validation request has ground truth.

    Raises:
        ConfigError: if an option is wrong, or the labels are not what the library takes.
        DataError: if a request has too many candidates.
        MissingExtraError: if the library is not installed.

    Source: Burges, From RankNet to LambdaRank to LambdaMART (2010); Bruch, An Alternative Cross
    Entropy Loss for Learning-to-Rank (2021, arXiv 1911.09798); both as LightGBM has them.
    """
    lightgbm = require("lightgbm", extra="baselines")
    trees, last = tree_settings(name, options), list(settings.stages.values())[-1]
    chosen = [
        f
        for f in data.schema.select(last.features)
        if f.role in (Role.ITEM, Role.REQUEST) and f.kind in (Kind.NUMERIC, Kind.CATEGORICAL)
    ]
    columns = [f.name for f in chosen]
    categories = [f.name for f in chosen if f.kind is Kind.CATEGORICAL]
    train = _requests(settings, data, data.split.train, columns, name)
    validation = _requests(settings, data, data.split.validation, columns, name)

    def dataset(of: "_Requests", reference: Any = None) -> Any:
        return lightgbm.Dataset(
            of.values, of.labels, group=of.sizes, feature_name=columns, reference=reference,
            categorical_feature=categories, params={"verbosity": -1}, free_raw_data=False,
        )  # fmt: skip

    def recall(scores: NDArray[np.float64], _: Any) -> tuple[str, float, bool]:
        return "recall", validation.recall(scores, settings), True

    given = trees.model_dump(exclude={"rounds", "patience", "truncation"})
    if SCORERS[name] == "lambdarank":
        given["lambdarank_truncation_level"] = trees.truncation or settings.quotas[-1]
        given["label_gain"] = [2**grade - 1 for grade in range(_MOST_GRADES)]
    of_train = dataset(train)
    booster = lightgbm.train(
        {
            **given,
            "objective": SCORERS[name],
            "metric": "none",
            "bagging_freq": 1,
            "seed": settings.train.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": torch.get_num_threads(),
            "verbosity": -1,
        },
        of_train,
        num_boost_round=trees.rounds,
        valid_sets=[dataset(validation, of_train)],
        feval=recall,
        callbacks=[lightgbm.early_stopping(trees.patience, verbose=False)],
    )
    found = validation.recall(booster.predict(validation.values), settings)
    scorer = TreeScorer(booster, columns)
    cascade = Cascade(dict.fromkeys(settings.stages, scorer), settings.quotas)
    return cascade, None if np.isnan(found) else found


def run_scorer(
    name: str, options: Mapping[str, Any], settings: RunSettings, folder: Path, data: RunData
) -> RunResult:
    """Fit a scorer and judge it on the test requests, as a run of a cascade is.

    Nothing is kept of it in the folder: it is fitted again when it is asked for again.

    Raises:
        ConfigError, DataError, MissingExtraError: as :func:`fit_scorer`.
    """
    started, memory = time.monotonic(), PeakMemory(torch.device("cpu"))
    cascade, validation = fit_scorer(name, options, settings, data)
    seconds = time.monotonic() - started
    size = settings.evaluation.batch_size
    report = evaluate(
        cascade,
        RequestLoader(data.encoded, data.split.test, batch_size=size),
        ground_truth=settings.relevance.top,
        threshold=settings.relevance.threshold,
        metrics=settings.evaluation.metrics,
        bootstrap=1,
    )
    return RunResult(
        folder=RunFolder(folder),
        test=report,
        validation=validation,
        seconds=seconds,
        peak_memory=memory.bytes(),
    )


@final
class _Requests:
    """Candidates of some requests as a matrix, and how many each request has."""

    def __init__(
        self, values: NDArray[np.float32], labels: NDArray[np.float32], sizes: NDArray[np.int64]
    ) -> None:
        self.values, self.labels, self.sizes = values, labels, sizes
        self._padded = self._lists(torch.from_numpy(labels))
        self._mask = self._lists(torch.ones(len(labels))) > 0

    def _lists(self, flat: Tensor) -> Tensor:
        return pad_sequence(list(torch.split(flat, self.sizes.tolist())), batch_first=True)

    def recall(self, scores: NDArray[np.float64], settings: RunSettings) -> float:
        """Joint recall of a cascade that has these scores in every stage; NaN if undefined."""
        values = recall_metric(
            self._lists(torch.from_numpy(np.asarray(scores))),
            self._padded,
            m=settings.quotas[-1],
            k=settings.relevance.top,
            threshold=settings.relevance.threshold,
            mask=self._mask,
        )
        return float(values.nanmean())


def _requests(
    settings: RunSettings, data: RunData, rows: NDArray[np.int64], columns: Sequence[str], name: str
) -> _Requests:
    loader = RequestLoader(data.encoded, rows, batch_size=settings.evaluation.batch_size)
    values, labels, sizes = [], [], []
    for batch in loader.epoch(0):
        if batch.labels is None:
            raise ConfigError(f"scorer '{name}' learns from labels; the data set has none")
        values.append(_matrix(batch, columns))
        labels.append(batch.labels[batch.mask].numpy())
        sizes.append(batch.mask.sum(-1).numpy())
    found = _Requests(np.concatenate(values), np.concatenate(labels), np.concatenate(sizes))
    grades = found.labels
    if (grades != grades.round()).any() or grades.min() < 0 or grades.max() >= _MOST_GRADES:
        raise ConfigError(
            f"scorer '{name}' learns from grades, whole numbers from 0 to {_MOST_GRADES - 1}; the "
            f"labels go from {grades.min():g} to {grades.max():g}; take another data.target"
        )
    if found.sizes.max() > _MOST_CANDIDATES:
        raise DataError(
            f"scorer '{name}' takes {_MOST_CANDIDATES:,} candidates a request at most; there are "
            f"{found.sizes.max():,}"
        )
    return found


def _matrix(batch: RequestBatch, columns: Sequence[str]) -> NDArray[np.float32]:
    """Features of the real candidates, ``[candidates, features]``; NaN for what is missing."""
    found = []
    for name in columns:
        values = batch.items.get(name)
        if values is None:
            values = batch.request[name].unsqueeze(-1).expand(batch.mask.shape)
        found.append(values[batch.mask].float().cpu())
    return torch.stack(found, -1).numpy()
