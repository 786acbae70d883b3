"""The items of a run: what random candidates are drawn from, and what is searched."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from cascaderank.cascade import Cascade
from cascaderank.data.encoding.encoded_log import EncodedLog
from cascaderank.data.item_catalogue import ItemCatalogue
from cascaderank.data.labels import labels_of
from cascaderank.data.loading.candidates import CandidateSampler
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.evaluation.item_retrieval import (
    EXACT,
    CatalogueReport,
    Liked,
    evaluate_catalogue,
    liked_before,
)
from cascaderank.runs.data import RunData
from cascaderank.schema import FittedSchema, Role
from cascaderank.settings.run import RunSettings
from cascaderank.stages import VectorStage


def catalogue_of(
    settings: RunSettings,
    log: RequestLog,
    encoded: EncodedLog,
    schema: FittedSchema,
    *,
    train: NDArray[np.int64],
) -> ItemCatalogue:
    """Gather the items of a log: those it lists, or else its candidates.

    Raises:
        ConfigError: if the settings do not say what tells items apart, or not a category.
        DataError: if there is no item.
    """
    if settings.catalogue is None:
        raise ConfigError(
            "nothing says what tells items apart; name the feature in catalogue.item of the config"
        )
    return ItemCatalogue.build(
        encoded, schema, item=settings.catalogue.item, train=train, frame=log.catalogue()
    )


def sampler_of(settings: RunSettings, data: RunData) -> CandidateSampler | None:
    """Build what draws the candidates of training requests; ``None`` if all take part.

    Raises:
        ConfigError: if a level is unknown, or a stage reads what random items do not have.
        DataError: if the log has no levels that are asked for.
    """
    candidates = settings.train.candidates
    if candidates is None:
        return None
    catalogue = None
    if candidates.pool:
        catalogue = catalogue_of(
            settings, data.log, data.encoded, data.schema, train=data.split.train
        )
        for name in settings.stages:
            catalogue.check_has(item_features(settings, data.schema, name), who=f"stages.{name}")
    return CandidateSampler(
        data.encoded,
        candidates,
        level_names=data.log.manifest.level_names,
        catalogue=catalogue,
        seed=settings.train.seed,
    )


def item_features(settings: RunSettings, schema: FittedSchema, stage: str) -> list[str]:
    """Return the features of candidates that a stage reads."""
    chosen = schema.select(settings.stages[stage].features)
    return [f.name for f in chosen if f.role is Role.ITEM]


def random_label(settings: RunSettings) -> float:
    """Return the label of an item that is drawn: that of the lowest level, without feedback."""
    nothing = dict.fromkeys(("level", "position", "label", "feedback"), np.zeros(1, np.int64))
    return float(labels_of(settings.data.target, nothing)[0])


def searches(settings: RunSettings, cascade: Cascade) -> bool:
    """Return whether the first stage of a run is to be judged by its search of all items."""
    first = next(iter(cascade.stages.values()))
    return settings.catalogue is not None and isinstance(first, VectorStage)


def check_search(settings: RunSettings, cascade: Cascade, data: RunData) -> None:
    """Tell before training that what is learnt could not be judged by its search.

    Raises:
        ConfigError: if the first stage is to search, and reads what items alone do not have.
    """
    if searches(settings, cascade):
        first = cascade.stage_names[0]
        catalogue_of(
            settings, data.log, data.encoded, data.schema, train=data.split.train
        ).check_has(item_features(settings, data.schema, first), who=f"stages.{first}")


def decider(
    settings: RunSettings, cascade: Cascade, data: RunData, device: torch.device
) -> Callable[[], float] | None:
    """Return what tells how well the cascade, as it is, searches for the validation requests.

    ``None`` if joint recall decides.

    Raises:
        ConfigError: if the stage cannot search, and is to be judged by it.
    """
    said = settings.catalogue
    if said is None or said.decides is None:
        return None
    if len(cascade.stages) > 1:
        raise ConfigError(
            f"catalogue.decides is about the search of one stage; got {len(cascade.stages)}; leave "
            "it out, so that joint recall decides"
        )
    metric, (name, stage) = said.decides, next(iter(cascade.stages.items()))
    if not isinstance(stage, VectorStage):
        raise ConfigError(
            f"catalogue.decides is about a search of all items, and stages.{name} cannot: its "
            "score is no dot product of two vectors; take two_tower or matrix_factorisation, or "
            "leave it out"
        )
    size = settings.evaluation.batch_size
    catalogue = catalogue_of(settings, data.log, data.encoded, data.schema, train=data.split.train)
    top, threshold = settings.relevance.top, settings.relevance.threshold
    train = RequestLoader(data.encoded, data.split.train, batch_size=size)
    history = _left_out(settings, catalogue, train)

    def decides() -> float:
        report = evaluate_catalogue(
            stage,
            RequestLoader(data.encoded, data.split.validation, batch_size=size),
            catalogue,
            ground_truth=top,
            threshold=threshold,
            cutoffs=said.cutoffs,
            user=said.user,
            history=history,
            device=device,
            bootstrap=0,
        )
        return report.metrics[metric].mean

    return decides


def search_items(
    settings: RunSettings,
    cascade: Cascade,
    schema: FittedSchema,
    log: RequestLog,
    encoded: EncodedLog,
    *,
    rows: NDArray[np.int64],
    train: NDArray[np.int64],
    stage: str | None = None,
    index: str = EXACT,
    device: torch.device | str = "cpu",
) -> CatalogueReport:
    """Judge a stage of a run by its search of all items.

    Args:
        settings: of the run.
        cascade: with its weights.
        schema: that the run was fitted to.
        log: the data set.
        encoded: the same, encoded.
        rows: requests that are judged.
        train: requests that were learnt from; none if the data set is another one.
        stage: which; the first if not given.
        index: ``"exact"``, or an index of faiss.
        device: where to compute.

    Raises:
        ConfigError: if the settings do not say what tells items apart, or the stage cannot search.
        DataError: if there is no item.
    """
    catalogue = catalogue_of(settings, log, encoded, schema, train=train)
    said = settings.catalogue
    name = stage or cascade.stage_names[0]
    if name not in cascade.stage_names or said is None:
        raise ConfigError(
            f"no stage called '{name}'{did_you_mean(name, cascade.stage_names)}; "
            f"there are {', '.join(cascade.stage_names)}"
        )
    catalogue.check_has(item_features(settings, schema, name), who=f"stages.{name}")

    def loader(of: NDArray[np.int64]) -> RequestLoader:
        return RequestLoader(encoded, of, batch_size=settings.evaluation.batch_size)

    return evaluate_catalogue(
        cascade.stages[name],
        loader(rows),
        catalogue,
        ground_truth=settings.relevance.top,
        threshold=settings.relevance.threshold,
        cutoffs=said.cutoffs,
        user=said.user,
        history=_left_out(settings, catalogue, loader(train)) if len(train) else None,
        index=index,
        device=device,
        bootstrap=settings.evaluation.bootstrap,
        seed=settings.evaluation.seed,
    )


def _left_out(
    settings: RunSettings, catalogue: ItemCatalogue, train: RequestLoader
) -> Liked | None:
    """What the lists of each user are to be without; ``None`` if users are not told apart."""
    said, rule = settings.catalogue, settings.relevance
    if said is None or said.user is None:
        return None
    top, threshold = rule.top, rule.threshold
    if said.leaves_out is not None:
        top, threshold = None, said.leaves_out
    return liked_before(train, catalogue, user=said.user, k=top, threshold=threshold)
