"""Teachers: single-stage models that act as the stages of a funnel and as its users."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from pydantic import JsonValue
from torch import nn

from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import CascadeRankError
from cascaderank.metrics.auc import auc_metric
from cascaderank.progress import Progress
from cascaderank.runs.data import RunData, run_data
from cascaderank.runs.load import load_run
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings
from cascaderank.simulation.calibration import Floats, Platt, calibration_error, reliability
from cascaderank.training.train_run import train_run


@final
@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained model of one stage."""

    stage: nn.Module
    schema: FittedSchema
    platt: Platt
    """Map from scores to probabilities, fitted to the validation requests."""
    report: dict[str, JsonValue]
    """Accuracy and calibration on the test requests."""


def train_teachers(
    settings: Mapping[str, RunSettings],
    folder: str | os.PathLike[str],
    *,
    threshold: float,
    progress: Progress,
) -> dict[str, Teacher]:
    """Train teachers on one log; complete runs are reused.

    Args:
        settings: run settings by name of the teacher; all have the same data settings.
        folder: folder of the runs, one subfolder per teacher.
        threshold: minimum label of positive feedback.
        progress: progress reporter.

    Returns:
        Teachers by name. Their reports contain ``auc``, ``calibration_error`` of the uncorrected
        probabilities, ``calibrated_error`` after Platt scaling, and the reliability table of the
        latter.

    Raises:
        RunError: if a folder contains a run of other settings or data.
        DataError: if the log is invalid.
    """
    teachers, folder = {}, Path(folder)
    with run_data(next(iter(settings.values())), progress=progress) as data:
        for name, run_settings in settings.items():
            try:
                train_run(run_settings, folder / name, data=data, progress=progress)
                teachers[name] = _evaluate(folder / name, run_settings, data, threshold)
            except CascadeRankError as error:
                raise type(error)(f"teacher '{name}': {error}") from None
    return teachers


def _evaluate(folder: Path, settings: RunSettings, data: RunData, threshold: float) -> Teacher:
    run = load_run(folder)
    (stage,) = run.cascade.stages.values()
    batch_size = settings.evaluation.batch_size
    platt = Platt.fit(
        *_scores_and_labels(stage, data.encoded, data.split.validation, threshold, batch_size)
    )
    scores, labels = _scores_and_labels(stage, data.encoded, data.split.test, threshold, batch_size)
    report: dict[str, Any] = {
        "auc": float(auc_metric(torch.from_numpy(scores), torch.from_numpy(labels), threshold=0.5)),
        "candidates": len(labels),
        "positive": float(labels.mean()),
    }
    uncorrected = Platt(slope=1.0, offset=0.0)
    table = reliability(platt(scores), labels)
    report |= {
        "calibration_error": calibration_error(reliability(uncorrected(scores), labels)),
        "calibrated_error": calibration_error(table),
        "platt": platt.model_dump(),
        "reliability": [b.model_dump() for b in table],
        "parameters": sum(p.numel() for p in stage.parameters()),
    }
    return Teacher(stage=stage, schema=run.schema, platt=platt, report=report)


@torch.no_grad()
def _scores_and_labels(
    stage: nn.Module, encoded: EncodedLog, rows: np.ndarray, threshold: float, size: int
) -> tuple[Floats, Floats]:
    """Scores and binary labels of all candidates of the requests at ``rows``."""
    scores, labels = [], []
    for batch in RequestLoader(encoded, rows, batch_size=size).epoch(0):
        scores.append(stage(batch)[batch.mask].double())
        if batch.labels is not None:
            labels.append((batch.labels[batch.mask] >= threshold).double())
    return torch.cat(scores).numpy(), torch.cat(labels).numpy()
