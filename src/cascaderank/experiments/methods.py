"""What is compared: methods, each an objective, a variant or a scorer, with values to try."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

from cascaderank.config import RunSettings
from cascaderank.errors import ConfigError, did_you_mean
from cascaderank.experiments.scorers import SCORERS, tree_settings
from cascaderank.objectives import OBJECTIVES

Point = Mapping[str, Any]
"""Values of a grid, by the dotted names of the settings."""

ALL = "*"
"""What the table of a grid is called whose axes are those of all methods."""

_SAME = ("data", "relevance", "evaluation", "catalogue", "compare")
_LONGEST = 120  # of a folder's name; file systems take 255 bytes


@final
@dataclass(frozen=True, kw_only=True)
class Method:
    """One of what is compared."""

    name: str
    objective: str | None
    """Its objective with no options, in place of that of the run; ``None`` for that of the run."""
    own: Mapping[str, Any]
    """Settings of the run that differ, by their dotted names."""
    axes: Mapping[str, tuple[Any, ...]]
    """Values to try, by the dotted names of the settings."""
    scorer: str | None = None
    """What is fitted in place of the cascade; what differs and is tried are then its options."""

    def options(self, point: Point) -> dict[str, Any]:
        """Return the options of the scorer at a point of the grid."""
        return {**self.own, **point}

    def settings(self, run: RunSettings, changes: Mapping[str, Any] | None = None) -> RunSettings:
        """Return the settings of one run of this method.

        Args:
            run: settings that all methods share.
            changes: further settings, by their dotted names.

        Raises:
            ConfigError: if a setting is wrong, or changes what methods are judged by.
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
            found = run
            if self.objective is not None and self.objective != run.objective.name:
                found = found.changed({"objective": {"name": self.objective}})
            found = found.changed({**self.own, **(changes or {})})
        except ConfigError as error:
            raise ConfigError(f"compare, method '{self.name}': {error}") from None
        other = [table for table in _SAME if getattr(found, table) != getattr(run, table)]
        if _cuts(found) != _cuts(run):
            other.append("names and quotas of stages")
        if other:
            raise ConfigError(
                f"compare, method '{self.name}': changes {', '.join(other)}; methods are compared "
                "on the same requests, ground truth and quotas, so change that for all of them"
            )
        return found


def methods_of(settings: RunSettings, names: Iterable[str]) -> list[Method]:
    """Return methods by their names.

    A name is that of a table in ``[compare.variants]``, of an objective, or of a scorer (see
    ``experiments/scorers.py``); such a table may also be called as an objective or a scorer, and
    then says what differs for it. A variant has the objective of the run unless it names one. The
    grid of all methods is about settings of a run, so that a scorer has but its own.

    Raises:
        ConfigError: if there is no such method, or a grid is that of none.

    Examples:
        >>> from cascaderank.config import check_settings
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
                f"compare.grid: no method called '{name}'{did_you_mean(name, [ALL, *known])}"
            )
    return [_method(settings, name) for name in names]


def _method(settings: RunSettings, name: str) -> Method:
    variants, grid = settings.compare.variants, settings.compare.grid
    if name in SCORERS:
        own, axes = dict(variants.get(name, {})), grid.get(name, {})
        return Method(name=name, objective=None, own=own, axes=axes, scorer=name)
    if name not in variants:
        try:
            OBJECTIVES[name]  # an unknown name is told before any work
        except ConfigError as error:
            nor = f"; nor a scorer{did_you_mean(name, SCORERS)}"
            nor += f"; nor a variant{did_you_mean(name, variants)}" if variants else ""
            raise ConfigError(f"{error}{nor}") from None
    own = dict(variants.get(name, {}))
    objective = own.pop("objective.name", name if name in OBJECTIVES else None)
    # What a variant is about is not tuned, unless its own grid says so.
    shared = {k: v for k, v in grid.get(ALL, {}).items() if k not in own}
    axes = {**shared, **grid.get(name, {})}
    if "train.seed" in {*own, *axes}:
        raise ConfigError(f"compare, method '{name}': seeds are those of compare.seeds for all")
    for axis, values in axes.items():
        if any(values.count(value) > 1 for value in values):
            raise ConfigError(f"compare.grid, '{axis}': a value is there twice; got {list(values)}")
    return Method(name=name, objective=objective, own=own, axes=axes)


def label_of(point: Point) -> str:
    """Return what the folder of a point is called.

    Examples:
        >>> label_of({"train.learning_rate": 0.01, "train.batch_size": 8}), label_of({})
        ('learning_rate=0.01_batch_size=8', 'run')
    """
    label = "_".join(f"{k.rpartition('.')[2]}={v}" for k, v in point.items()) or "run"
    label = label.replace("/", "-")
    if len(label) > _LONGEST:
        label = f"{label[:_LONGEST]}-{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return label


def _cuts(settings: RunSettings) -> list[tuple[str, int]]:
    return [(name, stage.quota) for name, stage in settings.stages.items()]
