"""Teachers: models of one stage that play the stages of a funnel, and its users."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from pydantic import JsonValue
from torch import nn

from cascaderank.config import RunSettings
from cascaderank.data.columns import EncodedLog
from cascaderank.data.loader import RequestLoader
from cascaderank.errors import CascadeRankError
from cascaderank.metrics.auc import auc_metric
from cascaderank.schema import FittedSchema
from cascaderank.simulation.calibration import Floats, Platt, calibration_error, reliability
from cascaderank.training.progress import Progress
from cascaderank.training.run import load_run, train_run
from cascaderank.training.run_data import RunData, run_data


@final
@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained model of one stage."""

    stage: nn.Module
    schema: FittedSchema
    platt: Platt
    """From its scores to probabilities, fitted to the validation requests."""
    report: dict[str, JsonValue]
    """How good it is on the test requests."""


def train_teachers(
    settings: Mapping[str, RunSettings], folder: Path, *, threshold: float, progress: Progress
) -> dict[str, Teacher]:
    """Train teachers on one log; those that are there already are not trained again.

    Args:
        settings: of each, by name; they differ in nothing about the data.
        folder: where the run of each goes, under its name.
        threshold: labels of at least this are positive.
        progress: hears how far it is.

    Returns:
        By name. The report of each tells ``auc``, ``calibration_error`` of its own probabilities
        and ``calibrated_error`` after Platt's correction, with a reliability table of the latter.

    Raises:
        RunError: if a folder holds a run of other settings or data.
        DataError: if the log is not what it must be.
    """
    teachers = {}
    with run_data(next(iter(settings.values())), progress=progress) as data:
        for name, of_run in settings.items():
            try:
                train_run(of_run, folder / name, data=data, progress=progress)
                teachers[name] = _judged(folder / name, of_run, data, threshold)
            except CascadeRankError as error:
                raise type(error)(f"teacher '{name}': {error}") from None
    return teachers


def _judged(folder: Path, settings: RunSettings, data: RunData, threshold: float) -> Teacher:
    cascade, schema, _ = load_run(folder)
    (stage,) = cascade.stages.values()
    batch_size = settings.evaluation.batch_size
    platt = Platt.fit(*_scored(stage, data.encoded, data.split.validation, threshold, batch_size))
    scores, labels = _scored(stage, data.encoded, data.split.test, threshold, batch_size)
    told: dict[str, Any] = {
        "auc": float(auc_metric(torch.from_numpy(scores), torch.from_numpy(labels), threshold=0.5)),
        "candidates": len(labels),
        "positive": float(labels.mean()),
    }
    plain = Platt(slope=1.0, offset=0.0)
    table = reliability(platt(scores), labels)
    told |= {
        "calibration_error": calibration_error(reliability(plain(scores), labels)),
        "calibrated_error": calibration_error(table),
        "platt": platt.model_dump(),
        "reliability": [b.model_dump() for b in table],
        "parameters": sum(p.numel() for p in stage.parameters()),
    }
    return Teacher(stage=stage, schema=schema, platt=platt, report=told)


@torch.no_grad()
def _scored(
    stage: nn.Module, encoded: EncodedLog, rows: np.ndarray, threshold: float, size: int
) -> tuple[Floats, Floats]:
    """Scores of all candidates of some requests, and whether they are positive."""
    scores, labels = [], []
    for batch in RequestLoader(encoded, rows, batch_size=size).epoch(0):
        scores.append(stage(batch)[batch.mask].double())
        if batch.labels is not None:
            labels.append((batch.labels[batch.mask] >= threshold).double())
    return torch.cat(scores).numpy(), torch.cat(labels).numpy()
