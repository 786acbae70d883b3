"""A cascade that begins with the weights of a run."""

from pathlib import Path

from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError
from cascaderank.schema import FittedSchema
from cascaderank.settings.run import RunSettings
from cascaderank.stages.cold import COLD
from cascaderank.stages.fscd import FSCD


def begin_with(
    cascade: Cascade,
    schema: FittedSchema,
    start: Path,
    run: tuple[Cascade, FittedSchema, RunSettings],
) -> None:
    """Give a cascade the weights of a run.

    A stage of ``fscd`` without gates takes those of its fields from one that weighed them, one of
    ``cold`` takes nothing from it.

    Args:
        cascade: to be trained.
        schema: that encodes its requests.
        start: folder of the run, to tell.
        run: as :func:`cascaderank.training.train_run.load_run` returns it.

    Raises:
        ConfigError: if the run was trained on other data, lacks a stage, or has one of another
            shape.
    """
    before, its_schema, _ = run
    if its_schema != schema:
        raise ConfigError(
            f"train.start: {start} reads other features or values than this run does; begin with "
            "a run on the same data set, split alike"
        )
    for name, stage in cascade.stages.items():
        if name not in before.stages:
            there = ", ".join(before.stages)
            raise ConfigError(f"train.start: {start} has no stage '{name}'; it has {there}")
        its = before.stages[name]
        if isinstance(its, COLD) and isinstance(stage, COLD) and its.gate and not stage.gate:
            continue  # trained anew on the fields that were chosen
        if isinstance(its, FSCD) and isinstance(stage, FSCD) and stage.log_odds is None:
            fields = stage.embedder
            its = its.reduced([*fields.request_fields, *fields.item_fields])
        try:
            stage.load_state_dict(its.state_dict())
        except RuntimeError:
            raise ConfigError(
                f"train.start: stage '{name}' of {start} has other parameters than this one; "
                "begin with a run whose stages are built alike"
            ) from None
