"""Warm start: initialise a cascade from the weights of a complete run."""

from cascaderank.cascade import Cascade
from cascaderank.errors import ConfigError
from cascaderank.runs.load import TrainedRun
from cascaderank.schema import FittedSchema
from cascaderank.stages.cold import COLD
from cascaderank.stages.fscd import FSCD


def begin_with(cascade: Cascade, schema: FittedSchema, start: TrainedRun) -> None:
    """Initialise a cascade with the weights of a complete run.

    A ``fscd`` stage without gates takes the weights of its own fields from a ``fscd`` stage with
    gates. A ``cold`` stage without gates takes no weights from one with gates: it is trained from
    scratch on the selected fields.

    Args:
        cascade: cascade to initialise.
        schema: fitted schema that encodes its requests.
        start: the complete run.

    Raises:
        ConfigError: if the schemas differ, or the run lacks a stage or has one with parameters of
            other shapes.
    """
    path = start.folder.path
    if start.schema != schema:
        raise ConfigError(
            f"train.start: {path} has other features or vocabularies than this run; start from a "
            "run on the same data set with the same split"
        )
    for name, stage in cascade.stages.items():
        if name not in start.cascade.stages:
            existing = ", ".join(start.cascade.stages)
            raise ConfigError(f"train.start: {path} has no stage '{name}'; it has {existing}")
        source = start.cascade.stages[name]
        if isinstance(source, COLD) and isinstance(stage, COLD) and source.gate and not stage.gate:
            continue
        if isinstance(source, FSCD) and isinstance(stage, FSCD) and stage.log_odds is None:
            fields = stage.embedder
            source = source.reduced([*fields.request_fields, *fields.item_fields])
        try:
            stage.load_state_dict(source.state_dict())
        except RuntimeError:
            raise ConfigError(
                f"train.start: stage '{name}' of {path} has other parameters than this one; "
                "start from a run whose stages have the same options"
            ) from None
