"""Field selection: the most important fields of a ``cold`` or ``fscd`` run, for a second phase."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

import torch

from cascaderank.batch import RequestBatch
from cascaderank.cascade import Cascade
from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError
from cascaderank.runs.data import run_data
from cascaderank.runs.load import load_run
from cascaderank.schema import Role
from cascaderank.settings.files import dotted
from cascaderank.settings.run import RunSettings
from cascaderank.stages.cold import COLD
from cascaderank.stages.fscd import FSCD


@final
@dataclass(frozen=True)
class SelectedFields:
    """Importance and selection of the fields of a stage."""

    importance: Mapping[str, float]
    """Importance of each field, in the order of the stage: its mean weight (``cold``), or the
    probability that it is kept (``fscd``)."""
    kept: tuple[str, ...]
    """Names of the selected fields."""


def select_fields(
    folder: str | os.PathLike[str], *, keep: float = 0.5
) -> tuple[dict[str, SelectedFields], RunSettings]:
    """Select the most important fields of each ``cold`` or ``fscd`` stage of a run.

    Args:
        folder: folder of a complete run.
        keep: fraction of the fields of each stage to keep, in (0, 1), or their number, an integer.

    Returns:
        Selected fields by name of the stage, and the settings of the second phase: those of the
        run, restricted to these fields, without gates. In the second phase, ``cold`` is trained
        from scratch, and ``fscd`` starts from the weights of this run.

    Raises:
        RunError: if the folder does not hold a complete run.
        ConfigError: if no stage has field weights, or ``keep`` is out of range.

    Source: the second phase of COLD (arXiv 2007.16122) and FSCD (arXiv 2105.07706).
    """
    run = load_run(folder)
    settings = run.settings
    gated = {
        name: stage
        for name, stage in run.cascade.stages.items()
        if isinstance(stage, COLD | FSCD) and settings.stages[name].options.get("gates", True)
    }
    if not gated:
        models = ", ".join(f"{name} is {stage.model}" for name, stage in settings.stages.items())
        raise ConfigError(
            f"{folder}: no stage has field weights ({models}); train a 'cold' or 'fscd' stage with "
            "gates"
        )
    selected = {}
    with run_data(settings) as data:
        for name, stage in gated.items():
            if isinstance(stage, COLD):
                loader = RequestLoader(data.encoded, data.split.train, batch_size=256)
                importance = stage.importance(_inputs(run.cascade, name, loader))
                kept = stage.select_fields(_inputs(run.cascade, name, loader), keep=keep)
            else:
                importance, kept = stage.importance(), stage.select_fields(keep=keep)
            selected[name] = SelectedFields(importance, kept)
    changes: dict[str, object] = {}
    for name, fields in selected.items():
        outputs = {f"previous_{output}": output for output in settings.stages[name].previous}
        features = [field for field in fields.kept if field not in outputs]
        of_items = [f.name for f in run.schema.of(Role.ITEM) if f.name in fields.importance]
        if not set(features) & set(of_items):  # outputs alone: a stage needs a feature
            features.append(max(of_items, key=fields.importance.__getitem__))
        changes[dotted("stages", name, "features")] = features
        changes[dotted("stages", name, "previous")] = [
            output for field, output in outputs.items() if field in fields.kept
        ]
        changes[dotted("stages", name, "gates")] = False
        if isinstance(gated[name], FSCD):
            changes["train.start"] = str(folder)
    return selected, settings.changed(changes)


@torch.no_grad()
def _inputs(cascade: Cascade, stage: str, loader: RequestLoader) -> Iterator[RequestBatch]:
    """Yield the batches that a stage reads, with outputs of the stage before it, if it has any."""
    earlier = cascade.stage_names.index(stage)
    for batch in loader.epoch(0):
        scores = list(cascade(batch))[:earlier] if stage in cascade.previous else []
        yield cascade.inputs(stage, batch, scores)
