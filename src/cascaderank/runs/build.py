"""Build the parts of a run from its settings: the cascade and the objective."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from cascaderank.cascade import Cascade, build_stage, check_parameters_fit, parameters_of
from cascaderank.data.log.request_log import RequestLog
from cascaderank.errors import ConfigError, SchemaError
from cascaderank.objectives import OBJECTIVES, Objective, build_objective
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings

T = TypeVar("T")


def build_cascade(settings: RunSettings, schema: FittedSchema) -> Cascade:
    """Build the cascade of a run, initialised from PyTorch's global generator.

    Args:
        settings: settings of the run.
        schema: schema fitted to the training requests.

    Raises:
        ConfigError: if a stage cannot be built from its options, with the name of the stage; or if
            the parameters of all stages do not fit into the memory of the machine.
        SchemaError: if a stage uses a feature that does not exist.
    """
    check_parameters_fit(sum(_of_stages(settings, schema, parameters_of).values()))
    build = partial(build_stage, check_memory=False)
    previous = {name: stage.previous for name, stage in settings.stages.items() if stage.previous}
    return Cascade(_of_stages(settings, schema, build), settings.quotas, previous=previous)


def _of_stages(
    settings: RunSettings, schema: FittedSchema, build: Callable[..., T]
) -> dict[str, T]:
    """Return the result of a function of the settings of a stage, for each stage by name."""
    stages = {}
    for name, stage in settings.stages.items():
        try:
            stages[name] = build(
                stage.model,
                schema,
                features=stage.features,
                options=stage.options,
                previous=stage.previous,
            )
        except (ConfigError, SchemaError) as error:
            raise type(error)(f"stages.{name}: {error}") from None
    return stages


def schema_of_stages(settings: RunSettings, schema: FittedSchema) -> FittedSchema:
    """Return the part of a fitted schema that the stages of a run read.

    Args:
        settings: settings of the run.
        schema: schema fitted to the training requests.
    """
    read = {f.name for stage in settings.stages.values() for f in schema.select(stage.features)}
    return schema.only(read)


def build_run_objective(settings: RunSettings, log: RequestLog) -> Objective:
    """Build the objective of a run for its stages, quotas, ground truth and levels.

    Options that depend on the levels of the log and are not set get these defaults:
    ``entry_levels`` (stages enter at evenly spaced levels) and ``exposed_level`` (the highest).

    Args:
        settings: settings of the run.
        log: request log of the run; only its manifest is read.

    Raises:
        ConfigError: if an option does not fit the levels of the log, or the objective cannot be
            built.
    """
    name, options = settings.objective.name, settings.objective.options
    levels = len(log.manifest.level_names)
    entry_levels = options.get("entry_levels")
    if entry_levels is not None and max(entry_levels) >= levels:
        existing = f"levels 0 to {levels - 1}" if levels else "no levels"
        raise ConfigError(
            f"objective.entry_levels: {log.path} has {existing}; got {list(entry_levels)}; "
            "use existing levels, or leave the option out"
        )
    if levels and "entry_levels" in OBJECTIVES.options(name):
        options.setdefault("entry_levels", entry_levels_of(settings, log))
    if levels and "exposed_level" in OBJECTIVES.options(name):
        options.setdefault("exposed_level", levels - 1)
    z = options.get("z")
    if levels and z is not None and len(z) != levels:
        raise ConfigError(
            f"objective.z must have one value per level of {log.path} "
            f"({', '.join(log.manifest.level_names)}), {levels} in all; got {list(z)}"
        )
    return build_objective(
        name,
        stages=list(settings.stages),
        quotas=settings.quotas,
        ground_truth=settings.ground_truth.top,
        threshold=settings.ground_truth.threshold,
        **options,
    )


def entry_levels_of(settings: RunSettings, log: RequestLog) -> list[int]:
    """Return the lowest level that each stage is trained on: as set, or evenly spaced levels.

    Args:
        settings: settings of the run.
        log: request log with levels; only its manifest is read.
    """
    levels, stages = len(log.manifest.level_names), len(settings.stages)
    given = settings.objective.options.get("entry_levels")
    return [t * levels // stages for t in range(stages)] if given is None else list(given)
