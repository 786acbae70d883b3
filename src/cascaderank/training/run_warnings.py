"""Warnings about a run: settings that do not fit the data, and training that did not succeed.

A warning has one sentence on what was found, with numbers, and one on what to change.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.data.split import Rows
from cascaderank.errors import counted
from cascaderank.evaluation import Report
from cascaderank.evaluation.feature_order import FeatureOrder
from cascaderank.metrics.recall import recall_metric
from cascaderank.objectives import OBJECTIVES
from cascaderank.runs.build import entry_levels_of
from cascaderank.runs.data import RunData, trained_requests
from cascaderank.schema import Kind, Role
from cascaderank.selection import relevance_of, top
from cascaderank.settings.run import RunSettings
from cascaderank.training.checkpoint import TrainState
from cascaderank.training.length import TrainingLength

_FEW_STEPS = 100
_MANY = 0.2  # fraction of lists
_MOST_REQUESTS = 2_000  # that a check reads
_ROUNDING = 1e-6
_FEW_CHANGES = 0.05  # of lists
_CHECKED_LISTS = 256  # whose scores are compared
_CHECKED_REQUESTS = 1_000  # that single features are chosen and evaluated on, each
_REQUESTS_AT_ONCE = 100_000  # whose labels are in memory
_CANDIDATES_AT_ONCE = 10_000_000  # whose levels are counted


def data_warnings(settings: RunSettings, data: RunData) -> tuple[str, ...]:
    """Return warnings about settings that do not fit the data of a run.

    Args:
        settings: settings of the run.
        data: data of the run.

    Examples:
        See ``docs/training.md``; ``cascaderank train`` prints them.

    Source: this project.
    """
    return (
        *_undecided(settings, data),
        *_small_ground_truth(settings, data),
        *_levels(settings, data),
        *_order_of_levels(data),
        *_untrained(data),
    )


def result_warnings(
    settings: RunSettings,
    data: RunData,
    cascade: Cascade,
    report: Report,
    state: TrainState,
    length: TrainingLength,
) -> tuple[str, ...]:
    """Return warnings about training that ended too early or did not succeed.

    Args:
        settings: settings of the run.
        data: data of the run.
        cascade: trained cascade.
        report: evaluation on the test requests.
        state: state at the end of training.
        length: limits of training.

    Examples:
        See ``docs/training.md``; ``cascaderank train`` prints them.

    Source: this project.
    """
    return (
        *_short_training(state, length, decays=settings.train.decay != "none"),
        *_no_better_than_random(data, report),
        *_no_better_than_a_feature(settings, data, report),
        *_uninformative_scores(settings, data, cascade),
    )


def _undecided(settings: RunSettings, data: RunData) -> Iterator[str]:
    lengths, quota = _lengths(data, data.split.test), settings.quotas[-1]
    short = int((lengths <= quota).sum())
    if 2 * short >= len(lengths) > 0:
        yield (
            f"{_of(short, len(lengths), 'test list')} at most {counted(quota, 'candidate')}, the "
            "last quota, so their recall is 1 for every cascade. Lower the quotas, or leave short "
            "lists out when the data set is prepared."
        )


def _small_ground_truth(settings: RunSettings, data: RunData) -> Iterator[str]:
    relevance, k = settings.ground_truth, settings.ground_truth.top
    if k is None:
        return
    rows = data.split.train
    lengths = _lengths(data, rows)
    if k > settings.quotas[-1]:
        yield (
            f"relevance.top is {k} and the last quota {settings.quotas[-1]}, so the recall of a "
            f"list cannot exceed {settings.quotas[-1] / k:.2f} if its ground truth is full. Raise "
            "the last quota, or lower relevance.top."
        )
    whole = int((lengths <= k).sum())
    if relevance.threshold is None and whole >= _MANY * len(lengths):
        yield (
            f"{_of(whole, len(lengths), 'training list')} at most {counted(k, 'candidate')}, "
            "relevance.top, so all of them are ground truth. Lower relevance.top."
        )
    if relevance.threshold is None or settings.relevance.threshold is not None:
        return
    lowest = float(data.encoded.labels.min()) if data.encoded.labels is not None else 0.0
    reach = lengths if lowest >= relevance.threshold else _count(data, relevance.threshold)[rows]
    fewer = int((reach < k).sum())
    if fewer:
        places = int(np.minimum(k, lengths).sum() - np.minimum(k, reach).sum())
        yield (
            f"{_of(fewer, len(lengths), 'training list')} fewer than {counted(k, 'candidate')} "
            "with a label above 0; candidates with label 0 are not ground truth, which leaves "
            f"{counted(places, 'place')} empty. To define the ground truth by labels alone, "
            "replace relevance.top by relevance.threshold; to fill the places with candidates of "
            "label 0, set relevance.include_zero = true."
        )
    if lowest > 0:
        included = int((_count(data, np.nextafter(np.float32(lowest), np.inf))[rows] < k).sum())
        if included >= _MANY * len(lengths):
            yield (
                f"candidates with the lowest label, {lowest:g}, are ground truth in "
                f"{included:,} of {counted(len(lengths), 'training list')}. If that grade means "
                f"not relevant, set relevance.threshold above {lowest:g}."
            )


def _levels(settings: RunSettings, data: RunData) -> Iterator[str]:
    """Warn of stages whose training candidates are all ground truth, or none."""
    name = settings.objective.name
    if data.encoded.levels is None or "entry_levels" not in OBJECTIVES.options(name):
        return
    levels = entry_levels_of(settings, data.log)
    step = max(1, len(data.split.train) // _MOST_REQUESTS)
    loader = data.loader(data.split.train[::step])
    lists, undecided = 0, np.zeros(len(levels), dtype=np.int64)
    truth = settings.ground_truth
    for batch in loader.epoch(0):
        if batch.labels is None or batch.levels is None:
            return
        relevant = relevance_of(
            batch.labels, k=truth.top, threshold=truth.threshold, mask=batch.mask
        )
        lists += len(batch)
        for t, level in enumerate(levels):
            reached = batch.mask & (batch.levels >= level)
            good = ((relevant > 0) & reached).any(-1)
            bad = ((relevant < 1) & reached).any(-1)
            undecided[t] += int((~(good & bad)).sum())
    for t, stage in enumerate(settings.stages):
        if 2 * undecided[t] >= lists:
            yield (
                f"stage '{stage}' is trained on candidates of level {levels[t]} and higher; in "
                f"{undecided[t]:,} of {counted(lists, 'training list')} these are all ground truth "
                "or none. Set objective.entry_levels to lower levels."
            )


def _order_of_levels(data: RunData) -> Iterator[str]:
    """Warn of level names that seem to be in reverse order: the lowest must be first."""
    levels, names = data.encoded.levels, data.log.manifest.level_names
    if levels is None or len(names) < 2:
        return
    counts, responses = np.zeros((2, len(names)), dtype=np.int64)
    for first in range(0, len(levels), _CANDIDATES_AT_ONCE):
        part = levels[first : first + _CANDIDATES_AT_ONCE]
        counts += np.bincount(part, minlength=len(names))
        if data.encoded.feedback is not None:
            positive = data.encoded.feedback[first : first + _CANDIDATES_AT_ONCE] > 0
            responses += np.bincount(part[positive], minlength=len(names))
    remedy = (
        f"If {', '.join(names)} is not the order from the lowest to the highest level, prepare the "
        "data set again with level_names in that order."
    )
    if responses.any() and not responses[-1]:
        most = names[int(responses.argmax())]
        yield (
            f"no candidate of the highest level, '{names[-1]}', has feedback above 0, and "
            f"{counted(int(responses.max()), 'candidate')} of level '{most}' "
            f"{'has' if responses.max() == 1 else 'have'}. {remedy}"
        )
    elif len(names) > 2 and (np.diff(counts) > 0).all() and counts[-1] >= 2 * counts[0]:
        yield (
            f"each level has more candidates than the one below it, from {counts[0]:,} of level "
            f"'{names[0]}' to {counts[-1]:,} of level '{names[-1]}', while a funnel has fewer. "
            f"{remedy}"
        )


def _untrained(data: RunData) -> Iterator[str]:
    rows, weights = data.split.train, data.encoded.weights
    if weights is not None:
        rows = rows[weights[rows] > 0]
    untrained = len(rows) - int(trained_requests(data.encoded)[rows].sum())
    if untrained >= _MANY * len(rows):
        yield (
            f"all candidates of {untrained:,} of {len(rows):,} training lists have weight 0, so "
            "these lists take time and are not trained on. Correct candidate_weight, or set "
            "request_weight to 0 for them."
        )


def _short_training(state: TrainState, length: TrainingLength, *, decays: bool) -> Iterator[str]:
    if state.step < _FEW_STEPS:
        yield (
            f"training took {counted(state.step, 'optimizer step')}. Raise train.epochs or "
            "train.patience, or lower train.batch_size."
        )
    ended = state.epoch >= length.epochs
    if ended and not decays and state.best_epoch == state.epoch - 1 and state.best >= 0:
        which = f"the best of {state.epoch} epochs was the last"
        if state.epoch == 1:
            which = "the only epoch was the best"
        yield f"{which}, so more training may help. Raise train.epochs or train.learning_rate."


def _no_better_than_random(data: RunData, report: Report) -> Iterator[str]:
    lengths = _lengths(data, report.per_request["row"].astype(np.int64))
    defined = ~np.isnan(report.per_request["joint_recall"])
    for name, stage in report.stages.items():
        expected = np.minimum(1.0, stage.quota / lengths)[defined]
        if len(expected) and expected.mean() < 1 and stage.recall.mean <= expected.mean():
            yield (
                f"stage '{name}' has recall {stage.recall.mean:.3f}, no better than a random order "
                f"({expected.mean():.3f}). Check the features of the stage and the labels, and "
                "change train.learning_rate."
            )


def _no_better_than_a_feature(
    settings: RunSettings, data: RunData, report: Report
) -> Iterator[str]:
    """Compare the recall of each stage with that of the best numeric feature that it may use.

    The feature and its direction are chosen on training requests.
    """
    train = data.split.train[:: max(1, len(data.split.train) // _CHECKED_REQUESTS)]
    test = report.per_request["row"].astype(np.int64)
    step = max(1, len(test) // _CHECKED_REQUESTS)
    choices = {
        name: [
            FeatureOrder(f.name, sign=sign)
            for f in data.schema.select(stage.features)
            if f.role is Role.ITEM and f.kind is Kind.NUMERIC and not f.several
            for sign in (1.0, -1.0)
        ]
        for name, stage in settings.stages.items()
    }
    chosen = {
        name: choices[name][int(recalls.nanmean(-1).nan_to_num(-1).argmax())]
        for name, recalls in _recalls(choices, settings, data, train).items()
    }
    alone = _recalls({n: [best] for n, best in chosen.items()}, settings, data, test[::step])
    for name, best in chosen.items():
        of_feature = alone[name][0].double().numpy()
        own = report.per_request[f"recall/{name}"][::step]
        defined = ~(np.isnan(of_feature) | np.isnan(own))
        lost = (of_feature - own)[defined]
        if len(lost) and lost.mean() > max(lost.std() / len(lost) ** 0.5, _ROUNDING):
            sign = "ascending" if best.sign < 0 else "descending"
            yield (
                f"stage '{name}' has recall {own[defined].mean():.3f}, and the order by "
                f"'{best.feature}' alone, {sign}, {of_feature[defined].mean():.3f}, over "
                f"{counted(len(lost), 'test request')}. Train longer, change train.learning_rate, "
                "or use a simpler model."
            )


def _recalls(
    choices: Mapping[str, Sequence[FeatureOrder]], settings: RunSettings, data: RunData, rows: Rows
) -> dict[str, Tensor]:
    """Return the recall of each choice in each request, ``[choices, requests]``, by stage.

    Stages without a choice are left out. The requests are read once.
    """
    truth = settings.ground_truth
    found: dict[str, list[Tensor]] = {name: [] for name, some in choices.items() if some}
    for batch in data.loader(rows).epoch(0) if found else ():
        labels = torch.zeros(batch.mask.shape) if batch.labels is None else batch.labels
        for name, recalls in found.items():
            scores = torch.stack([choice(batch) for choice in choices[name]])
            recalls.append(
                recall_metric(
                    scores,
                    labels.expand(scores.shape),
                    m=settings.stages[name].quota,
                    k=truth.top,
                    threshold=truth.threshold,
                    mask=batch.mask.expand(scores.shape),
                )
            )
    return {name: torch.cat(recalls, dim=-1) for name, recalls in found.items()}


def _uninformative_scores(settings: RunSettings, data: RunData, cascade: Cascade) -> Iterator[str]:
    """Warn of stages whose scores do not depend on the candidate, or not on the request.

    The latter keep the same candidates if requests are exchanged for each other.
    """
    rows = data.split.test[:_CHECKED_LISTS]
    device = next((p.device for p in cascade.parameters()), torch.device("cpu"))
    constant, changed = np.zeros((2, len(cascade.quotas)), dtype=np.int64)
    several, exchanged = 0, 0  # lists
    with torch.no_grad():
        for batch in data.loader(rows).epoch(0):
            scores, lengths = cascade(batch.to(device)).cpu(), batch.mask.sum(-1)
            highest = scores.masked_fill(~batch.mask, -torch.inf).amax(-1)
            lowest = scores.masked_fill(~batch.mask, torch.inf).amin(-1)
            constant += ((highest == lowest) & (lengths > 1)).sum(-1).numpy()
            several += int((lengths > 1).sum())
            if len(batch) > 1:
                kept = _kept(scores, cascade.quotas, batch.mask)
                # Outputs of previous stages stay: the features of the stage itself are exchanged.
                others, known = _exchanged(batch).to(device), scores.to(device)
                of_others = [
                    stage(cascade.inputs(name, others, known[:t]))
                    for t, (name, stage) in enumerate(cascade.stages.items())
                ]
                other = _kept(torch.stack(of_others).cpu(), cascade.quotas, batch.mask)
                changed += (kept != other).any(-1).sum(-1).numpy()
                exchanged += int((lengths > min(cascade.quotas)).sum())
    for t, name in enumerate(cascade.stage_names):
        if several and 2 * constant[t] >= several:
            yield (
                f"stage '{name}' gives all candidates the same score in {constant[t]} of "
                f"{counted(several, 'test list')}. Give it features that differ between "
                "candidates, or lower train.learning_rate."
            )
    for t, (name, stage) in enumerate(settings.stages.items()):
        roles = {f.role for f in data.schema.select(stage.features)}
        if exchanged and roles > {Role.ITEM} and changed[t] < _FEW_CHANGES * exchanged:
            yield (
                f"stage '{name}' hardly uses the features of the request: with those of another "
                f"request, it keeps other candidates in {changed[t]} of "
                f"{counted(exchanged, 'test list')}. Set fewer hidden layers, or lower "
                "train.learning_rate."
            )


def _kept(scores: Tensor, quotas: Sequence[int], mask: Tensor) -> Tensor:
    """Return the candidates that each stage alone would keep, ``[stages, batch, list]`` bool."""
    return torch.stack([top(s, m, mask) for s, m in zip(scores, quotas, strict=True)])


def _exchanged(batch: RequestBatch) -> RequestBatch:
    """Return the batch with the features of each request replaced by those of the next one."""

    def rolled(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.roll(1, 0) for name, tensor in tensors.items()}

    return replace(
        batch,
        request=rolled(batch.request),
        history=rolled(batch.history),
        history_mask=rolled(batch.history_mask),
    )


def _of(count: int, lists: int, noun: str) -> str:
    """Return ``"2 of 5 test lists have"`` for the start of a sentence."""
    return f"{count:,} of {counted(lists, noun)} {'has' if lists == 1 else 'have'}"


def _lengths(data: RunData, rows: Rows) -> NDArray[np.int64]:
    return np.diff(data.encoded.offsets)[rows]


def _count(data: RunData, threshold: float) -> NDArray[np.int64]:
    """Return the number of candidates of each request whose label reaches a threshold."""
    labels, offsets = data.encoded.labels, data.encoded.offsets
    counts = np.zeros(len(offsets) - 1, dtype=np.int64)
    if labels is None:
        return counts
    for first in range(0, len(counts), _REQUESTS_AT_ONCE):
        part = offsets[first : first + _REQUESTS_AT_ONCE + 1]
        reach = labels[part[0] : part[-1]] >= threshold
        counts[first : first + len(part) - 1] = np.add.reduceat(reach, part[:-1] - part[0])
    return counts
