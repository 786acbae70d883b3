"""Train a run: open its data, build cascade and objective, train, evaluate, write the result."""

import os
import time
from pathlib import Path

import torch

from cascaderank.cascade import Cascade
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog
from cascaderank.progress import Progress, Silent
from cascaderank.runs.build import build_cascade, build_run_objective
from cascaderank.runs.claim import check_same_data, claim, describe_log
from cascaderank.runs.data import RunData, run_data
from cascaderank.runs.environment import environment
from cascaderank.runs.folder import RunFolder, locked, write_atomically, write_json
from cascaderank.runs.load import load_run
from cascaderank.runs.log_defaults import resolved
from cascaderank.runs.seeding import deterministic, pick_device
from cascaderank.settings.run import RunSettings
from cascaderank.training.domain_checks import check_domains
from cascaderank.training.evaluate_run import evaluate_rows, try_metrics
from cascaderank.training.length import batch_size_of
from cascaderank.training.memory import PeakMemory
from cascaderank.training.number_warnings import number_warnings
from cascaderank.training.retrieval import ItemRetrieval
from cascaderank.training.run_result import RunResult, read_result, write_result
from cascaderank.training.run_tracking import RunTracking
from cascaderank.training.run_warnings import data_warnings, result_warnings
from cascaderank.training.term_warnings import term_warnings
from cascaderank.training.trainer import Trainer
from cascaderank.training.warm_start import warm_start


def train_run(
    settings: RunSettings,
    folder: str | os.PathLike[str],
    *,
    data: RunData | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Train a cascade and evaluate it on the test requests; an interrupted run is resumed.

    Args:
        settings: settings of the run.
        folder: folder of the run; created if it does not exist. If it holds a complete run with
            these settings, its result is returned.
        data: the data of :func:`~cascaderank.runs.data.run_data` for these settings, if it is
            already prepared.
        progress: receives the progress of encoding, training and evaluation.

    Returns:
        Result of the run; weights, metrics and report are in the folder.

    Raises:
        RunError: if the folder holds a run with other settings or data, or files of others, is in
            use, or has damaged files, or if a file cannot be written.
        DivergedError: if the loss is not finite.
        DataError: if the request log is missing or damaged, or does not fit these settings.
        SchemaError: if a stage uses a feature that the request log does not have.
        ConfigError: if the cascade or the objective cannot be built, or a metric fails.
        MissingExtraError: if the library of a tracker of ``train.track`` is not installed.
    """
    progress = progress or Silent()
    log = data.log if data else RequestLog.open(settings.data.path)
    settings = resolved(settings, log)
    run = RunFolder(Path(folder))
    with locked(run.path, writes=run.new_files):
        if run.complete:
            run.check_files()
        claim(run, settings)
        check_same_data(run, log)
        if run.complete:
            return read_result(run)
        if data is not None:
            return _train(settings, run, data, progress)
        with run_data(settings, log=log, folder=run.path, progress=progress) as data:
            return _train(settings, run, data, progress)


def _train(settings: RunSettings, run: RunFolder, data: RunData, progress: Progress) -> RunResult:
    trackers, name = settings.train.track or (), run.path.resolve().name
    with RunTracking(trackers, run.path / "tracking", name=name) as tracking:
        return _train_tracked(settings, run, data, progress, tracking)


def _train_tracked(
    settings: RunSettings,
    run: RunFolder,
    data: RunData,
    progress: Progress,
    tracking: RunTracking,
) -> RunResult:
    started, device = time.monotonic(), pick_device(settings.train.device)
    try_metrics(settings, data)
    memory = PeakMemory(device)
    run.checksums.unlink(missing_ok=True)  # of a run that was killed before its report
    write_atomically(run.schema, data.schema.model_dump_json(indent=1).encode())
    software = environment(seed=settings.train.seed, device=device)
    write_json(run.environment, {**software, "dataset": describe_log(data.log, settings)})
    retrieval = ItemRetrieval(settings, data, device)
    with deterministic(settings.train.seed, device):
        cascade = build_cascade(settings, data.schema)
        if settings.train.start is not None and not run.resumable:
            warm_start(cascade, data.schema, load_run(settings.train.start), settings)
        check_domains(settings, data, cascade)
        retrieval.check(cascade)
        trainer = build_trainer(
            settings, cascade, data, retrieval, run, device, progress, tracking=tracking
        )
        state = trainer.fit()
    seconds, peak = time.monotonic() - started, memory.bytes()
    test = data.split.test
    report = evaluate_rows(settings, cascade, data, test, device=device, progress=progress)
    tracking.result(state.step, report)
    tracking.embeddings(state.step, cascade, data.schema)
    search = retrieval.evaluate(cascade, test) if retrieval.evaluates(cascade) else None
    result = RunResult(
        folder=run,
        test=report,
        validation=state.best if state.best >= 0 else None,
        seconds=seconds,
        peak_memory=peak,
        warnings=(
            *data_warnings(settings, data),
            *number_warnings(settings, data),
            *term_warnings(run.metrics),
            *result_warnings(settings, data, cascade, report, state, trainer.length),
        ),
    )
    result = write_result(result, settings, cascade, data, state, search)
    run.checkpoint.unlink(missing_ok=True)
    run.previous_checkpoint.unlink(missing_ok=True)
    return result


def build_trainer(
    settings: RunSettings,
    cascade: Cascade,
    data: RunData,
    retrieval: ItemRetrieval,
    folder: RunFolder,
    device: torch.device,
    progress: Progress,
    *,
    tracking: RunTracking | None = None,
) -> Trainer:
    """Build the trainer of a run with its objective, its loaders and its validation metric.

    Args:
        settings: settings of the run.
        cascade: cascade of the run.
        data: data of the run.
        retrieval: sampler of candidates and validation metric of the run.
        folder: folder of the run.
        device: device of the computation.
        progress: receives the progress of training.
        tracking: receives losses and metrics.

    Raises:
        ConfigError: if the objective cannot be built, or a setting needs a feature or level that
            the data does not have.
        DataError: if candidates are sampled by level and the log has no levels.
    """
    train = settings.train
    return Trainer(
        cascade,
        build_run_objective(settings, data.log),
        train=RequestLoader(
            data.encoded,
            data.split.train,
            batch_size=batch_size_of(train, len(data.split.train)),
            seed=train.seed,
            order=train.order,
            bucketing=train.bucketing,
            weighted=True,
            prefetch=train.prefetch,
            pin_memory=device.type == "cuda",
            sampler=retrieval.sampler(),
            random_label=retrieval.random_label(),
        ),
        validation=data.loader(data.split.validation),
        relevance=settings.ground_truth,
        decides=retrieval.decider(cascade),
        settings=train,
        folder=folder,
        device=device,
        progress=progress,
        tracking=tracking,
    )
