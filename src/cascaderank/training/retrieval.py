"""Item retrieval in a run: random training candidates, and evaluation by search of all items."""

from collections.abc import Callable
from typing import Any, final

import numpy as np
import torch

from cascaderank.cascade import Cascade
from cascaderank.data.labels import labels_of
from cascaderank.data.loading.candidates import CandidateSampler
from cascaderank.data.split import Rows
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.evaluation.item_retrieval import (
    EXACT,
    CatalogueReport,
    Liked,
    evaluate_catalogue,
    liked_before,
)
from cascaderank.runs.data import RunData
from cascaderank.runs.log_defaults import target_of
from cascaderank.schema import Role
from cascaderank.settings.run import RunSettings
from cascaderank.stages import VectorStage


@final
class ItemRetrieval:
    """The parts of a run that use the catalogue of all items.

    Args:
        settings: settings of the run.
        data: data of the run; holds the catalogue, which is built when it is first used.
        device: device of the cascade.
    """

    def __init__(self, settings: RunSettings, data: RunData, device: torch.device) -> None:
        self._settings, self._data, self._device = settings, data, device

    def evaluates(self, cascade: Cascade) -> bool:
        """Return whether the test report of the run includes a search by its first stage."""
        first = next(iter(cascade.stages.values()))
        return self._settings.catalogue is not None and isinstance(first, VectorStage)

    def check(self, cascade: Cascade) -> None:
        """Check before training that the first stage can search all items after it.

        Raises:
            ConfigError: if the report includes a search by the first stage, and the stage reads
                features that items outside of a request do not have.
        """
        if self.evaluates(cascade):
            self._check_features(cascade.stage_names[0])

    def sampler(self) -> CandidateSampler | None:
        """Return the sampler of training candidates; ``None`` if all logged candidates are used.

        Raises:
            ConfigError: if a level does not exist, or a stage reads features that random items do
                not have.
            DataError: if levels are sampled and the log has none.
        """
        settings, data = self._settings, self._data
        candidates = settings.train.candidates
        if candidates is None:
            return None
        if candidates.pool:
            for stage in settings.stages:
                self._check_features(stage)
        return CandidateSampler(
            data.encoded,
            candidates,
            level_names=data.log.manifest.level_names,
            catalogue=data.items if candidates.pool else None,
            seed=settings.train.seed,
        )

    def random_label(self) -> float:
        """Return the label of a random item: lowest level, no feedback."""
        nothing = dict.fromkeys(("level", "position", "label", "feedback"), np.zeros(1, np.int64))
        log = self._data.log
        levels = len(log.manifest.level_names)
        return float(labels_of(target_of(self._settings, log), nothing, levels=levels)[0])

    def decider(self, cascade: Cascade) -> Callable[[], float] | None:
        """Return a function that computes the validation metric of ``catalogue.decides``.

        ``None`` if the setting is absent, so that joint recall selects the best epoch. The
        function evaluates the weights that the cascade has when it is called.

        Raises:
            ConfigError: if the cascade has several stages, or its stage cannot search.
        """
        catalogue = self._settings.catalogue
        if catalogue is None or catalogue.decides is None:
            return None
        if len(cascade.stages) > 1:
            raise ConfigError(
                "catalogue.decides needs a cascade of one stage; "
                f"got {len(cascade.stages)}; leave it out to select epochs by joint recall"
            )
        metric, (name, stage) = catalogue.decides, next(iter(cascade.stages.items()))
        if not isinstance(stage, VectorStage):
            raise ConfigError(
                f"catalogue.decides needs a stage that can search all items, and stages.{name} "
                "cannot: its score is not the dot product of two vectors; use two_tower or "
                "matrix_factorisation, or leave it out"
            )
        history = self._history()
        validation = self._data.split.validation

        def decides() -> float:
            report = self._report(stage, validation, history=history, bootstrap=0)
            return report.metrics[metric].mean

        return decides

    def evaluate(
        self, cascade: Cascade, rows: Rows, *, stage: str | None = None, index: str = EXACT
    ) -> CatalogueReport:
        """Evaluate a stage by its search of all items in the catalogue.

        Args:
            cascade: cascade with trained weights.
            rows: row numbers of the requests.
            stage: name of the stage; the first by default.
            index: ``"exact"``, or an index of faiss, such as ``"HNSW32"``.

        Raises:
            ConfigError: if the settings name no feature that identifies items, the stage does not
                exist, or it cannot search.
            DataError: if there are no items.
        """
        name = stage or cascade.stage_names[0]
        if name not in cascade.stage_names:
            raise ConfigError(
                f"no stage called '{name}'{did_you_mean(name, cascade.stage_names)}; "
                f"the stages are {', '.join(cascade.stage_names)}"
            )
        self._check_features(name)
        return self._report(
            cascade.stages[name],
            rows,
            history=self._history() if len(self._data.split.train) else None,
            index=index,
            bootstrap=self._settings.evaluation.bootstrap,
            seed=self._settings.evaluation.seed,
        )

    def _report(self, stage: Any, rows: Rows, **options: Any) -> CatalogueReport:
        settings, data, catalogue = self._settings, self._data, self._settings.catalogue
        if catalogue is None:
            raise ConfigError("the search of all items needs the table [catalogue] of the settings")
        return evaluate_catalogue(
            stage,
            data.loader(rows),
            data.items,
            k=settings.ground_truth.top,
            threshold=settings.ground_truth.threshold,
            cutoffs=catalogue.cutoffs,
            user=catalogue.user,
            device=self._device,
            **options,
        )

    def _history(self) -> Liked | None:
        """Return the training items to exclude from each user's results.

        These are the items of the user's training requests with labels of at least
        ``catalogue.leaves_out``; by default, those that are ground truth. ``None`` if the settings
        name no feature that identifies users.
        """
        catalogue, relevance = self._settings.catalogue, self._settings.ground_truth
        if catalogue is None or catalogue.user is None:
            return None
        k, threshold = relevance.top, relevance.threshold
        if catalogue.leaves_out is not None:
            k, threshold = None, catalogue.leaves_out
        train = self._data.loader(self._data.split.train)
        return liked_before(train, self._data.items, user=catalogue.user, k=k, threshold=threshold)

    def _check_features(self, stage: str) -> None:
        """Check that items outside of a request have all candidate features of a stage.

        Raises:
            ConfigError: if the stage reads a feature that they do not have.
        """
        chosen = self._data.schema.select(self._settings.stages[stage].features)
        self._data.items.check_has(
            [f.name for f in chosen if f.role is Role.ITEM], reader=f"stages.{stage}"
        )
