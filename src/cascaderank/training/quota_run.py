"""Choose the quotas of a complete run under a budget, and train it again with them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from cascaderank.cascade import Cascade
from cascaderank.data.log.request_log import RequestLog
from cascaderank.data.split import Rows
from cascaderank.errors import ConfigError, DataError, counted
from cascaderank.evaluation import Summary, bootstrap_intervals
from cascaderank.evaluation.quotas import (
    Goal,
    QuotaReport,
    ScoredRequests,
    StageCost,
    measured_costs,
    product_costs,
    report_quotas,
    score_requests,
)
from cascaderank.evaluation.quotas.stage_costs import Unit, timed_lengths
from cascaderank.limits import check_fits
from cascaderank.progress import Progress, Silent
from cascaderank.runs.claim import check_same_data, claim
from cascaderank.runs.data import RunData
from cascaderank.runs.folder import RunFolder, locked
from cascaderank.runs.load import TrainedRun, load_run
from cascaderank.runs.log_defaults import resolved
from cascaderank.runs.parts import part_of
from cascaderank.runs.seeding import pick_device
from cascaderank.settings.files import dotted
from cascaderank.settings.run import RunSettings
from cascaderank.training.train_run import train_run


def run_quotas(
    folder: str | os.PathLike[str],
    dataset: str | os.PathLike[str] | None = None,
    *,
    goal: Goal | None = None,
    unit: Unit = "products",
    values: int = 40,
    most: int = 10_000,
    seconds: float = 0.2,
    seed: int = 0,
    progress: Progress | None = None,
) -> QuotaReport:
    """Choose the quotas of a complete run on validation requests, and evaluate them on test ones.

    Args:
        folder: folder of the run.
        dataset: folder of a request log with the features that the run was trained with, split as
            the settings of the run specify; default: the log that the run was trained on.
        goal: budget or recall; by default the mean cost of the quotas of the run.
        unit: unit of the costs: ``"products"`` counts multiply-adds, ``"ms"`` measures milliseconds
            on this machine.
        values: number of quotas per stage of the grid, see
            :func:`~cascaderank.evaluation.quotas.quota_grids`.
        most: largest number of validation requests, and of test requests; a random sample of more.
        seconds: approximate duration of each measurement.
        seed: random seed of the samples, at least 0.
        progress: receives the progress of the work.

    Raises:
        RunError: if the folder does not hold a complete run.
        SchemaError: if the data set has other features.
        DataError: if there are no validation requests, or no request has ground truth.
        ConfigError: if the run has one stage, a number is out of range, or no vector of quotas
            reaches the goal.
    """
    run, bar = load_run(folder), progress or Silent()
    if len(run.quotas) < 2:
        raise ConfigError(
            f"{folder}: the run has one stage, whose quota is the length of the final list and has "
            "no cost; expected a run with at least two stages"
        )
    if most < 1 or seed < 0:
        raise ConfigError(f"most must be at least 1 and seed at least 0; got {most} and {seed}")
    source = run.settings.data.path if dataset is None else dataset
    with part_of(run, source, "test", progress=progress) as (data, _, rows):
        samples = [_sample(part, most, seed) for part in (data.split.validation, rows)]
        if not len(samples[0]):
            raise DataError(
                f"{source}: the run has no validation requests, on which quotas are chosen; train "
                "it with data.split.validation_days of at least 1"
            )
        validation, test = (_scores_of(run.cascade, run, data, part, bar) for part in samples)
        costs = _costs(run, unit, max(validation.longest, test.longest), seconds, bar)
        notes = (*_notes(run, data, samples, rows), *_free(costs))
        return report_quotas(
            validation,
            test,
            costs,
            present=run.quotas,
            unit=unit,
            goal=goal,
            values=values,
            keep=_read_by_others(run.settings),
            bootstrap=run.settings.evaluation.bootstrap,
            seed=run.settings.evaluation.seed,
            notes=notes,
            progress=progress,
        )


def with_quotas(settings: RunSettings, quotas: Sequence[int]) -> RunSettings:
    """Return the settings of a run with other quotas, one per stage.

    Raises:
        ConfigError: if the changed settings are invalid.
    """
    names = list(settings.stages)
    return settings.changed(
        {dotted("stages", n, "quota"): q for n, q in zip(names, quotas, strict=True)}
    )


@final
@dataclass(frozen=True, kw_only=True)
class Retrained:
    """Joint recall of the test requests before and after training with other quotas."""

    quotas: tuple[int, ...]
    """The quotas of the new run."""
    before: Summary
    """The former run with its own quotas."""
    chosen: Summary
    """The former run with the new quotas."""
    after: Summary
    """The new run with the new quotas."""
    gain: Summary
    """Paired difference of :attr:`after` to :attr:`chosen`: what training again gains."""
    unchanged: bool
    """Whether the weights are those of the former run: the objective does not use quotas, and the
    same epoch has the best validation recall."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict."""
        parts = ("before", "chosen", "after", "gain")
        return {
            "quotas": list(self.quotas),
            "unchanged": self.unchanged,
            **{name: getattr(self, name).to_json() for name in parts},
        }


def claim_retraining(
    folder: str | os.PathLike[str], quotas: Sequence[int], to: str | os.PathLike[str]
) -> RunSettings:
    """Check that a run can be trained again in a folder, and claim the folder.

    Args:
        folder: folder of the run.
        quotas: new quotas, one per stage.
        to: folder of the new run.

    Returns:
        The settings of the new run.

    Raises:
        RunError: if ``folder`` does not hold a complete run, its request log has changed, or ``to``
            is not writable or holds another run.
        DataError: if the request log of the run is missing or damaged.
        ConfigError: if ``to`` is the folder of the run, or the changed settings are invalid.
    """
    settings, new = with_quotas(load_run(folder).settings, quotas), RunFolder(Path(to))
    if Path(to).resolve() == Path(folder).resolve():
        raise ConfigError(f"{to}: is the folder of the run itself; choose another folder")
    log = RequestLog.open(settings.data.path)
    check_same_data(RunFolder(Path(folder)), log)
    with locked(new.path, writes=new.new_files):
        claim(new, resolved(settings, log))
    return settings


def retrain_with_quotas(
    folder: str | os.PathLike[str],
    quotas: Sequence[int],
    to: str | os.PathLike[str],
    *,
    progress: Progress | None = None,
) -> Retrained:
    """Train the settings of a run again with other quotas, and compare both on the test requests.

    Args:
        folder: folder of the run.
        quotas: new quotas, one per stage.
        to: folder of the new run; an interrupted one is resumed.
        progress: receives the progress of training and evaluation.

    Raises:
        RunError: if ``folder`` does not hold a complete run, its request log has changed, or ``to``
            holds another run.
        DataError: if the request log of the run is missing or damaged.
        ConfigError: if ``to`` is the folder of the run, or the changed settings are invalid.
    """
    settings = claim_retraining(folder, quotas, to)
    run, bar = load_run(folder), progress or Silent()
    train_run(settings, to, progress=progress)
    new = load_run(to)
    recalls: dict[str, Any] = {}
    with part_of(run, settings.data.path, "test", progress=progress) as (data, _, rows):
        # The scores of a stage can depend on quotas, so each cascade is scored with its own.
        chosen = Cascade(dict(run.cascade.stages.items()), quotas, previous=run.cascade.previous)
        cascades = {"before": run.cascade, "chosen": chosen, "after": new.cascade}
        for name, cascade in cascades.items():
            scored = _scores_of(cascade, run, data, rows, bar)
            recalls[name] = scored.recall(cascade.quotas)
    recalls["gain"] = recalls["after"] - recalls["chosen"]
    found = bootstrap_intervals(
        recalls, resamples=settings.evaluation.bootstrap, seed=settings.evaluation.seed
    )
    before, after = (r.cascade.state_dict() for r in (run, new))
    unchanged = all(torch.equal(before[name].cpu(), after[name].cpu()) for name in before)
    return Retrained(quotas=tuple(quotas), unchanged=unchanged, **found)


def _scores_of(
    cascade: Cascade, run: TrainedRun, data: RunData, rows: Rows, bar: Progress
) -> ScoredRequests:
    truth, loader = run.settings.ground_truth, data.loader(rows)
    candidates = int((data.encoded.offsets[rows + 1] - data.encoded.offsets[rows]).sum())
    check_fits(
        4.0 * len(cascade.stages) * candidates,
        f"the scores of {counted(candidates, 'candidate')}",
        "use fewer requests, --requests",
    )
    device = pick_device(run.settings.train.device)
    bar.start("scoring", loader.batches_per_epoch)
    scored = score_requests(
        cascade.to(device),
        loader,
        k=truth.top,
        threshold=truth.threshold,
        device=device,
        progress=bar.advance,
    )
    bar.stop()
    return scored


def _costs(
    run: TrainedRun, unit: Unit, longest: int, seconds: float, bar: Progress
) -> dict[str, StageCost]:
    history = run.settings.data.history_length
    cascade = run.cascade.cpu()
    if unit == "products":
        return product_costs(cascade, run.schema, history=history)
    bar.start("timing", (len(run.quotas) + 1) * len(timed_lengths(longest)))
    costs = measured_costs(
        cascade,
        run.schema,
        longest=longest,
        history=history,
        seconds=seconds,
        progress=bar.advance,
    )
    bar.stop()
    return costs


def _sample(rows: Rows, most: int, seed: int) -> Rows:
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _read_by_others(settings: RunSettings) -> list[str]:
    """Return the stages whose outputs the next stage reads."""
    names = list(settings.stages)
    return [
        names[i - 1] for i, stage in enumerate(settings.stages.values()) if i and stage.previous
    ]


def _free(costs: Mapping[str, StageCost]) -> list[str]:
    """Return notes on the stages without multiply-adds, such as trees.

    Raises:
        ConfigError: if no stage has a cost.
    """
    free = [name for name, cost in costs.items() if cost.costs[-1] == 0]
    if len(free) == len(costs):
        raise ConfigError(
            f"no stage has multiply-adds ({', '.join(free)}), so all quotas cost the same; use "
            "milliseconds, --unit ms or --budget-ms"
        )
    return [f"stage '{name}' has no multiply-adds and counts as free" for name in free]


def _notes(run: TrainedRun, data: RunData, samples: Sequence[Rows], rows: Rows) -> tuple[str, ...]:
    notes = [
        f"a sample of {len(sample):,} of {len(part):,} {name} requests is used"
        for name, sample, part in zip(
            ("validation", "test"), samples, (data.split.validation, rows), strict=True
        )
        if len(sample) < len(part)
    ]
    names = list(run.settings.stages)
    notes += [
        f"stage '{name}' reads ranks, which depend on earlier quotas: its scores are those with "
        "the present ones"
        for name in names[2:]
        if "rank" in run.settings.stages[name].previous
    ]
    return tuple(notes)
