"""Warm start: initialise a cascade from the weights of a complete run."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from cascaderank.cascade import Cascade
from cascaderank.data.encoding.fitting import extend_schema
from cascaderank.errors import ConfigError
from cascaderank.runs.load import TrainedRun
from cascaderank.schema import FittedSchema, abridged
from cascaderank.settings.run import RunSettings
from cascaderank.stages import STAGES
from cascaderank.stages.cold import COLD
from cascaderank.stages.fscd import FSCD


def warm_start(
    cascade: Cascade,
    schema: FittedSchema,
    source: TrainedRun,
    settings: RunSettings | None = None,
) -> None:
    """Initialise a cascade with the weights of a complete run.

    The vocabularies of ``schema`` may have more categories than those of the run, behind the same
    ones (see :func:`~cascaderank.data.encoding.fitting.extend_schema`). Embeddings of the new
    categories keep their random initialisation.

    A ``fscd`` stage without gates takes the weights of its own fields from a ``fscd`` stage with
    gates. A ``cold`` stage without gates takes no weights from one with gates: it is trained from
    scratch on the selected fields.

    Args:
        cascade: cascade to initialise.
        schema: fitted schema that encodes its requests.
        source: run that the weights are copied from.
        settings: settings of the cascade, for the message about a stage that differs.

    Raises:
        ConfigError: if the schemas differ, the run does not have a stage, or a stage has other
            parameters.
    """
    path = source.folder.path
    if extend_schema(source.schema, schema) != schema:
        raise ConfigError(
            f"train.start: {path} has other vocabularies than the data of this run; set "
            "train.start of all methods, or start from a run on the same data set and split"
        )
    for name, stage in cascade.stages.items():
        if name not in source.cascade.stages:
            existing = ", ".join(source.cascade.stages)
            raise ConfigError(
                f"train.start: {path} has no stage '{name}'; its stages are {existing}; "
                "start from a run with stages of the same names"
            )
        saved = source.cascade.stages[name]
        if isinstance(saved, COLD) and isinstance(stage, COLD) and saved.gate and not stage.gate:
            continue
        if isinstance(saved, FSCD) and isinstance(stage, FSCD) and stage.log_odds is None:
            embedder = stage.embedder
            saved = saved.reduced([*embedder.request_fields, *embedder.item_fields])
        try:
            stage.load_state_dict(_with_new_rows(saved, stage))
        except RuntimeError:
            differences = "; ".join(_differences(name, stage, source, schema, settings))
            raise ConfigError(
                f"train.start: stage '{name}' of {path} has other parameters than that of this "
                f"run: {differences}; set the same model, options and features in both, or start "
                "from another run"
            ) from None


def _differences(
    name: str,
    stage: nn.Module,
    source: TrainedRun,
    schema: FittedSchema,
    settings: RunSettings | None,
) -> Iterator[str]:
    """Yield the settings of a stage that differ from those of the saved one, or its parameters."""
    lines = []
    if settings is not None:
        own, saved = settings.stages[name], source.settings.stages[name]
        if own.model != saved.model:
            lines.append(f"expected model {own.model}, found {saved.model}")
        else:
            known = STAGES.options(own.model)
            for option in sorted({*own.options, *saved.options}):
                default = known[option].default if option in known else None
                there, here = (_plain(s.options.get(option, default)) for s in (saved, own))
                if there != here:
                    lines.append(f"expected {option} = {here}, found {there}")
        if own.previous != saved.previous:
            lines.append(f"expected previous = {[*own.previous]}, found {[*saved.previous]}")
        there, here = (
            {f.name for f in fitted.select(s.features)}
            for fitted, s in ((source.schema, saved), (schema, own))
        )
        if there - here:
            lines.append(f"it also uses {abridged(sorted(there - here))}")
        if here - there:
            lines.append(f"it does not use {abridged(sorted(here - there))}")
    if lines:
        yield from lines
        return
    before = {n: list(p.shape) for n, p in source.cascade.stages[name].state_dict().items()}
    after = {n: list(p.shape) for n, p in stage.state_dict().items()}
    for parameter in sorted({*before, *after}):
        if before.get(parameter) != after.get(parameter):
            there_, here_ = (s.get(parameter, "missing") for s in (before, after))
            yield f"expected shape {here_} of {parameter}, found {there_}"
            return


def _plain(value: object) -> object:
    """Return a list for a tuple: TOML has lists, defaults are tuples."""
    return list(value) if isinstance(value, tuple) else value


def _with_new_rows(saved: nn.Module, stage: nn.Module) -> dict[str, Tensor]:
    """Return the state of the saved stage, with the new rows of larger embedding tables."""
    state: dict[str, Tensor] = dict(saved.state_dict())
    for name, module in stage.named_modules():
        key = f"{name}.weight" if name else "weight"
        if isinstance(module, nn.Embedding) and key in state:
            old, new = state[key], module.weight.detach()
            if len(old) < len(new) and old.shape[1:] == new.shape[1:]:
                state[key] = torch.cat([old.to(new.device), new[len(old) :]])
    return state
