"""Methods of a comparison: an objective, a variant or a scorer, with the values to tune."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.experiments.scorers import SCORERS, tree_settings
from cascaderank.objectives import OBJECTIVES
from cascaderank.settings.files import dotted
from cascaderank.settings.run import RunSettings

Point = Mapping[str, Any]
"""One value of each axis of a grid, by the dotted name of the setting."""

ALL = "*"
"""Name of the grid table whose axes apply to all methods."""

_SHARED = ("data", "relevance", "evaluation", "catalogue", "compare")
_MAX_LABEL_LENGTH = 120  # of a folder name; file systems allow 255 bytes


@final
@dataclass(frozen=True, kw_only=True)
class Method:
    """One method of a comparison."""

    name: str
    objective: str | None
    """Objective without options, in place of that of the run; ``None`` keeps that of the run."""
    own: Mapping[str, Any]
    """Settings of the method that differ from the run, by dotted name."""
    axes: Mapping[str, tuple[Any, ...]]
    """Values to try, by the dotted name of the setting."""
    scorer: str | None = None
    """Scorer fitted in place of the cascade; ``own`` and ``axes`` are then its options."""

    def options(self, point: Point) -> dict[str, Any]:
        """Return the options of the scorer at a point of the grid."""
        return {**self.own, **point}

    def settings(self, run: RunSettings, changes: Mapping[str, Any] | None = None) -> RunSettings:
        """Return the settings of one run of this method.

        Args:
            run: settings shared by all methods.
            changes: further settings, by dotted name.

        Raises:
            ConfigError: if a setting is invalid, or changes the evaluation of the method.
        """
        if self.scorer is not None:
            changes = dict(changes or {})
            seed = changes.pop("train.seed", run.train.seed)
            try:
                tree_settings(self.scorer, self.options(changes))
            except ConfigError as error:
                raise ConfigError(f"compare, method '{self.name}': {error}") from None
            return run.changed({"train.seed": seed})
        try:
            settings = run
            if self.objective is not None and self.objective != run.objective.name:
                settings = settings.changed({"objective": {"name": self.objective}})
            own = {**self.own, **(changes or {})}
            settings = settings.changed({**_models_without_options(settings, own), **own})
        except ConfigError as error:
            raise ConfigError(f"compare, method '{self.name}': {error}") from None
        differing = [name for name in _SHARED if getattr(settings, name) != getattr(run, name)]
        if _quotas(settings) != _quotas(run):
            differing.append("names and quotas of stages")
        if differing:
            raise ConfigError(
                f"compare, method '{self.name}': changes {', '.join(differing)}; all methods must "
                "share requests, ground truth and quotas; change these settings for all methods"
            )
        return settings


def _models_without_options(run: RunSettings, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stages whose model changes, without the options of the model of the run."""
    found = {}
    for name, stage in run.stages.items():
        key = dotted("stages", name)
        model = changes.get(f"{key}.model", stage.model)
        if model != stage.model:
            found[key] = {
                "model": model,
                "quota": stage.quota,
                "features": list(stage.features),
                "previous": list(stage.previous),
            }
    return found


def methods_of(settings: RunSettings, names: Iterable[str]) -> list[Method]:
    """Return methods by their names.

    A name is that of a table in ``[compare.variants]``, of an objective, or of a scorer (see
    ``experiments/scorers.py``). A variant table with the name of an objective or a scorer holds the
    settings that differ for it. A variant has the objective of the run unless it names one. Options
    that the run gives to its objective, or to the model of a stage, do not apply to another one.
    The grid of all methods contains settings of a run, so it does not apply to scorers.

    Raises:
        ConfigError: if a method is unknown, or the grid of an unknown method is given.

    Examples:
        >>> from cascaderank.settings.run import check_settings
        >>> settings = check_settings(
        ...     {
        ...         "data": {"path": "shop"},
        ...         "relevance": {"top": 10},
        ...         "stages": {"ranking": {"model": "mlp", "quota": 20}},
        ...         "compare": {
        ...             "variants": {"cold": {"objective.temperature": 1.0}},
        ...             "grid": {"*": {"train.learning_rate": [0.01, 0.1]}},
        ...         },
        ...     }
        ... )
        >>> for method in methods_of(settings, ["bce", "cold"]):
        ...     print(method.name, dict(method.own), dict(method.axes))
        bce {} {'train.learning_rate': (0.01, 0.1)}
        cold {'objective.temperature': 1.0} {'train.learning_rate': (0.01, 0.1)}
    """
    known = [*settings.compare.variants, *OBJECTIVES, *SCORERS]
    for name in settings.compare.grid:
        if name not in known and name != ALL:
            raise ConfigError(
                f"compare.grid: unknown method '{name}'{did_you_mean(name, [ALL, *known])}"
            )
    return [_method(settings, name) for name in names]


def _method(settings: RunSettings, name: str) -> Method:
    variants, grid = settings.compare.variants, settings.compare.grid
    if name in SCORERS:
        own, axes = dict(variants.get(name, {})), grid.get(name, {})
        return Method(name=name, objective=None, own=own, axes=axes, scorer=name)
    if name not in variants:
        try:
            OBJECTIVES[name]  # raises for an unknown name before any work
        except ConfigError as error:
            others = f"; nor a scorer{did_you_mean(name, SCORERS)}"
            others += f"; nor a variant{did_you_mean(name, variants)}" if variants else ""
            raise ConfigError(f"{error}{others}") from None
    own = dict(variants.get(name, {}))
    objective = own.pop("objective.name", name if name in OBJECTIVES else None)
    # Settings that a variant fixes are tuned only by its own grid, not by the grid of all methods.
    shared = {k: v for k, v in grid.get(ALL, {}).items() if k not in own}
    axes = {**shared, **grid.get(name, {})}
    if "train.seed" in {*own, *axes}:
        raise ConfigError(
            f"compare, method '{name}': must not set train.seed; seeds are those of compare.seeds "
            "for all methods"
        )
    for axis, values in axes.items():
        if any(values.count(value) > 1 for value in values):
            raise ConfigError(
                f"compare.grid, '{axis}': values must be distinct; got {list(values)}"
            )
    return Method(name=name, objective=objective, own=own, axes=axes)


def label_of(point: Point) -> str:
    """Return the folder name of a point of a grid.

    Examples:
        >>> label_of({"train.learning_rate": 0.01, "train.batch_size": 8}), label_of({})
        ('learning_rate=0.01_batch_size=8', 'run')
    """
    label = "_".join(f"{k.rpartition('.')[2]}={v}" for k, v in point.items()) or "run"
    label = label.replace("/", "-")
    if len(label) > _MAX_LABEL_LENGTH:
        label = f"{label[:_MAX_LABEL_LENGTH]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return label


def _quotas(settings: RunSettings) -> list[tuple[str, int]]:
    return [(name, stage.quota) for name, stage in settings.stages.items()]
