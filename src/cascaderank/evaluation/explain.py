"""Explanation of a request: the fate of each candidate, and why one was kept or cut."""

import os
from dataclasses import dataclass
from typing import Any, final

import polars as pl
import torch

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError, MissingExtraError, counted, did_you_mean
from cascaderank.evaluation.evaluate import evaluation_mode
from cascaderank.evaluation.fates import Fates, fates
from cascaderank.evaluation.feature_effects import can_explain, feature_effects
from cascaderank.evaluation.plain_values import plain, plain_rows
from cascaderank.runs.candidate_scores import check_scores, device_of
from cascaderank.runs.item_keys import item_keys
from cascaderank.runs.load import TrainedRun, load_run
from cascaderank.runs.one_request import OneRequest, read_request, similar
from cascaderank.selection import relevance_of


@final
@dataclass(frozen=True, kw_only=True)
class FeatureEffect:
    """Effect of one feature on the score of a candidate, compared with that of another one."""

    feature: str
    effect: float
    """Part of the difference of the two scores; negative if it lowers that of the candidate."""
    value: Any
    """Value of the candidate, as in the log."""
    other_value: Any
    """Value of the other candidate."""


@final
@dataclass(frozen=True, kw_only=True)
class MarginalComparison:
    """A candidate compared with the marginal one of a stage: the nearest across the cut."""

    stage: str
    """Stage that is explained: the one that cut the candidate, or the last that cut any."""
    other: Any
    """Key of the marginal candidate: the last that the stage kept, or, if the stage kept the
    explained one, the best that it cut."""
    other_rank: int
    """Rank of the marginal candidate in the stage."""
    difference: float
    """Score of the candidate minus that of the marginal one."""
    features: tuple[FeatureEffect, ...]
    """Effects of the features, largest first; their sum is the difference. Empty if there are none,
    see :attr:`unavailable`."""
    rest: float
    """Error of the numerical integration: difference minus the sum of the effects."""
    unavailable: str | None = None
    """Why there are no effects of features."""


@final
@dataclass(frozen=True, kw_only=True)
class Rescue:
    """Smallest change of one stage that would have kept a candidate."""

    stage: str
    quota: int
    """Smallest quota of the stage that keeps the candidate, if the changes before it are made."""
    instead_of: int
    """Quota of the stage."""
    score_gain: float
    """Amount by which the score of the candidate falls short of the last that the stage keeps: a
    higher score keeps it without a change of the quota."""


@final
@dataclass(frozen=True, kw_only=True)
class ItemExplanation:
    """Why a candidate was kept or cut."""

    item: Any
    """Key of the candidate."""
    row: int
    """Row of :attr:`Explanation.candidates`."""
    copies: int
    """Number of candidates of the request with this key; the one that got furthest is explained."""
    comparison: MarginalComparison | None
    """Comparison with the marginal candidate; ``None`` if no stage cut any candidate."""
    rescue: tuple[Rescue, ...]
    """Changes of quotas that together keep it, first stage first; empty for a candidate of the
    final list. The first alone saves it from the stage that cut it."""
    rank_after: int
    """Rank in the final list after all changes of :attr:`rescue`."""


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """What a cascade did with the candidates of one request."""

    request: int | str
    """Id of the request."""
    key: str
    """Identity of the candidates: a column of the log, or the position in the logged list."""
    quotas: dict[str, int]
    """Quota by stage, first stage first."""
    candidates: pl.DataFrame
    """One row per candidate: those of the final list, best first, then those that the last stage
    cut, down to those that the first stage cut, each by rank. Columns: ``item_key``, ``level``
    (name), ``label`` and ``ground_truth`` (membership in [0, 1]; all three null if the log has
    none), ``cut_by`` (stage; null in the final list), ``rank`` in the final list, and, by stage,
    ``score/STAGE``, ``rank/STAGE``, ``rank_margin/STAGE`` and ``score_margin/STAGE``. Ranks and
    margins are null in a stage that did not receive the candidate; for margins see
    :class:`~cascaderank.evaluation.fates.Fates`."""
    item: ItemExplanation | None = None
    """Explanation of one candidate."""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-compatible dict; undefined values are ``None``."""
        return {
            "request": self.request,
            "key": self.key,
            "quotas": self.quotas,
            "candidates": plain_rows(self.candidates),
            "item": None if self.item is None else plain(self.item),
        }


def explain(
    run: TrainedRun | str | os.PathLike[str],
    dataset: str | os.PathLike[str] | None = None,
    *,
    request: int | str,
    item: int | str | None = None,
    stage: str | None = None,
    key: str | None = None,
) -> Explanation:
    """Explain what a cascade did with the candidates of a request, and why with one of them.

    All stages score all candidates, as in evaluation. One candidate is compared with the marginal
    candidate of the stage that cut it, see
    :func:`~cascaderank.evaluation.feature_effects.feature_effects`.

    Args:
        run: a complete run, or its folder.
        dataset: folder of a request log with the features that the stages read; default: the data
            set of the run.
        request: id of the request, as in the log or as text.
        item: key of the candidate to explain, as in the log or as text; ``None`` for none.
        stage: stage to explain; default: the one that cut the candidate, or, for a candidate of the
            final list, the last stage that cut any.
        key: feature that identifies items, or ``"item_key"``; see
            :func:`~cascaderank.runs.item_keys.item_keys`.

    Raises:
        ConfigError: if the request, the item, the key or the stage does not exist, or the stage did
            not receive the item; the message suggests similar ids.
        RunError: if the folder does not hold a complete run.
        SchemaError: if the data set does not have the features that the stages read.
        DataError: if the data set is damaged, or a score is NaN.

    Examples:
        >>> import tempfile
        >>> from cascaderank.data.sources import SOURCES
        >>> from cascaderank.settings.run import check_settings
        >>> from cascaderank.training.train_run import train_run
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = SOURCES["synthetic"](None, f"{folder}/log", requests=60, items=80)
        ...     settings = check_settings(
        ...         {
        ...             "data": {"path": f"{folder}/log", "split": {"by": "request"}},
        ...             "relevance": {"top": 5},
        ...             "stages": {"ranking": {"model": "linear", "quota": 10}},
        ...             "objective": {"name": "bce"},
        ...             "train": {"epochs": 1},
        ...         }
        ...     )
        ...     _ = train_run(settings, f"{folder}/run")
        ...     rows = explain(f"{folder}/run", request=0).candidates
        ...     last = rows["item_key"][-1]
        ...     found = explain(f"{folder}/run", request=0, item=last)
        >>> [(change.stage, change.quota) for change in found.item.rescue]
        [('ranking', 40)]
        >>> found.item.comparison.other == rows["item_key"][9]  # the last that is kept
        True

    Source: this project.
    """
    run = run if isinstance(run, TrainedRun) else load_run(run)
    settings, cascade = run.settings, run.cascade
    if stage is not None:
        if item is None:
            raise ConfigError("stage selects what is explained of an item; give an item")
        if stage not in settings.stages:
            raise ConfigError(
                f"no stage '{stage}'{did_you_mean(stage, settings.stages)}; the run has "
                f"{', '.join(settings.stages)}"
            )
    log = RequestLog.open(settings.data.path if dataset is None else dataset)
    keys = item_keys(log, settings, key)
    one = read_request(run, log, keys, request)
    device = device_of(cascade)
    with evaluation_mode(cascade), torch.no_grad():
        scores = cascade(one.batch.to(device)).float().cpu()
    check_scores(scores, one.batch.mask)
    found = fates(scores, cascade.quotas, one.batch.mask)
    frame, order = _frame(one, scores, found, cascade.stage_names, log.manifest.level_names, run)
    explained = None
    if item is not None:
        row, copies = _row_of(frame["item_key"], str(item), one.request_id, str(keys))
        place = order[row]
        rescue, rank_after = _rescue(cascade, one.batch, place)
        explained = ItemExplanation(
            item=frame["item_key"][row],
            row=row,
            copies=copies,
            comparison=_comparison(cascade, one, scores, found, place, stage),
            rescue=rescue,
            rank_after=rank_after,
        )
    return Explanation(
        request=one.request_id,
        key=str(keys),
        quotas=dict(zip(cascade.stage_names, cascade.quotas, strict=True)),
        candidates=frame,
        item=explained,
    )


def _frame(
    one: OneRequest,
    scores: torch.Tensor,
    found: Fates,
    stages: tuple[str, ...],
    level_names: tuple[str, ...],
    run: TrainedRun,
) -> tuple[pl.DataFrame, list[int]]:
    """Return one row per candidate, sorted by fate, and the index of the candidate of each row."""
    batch, truth = one.batch, run.settings.ground_truth
    cut_by, size = found.cut_by[0], len(one.candidates)
    labels = levels = relevance = pl.Series([None] * size)
    if batch.labels is not None:
        labels = pl.Series(batch.labels[0].numpy())
        of_truth = relevance_of(
            batch.labels, k=truth.top, threshold=truth.threshold, mask=batch.mask
        )
        relevance = pl.Series(of_truth[0].numpy())
    if batch.levels is not None:
        levels = pl.Series([level_names[level] for level in batch.levels[0].tolist()])
    columns = {
        "item_key": one.candidates["item_key"],
        "level": levels.cast(pl.String),
        "label": labels.cast(pl.Float32),
        "ground_truth": relevance.cast(pl.Float64),
        "cut_by": pl.Series([[*stages, None][t] for t in cut_by.tolist()], dtype=pl.String),
        "rank": _known(found.ranks[-1, 0] * found.kept[-1, 0], found.kept[-1, 0]),
    }
    for t, name in enumerate(stages):
        there = found.received[t, 0]
        columns[f"score/{name}"] = pl.Series(scores[t, 0].numpy())
        columns[f"rank/{name}"] = _known(found.ranks[t, 0], there)
        columns[f"rank_margin/{name}"] = _known(found.rank_margins[t, 0], there)
        margins = found.score_margins[t, 0]
        columns[f"score_margin/{name}"] = _known(margins, ~margins.isnan())
    last = found.ranks[cut_by.clamp(max=len(stages) - 1), 0, torch.arange(size)]
    order = sorted(range(size), key=lambda i: (-int(cut_by[i]), int(last[i])))
    return pl.DataFrame(columns)[order], order


def _known(values: torch.Tensor, known: torch.Tensor) -> pl.Series:
    """Return values as a series, null where they are not known; integers as Int32."""
    series = pl.Series(values.numpy()).set(pl.Series((~known).numpy()), None)
    return series if values.is_floating_point() else series.cast(pl.Int32)


def _row_of(keys: pl.Series, item: str, request: int | str, identity: str) -> tuple[int, int]:
    """Return the first row of an item, and the number of its rows."""
    texts = keys.cast(pl.String)
    rows = (texts == item).arg_true()
    if not len(rows):
        raise ConfigError(
            f"request '{request}' has no item '{item}'{similar(item, texts.drop_nulls())}; "
            f"expected one of its {counted(len(keys), 'candidate')}, such as '{texts[0]}'; "
            f"they are identified by {identity}"
        )
    return int(rows[0]), len(rows)


def _comparison(
    cascade: Cascade,
    one: OneRequest,
    scores: torch.Tensor,
    found: Fates,
    place: int,
    stage: str | None,
) -> MarginalComparison | None:
    """Compare a candidate with the marginal one of a stage."""
    names, cut_by = cascade.stage_names, int(found.cut_by[0, place])
    cuts = (found.received & ~found.kept)[:, 0].any(-1)
    if stage is not None:
        t = names.index(stage)
        if not found.received[t, 0, place]:
            raise ConfigError(
                f"stage '{stage}' did not receive the item: '{names[cut_by]}' cut it; choose a "
                "stage that received it, or leave the stage out"
            )
        if not cuts[t]:
            raise ConfigError(
                f"stage '{stage}' cut no candidate of the request; choose another stage, or leave "
                "the stage out"
            )
    elif cut_by < len(names):
        t = cut_by
    elif cuts.any():
        t = int(cuts.nonzero()[-1])
    else:
        return None
    # The last that is kept, or the first that is cut.
    rank = cascade.quotas[t] + int(found.kept[t, 0, place])
    other = int((found.ranks[t, 0] == rank).nonzero()[0])
    name, module = names[t], cascade.stages[names[t]]
    values: dict[str, Any] = {
        "stage": name,
        "other": one.candidates["item_key"][other],
        "other_rank": rank,
        "difference": float(scores[t, 0, place] - scores[t, 0, other]),
        "features": (),
        "rest": 0.0,
    }
    if not can_explain(module):
        model = type(module).__name__
        reason = f"'{name}' ({model}) has no gradient with respect to its features"
        return MarginalComparison(**values, unavailable=reason)
    device = device_of(module)
    earlier = [of_stage.to(device) for of_stage in scores[:t]]
    inputs = cascade.inputs(name, one.batch.to(device), earlier)
    try:
        divided = feature_effects(module, inputs, candidate=place, other=other)
    except MissingExtraError as error:
        return MarginalComparison(**values, unavailable=str(error))
    effects = []
    for feature, effect in divided.effects.items():
        if feature in one.candidates.columns:
            both = [one.candidates[feature][i] for i in (place, other)]
        else:  # an output of the previous stage
            both = [float(inputs.items[feature][0, i]) for i in (place, other)]
        lists = [v.to_list() if isinstance(v, pl.Series) else v for v in both]
        effects.append(
            FeatureEffect(feature=feature, effect=effect, value=lists[0], other_value=lists[1])
        )
    values |= {"difference": divided.difference, "features": tuple(effects), "rest": divided.rest}
    return MarginalComparison(**values)


def _rescue(cascade: Cascade, batch: RequestBatch, place: int) -> tuple[tuple[Rescue, ...], int]:
    """Return the smallest quotas that keep a candidate, stage by stage, and its final rank.

    Scores are computed anew after each change: those of a stage that reads the rank in the previous
    one depend on the quotas before it.
    """
    device = device_of(cascade)
    quotas, on_device = list(cascade.quotas), batch.to(device)
    changes: list[Rescue] = []
    stages = dict(cascade.stages.items())
    while True:
        changed = Cascade(stages, quotas, previous=cascade.previous)
        with evaluation_mode(changed), torch.no_grad():
            found = fates(changed(on_device).float().cpu(), quotas, batch.mask)
        t = int(found.cut_by[0, place])
        if t == len(quotas):
            return tuple(changes), int(found.ranks[-1, 0, place])
        quota = int(found.ranks[t, 0, place])
        changes.append(
            Rescue(
                stage=cascade.stage_names[t],
                quota=quota,
                instead_of=quotas[t],
                score_gain=-float(found.score_margins[t, 0, place]),
            )
        )
        quotas[t] = quota
