"""A run from settings to verdict: encode, train, judge, and write it all down."""

import io
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from cascaderank.cascade import Cascade, build_stage
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import CascadeRankError, ConfigError, RunError, SchemaError
from cascaderank.evaluation import Report, evaluate
from cascaderank.evaluation.item_retrieval import CatalogueReport
from cascaderank.objectives import OBJECTIVES, Objective, build_objective
from cascaderank.progress import Progress, Silent
from cascaderank.runs.data import RunData, run_data
from cascaderank.runs.environment import environment
from cascaderank.runs.folder import (
    RunFolder,
    locked,
    read_json,
    write_atomically,
    write_json,
)
from cascaderank.runs.seeding import deterministic, pick_device
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings, read_settings
from cascaderank.training.domain_checks import check_domains
from cascaderank.training.memory import PeakMemory
from cascaderank.training.retrieval import (
    check_search,
    decider,
    random_label,
    sampler_of,
    search_items,
    searches,
)
from cascaderank.training.trainer import Trainer
from cascaderank.training.warm_start import begin_with

Part = Literal["auto", "all", "train", "validation", "test"]

_MOST_TOLD = 6  # settings that differ, in a message


@final
@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended."""

    folder: RunFolder
    test: Report
    validation: float | None
    """Best joint recall of the validation requests, or what ``catalogue.decides`` names."""
    seconds: float
    """Of training, in the session that came to its end."""
    peak_memory: int | None
    """Bytes while training, in that session, as :class:`PeakMemory` measures them; ``None`` if
    they could not be measured."""


def train_run(
    settings: RunSettings,
    folder: Path,
    *,
    data: RunData | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Train a cascade and judge it on the test requests; a killed run goes on where it stopped.

    Args:
        settings: of the run.
        folder: of the run; made if it is not there. If it holds a complete run of these settings,
            that is the result.
        data: what :func:`run_data` gives for these settings, if it is at hand.
        progress: hears how far it is.

    Returns:
        How the run ended; the folder holds everything else.

    Raises:
        RunError: if the folder holds a run of other settings or data, or training breaks down.
        DataError: if the request log is not what it must be.
        ConfigError: if model or objective cannot be built so.
    """
    progress = progress or Silent()
    run = RunFolder(folder)
    with locked(folder):
        _claim(run, settings)
        _check_same_data(run, data.log if data else RequestLog.open(settings.data.path))
        if run.complete:
            return _read_result(run)
        if data is not None:
            return _train(settings, run, data, progress)
        with run_data(settings, folder=folder, progress=progress) as data:
            return _train(settings, run, data, progress)


def _train(settings: RunSettings, run: RunFolder, data: RunData, progress: Progress) -> RunResult:
    started = time.monotonic()
    device = pick_device(settings.train.device)
    memory = PeakMemory(device)
    write_atomically(run.schema, data.schema.model_dump_json(indent=1).encode())
    around = environment(seed=settings.train.seed, device=device)
    write_json(run.environment, {**around, "dataset": _described(data.log, settings)})
    with deterministic(settings.train.seed, device):
        cascade = build_cascade(settings, data.schema)
        start = settings.train.start
        if start is not None and not run.checkpoint.exists():
            begin_with(cascade, data.schema, start, load_run(start))
        check_domains(settings, data, cascade)
        check_search(settings, cascade, data)
        trainer = Trainer(
            cascade,
            run_objective(settings, data.log),
            train=RequestLoader(
                data.encoded,
                data.split.train,
                pin_memory=device.type == "cuda",
                sampler=sampler_of(settings, data),
                random_label=random_label(settings),
                **settings.train.model_dump(
                    include={"batch_size", "seed", "order", "bucketing", "prefetch"}
                ),
            ),
            validation=_loader(settings, data.encoded, data.split.validation),
            relevance=settings.relevance,
            decides=decider(settings, cascade, data, device),
            settings=settings.train,
            folder=run,
            device=device,
            progress=progress,
        )
        state = trainer.fit()
    seconds, peak = time.monotonic() - started, memory.bytes()
    report = judge(settings, cascade, data.encoded, data.split.test, device, progress)
    found: dict[str, object] = {}
    if searches(settings, cascade):
        searched = search_items(
            settings,
            cascade,
            data.schema,
            data.log,
            data.encoded,
            rows=data.split.test,
            train=data.split.train,
            device=device,
        )
        found["catalogue"] = searched.to_json()
        report = replace(report, per_request={**report.per_request, **_of_catalogue(searched)})
    _write_per_request(run, report, data.encoded)
    validation = state.best if state.best >= 0 else None
    write_json(
        run.report,
        {
            "dataset": _described(data.log, settings),
            "requests": {
                "train": len(data.split.train),
                "validation": len(data.split.validation),
                "test": len(data.split.test),
            },
            "parameters": {
                name: sum(p.numel() for p in stage.parameters())
                for name, stage in cascade.stages.items()
            },
            "training": {
                "epochs": state.epoch,
                "steps": state.step,
                "best_epoch": state.best_epoch,
                "decided_by": _decided_by(settings),
                "validation": validation,
                "seconds": round(seconds, 3),
                "peak_memory_bytes": peak,
            },
            "test": report.to_json(),
            **found,
        },
    )
    run.checkpoint.unlink(missing_ok=True)
    return RunResult(
        folder=run, test=report, validation=validation, seconds=seconds, peak_memory=peak
    )


def build_cascade(settings: RunSettings, schema: FittedSchema) -> Cascade:
    """Build the cascade of a run, freshly initialised from torch's global generator.

    Raises:
        ConfigError: if a stage cannot be built so; says which.
        SchemaError: if a stage names a feature that there is not.
    """
    stages = {}
    for name, stage in settings.stages.items():
        try:
            stages[name] = build_stage(
                stage.model, schema, features=stage.features, options=stage.options
            )
        except (ConfigError, SchemaError) as error:
            raise type(error)(f"stages.{name}: {error}") from None
    return Cascade(stages, settings.quotas)


def load_run(folder: Path) -> tuple[Cascade, FittedSchema, RunSettings]:
    """Load the cascade of a complete run, ready to judge or to serve.

    Args:
        folder: what ``train`` wrote.

    Returns:
        The cascade with its best weights in evaluation mode, the schema that encodes requests for
        it, and the settings of the run.

    Raises:
        RunError: if the folder is not that of a complete run.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; give one that `cascaderank train` wrote")
    run = RunFolder(folder)
    if not run.weights.exists():
        raise RunError(f"{folder}: no {run.weights.name}, so this run did not come to its end")
    try:
        settings, schema = read_settings(run.config), FittedSchema.load(run.schema)
        cascade = build_cascade(settings, schema)
        cascade.load_state_dict(load_file(run.weights))
    except (CascadeRankError, RuntimeError, SafetensorError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise RunError(f"{folder}: cannot be loaded: {first}") from None
    return cascade.eval(), schema, settings


def _claim(run: RunFolder, settings: RunSettings) -> None:
    """Write the settings into a folder that holds nothing learnt, or check that it has the same."""
    text = settings.to_toml()
    if not run.begun:
        write_atomically(run.config, text.encode())
        return
    if run.config.read_text(encoding="utf-8") != text:
        differ = read_settings(run.config).differences(settings)
        told = "; ".join(differ[:_MOST_TOLD]) or "defaults"
        if len(differ) > _MOST_TOLD:
            told += f"; and {len(differ) - _MOST_TOLD} more"
        raise RunError(
            f"{run.path}: holds a run of other settings ({told}); "
            "choose another folder with --run, or remove this one"
        )


def _described(log: RequestLog, settings: RunSettings) -> dict[str, str]:
    return {
        "path": str(settings.data.path),
        "name": log.manifest.name,
        "fingerprint": log.fingerprint,
    }


def _check_same_data(run: RunFolder, log: RequestLog) -> None:
    """What was begun on one data set is not finished on another that took its place."""
    if not run.begun:
        return
    before = read_json(run.environment)["dataset"]["fingerprint"]
    if before != log.fingerprint:
        raise RunError(
            f"{run.path}: was trained on another data set than {log.path} is now (fingerprint "
            f"{before[:12]} there, {log.fingerprint[:12]} here); choose another folder, or "
            "remove this one"
        )


def _read_result(run: RunFolder) -> RunResult:
    report = read_json(run.report)
    values = pl.read_parquet(run.per_request).drop("request_id")
    return RunResult(
        folder=run,
        test=replace(
            Report.from_json(report["test"]),
            per_request={name: values[name].to_numpy() for name in values.columns},
        ),
        validation=_validation(report["training"]),
        seconds=report["training"]["seconds"],
        peak_memory=report["training"].get("peak_memory_bytes"),
    )


def run_objective(settings: RunSettings, log: RequestLog) -> Objective:
    """Build the objective of a run, for the stages, quotas and ground truth of its settings.

    Raises:
        ConfigError: if it cannot be built so.
    """
    name, options = settings.objective.name, settings.objective.options
    levels, stages = len(log.manifest.level_names), len(settings.stages)
    said = options.get("entry_levels")
    if said is not None and max(said) >= levels:
        there = f"levels 0 to {levels - 1}" if levels else "no levels"
        raise ConfigError(
            f"objective.entry_levels: {log.path} has {there}; got {list(said)}; name levels that "
            "are there, or leave it out"
        )
    if levels and "entry_levels" in OBJECTIVES.options(name):
        # Where the log has other levels than the published setting, stages enter evenly spaced.
        options.setdefault("entry_levels", [t * levels // stages for t in range(stages)])
    if levels and "exposed_level" in OBJECTIVES.options(name):
        options.setdefault("exposed_level", levels - 1)
    z = options.get("z")
    if levels and z is not None and len(z) != levels:
        raise ConfigError(
            f"objective.z must be {levels} numbers, one for each level of {log.path} "
            f"({', '.join(log.manifest.level_names)}); got {list(z)}"
        )
    return build_objective(
        name,
        stages=list(settings.stages),
        quotas=settings.quotas,
        ground_truth=settings.relevance.top,
        threshold=settings.relevance.threshold,
        **options,
    )


def _loader(settings: RunSettings, encoded: EncodedLog, rows: np.ndarray) -> RequestLoader:
    return RequestLoader(encoded, rows, batch_size=settings.evaluation.batch_size)


def judge(
    settings: RunSettings,
    cascade: Cascade,
    encoded: EncodedLog,
    rows: np.ndarray,
    device: torch.device,
    progress: Progress,
) -> Report:
    """Judge a cascade on some requests, as the settings of its run say."""
    loader = _loader(settings, encoded, rows)
    progress.start("judging", loader.batches_per_epoch)
    report = evaluate(
        cascade,
        loader,
        ground_truth=settings.relevance.top,
        threshold=settings.relevance.threshold,
        device=device,
        metrics=settings.evaluation.metrics,
        bootstrap=settings.evaluation.bootstrap,
        seed=settings.evaluation.seed,
        progress=progress.advance,
    )
    progress.stop()
    return report


def _decided_by(settings: RunSettings) -> str:
    decides = settings.catalogue and settings.catalogue.decides
    return f"catalogue/{decides}" if decides else "joint_recall"


def _validation(training: dict[str, Any]) -> float | None:
    before = "validation_joint_recall"  # what reports had when nothing else could decide
    validation: float | None = training["validation" if "validation" in training else before]
    return validation


def _of_catalogue(searched: CatalogueReport) -> dict[str, np.ndarray]:
    values = searched.per_request.items()
    return {f"catalogue/{name}": of for name, of in values if name != "row"}


def _write_per_request(run: RunFolder, report: Report, encoded: EncodedLog) -> None:
    ids = encoded.request_ids[report.per_request["row"]]
    frame = pl.DataFrame({"request_id": ids, **report.per_request})
    content = io.BytesIO()
    frame.write_parquet(content)
    write_atomically(run.per_request, content.getvalue())
