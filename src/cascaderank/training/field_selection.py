"""The second phase of models that weigh fields: which of them are kept."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from cascaderank.data.loading.loader import RequestLoader
from cascaderank.errors import ConfigError
from cascaderank.runs.data import run_data
from cascaderank.runs.load import load_run
from cascaderank.settings.run import RunSettings
from cascaderank.stages.cold import COLD
from cascaderank.stages.fscd import FSCD


@final
@dataclass(frozen=True)
class SelectedFields:
    """Which fields a stage keeps."""

    importance: Mapping[str, float]
    """Of each field, in the order of the stage: mean weight (``cold``), chance to be kept
    (``fscd``)."""
    kept: tuple[str, ...]


def select_fields(
    folder: str | os.PathLike[str], *, keep: float = 0.5
) -> tuple[dict[str, SelectedFields], RunSettings]:
    """Choose the fields that weigh most in the stages of a run.

    Args:
        folder: of a complete run.
        keep: of the fields of each stage: a share, in (0, 1), or how many, a whole number.

    Returns:
        What is kept, by name of the stage, and the settings of the second phase: the same on
        these fields, without gates. ``cold`` is trained anew, ``fscd`` goes on from the weights of
        this run.

    Raises:
        RunError: if the folder is not that of a complete run.
        ConfigError: if no stage weighs fields, or ``keep`` is out of range.

    Source: COLD (arXiv 2007.16122) and FSCD (arXiv 2105.07706), their two phases.
    """
    run = load_run(folder)
    settings = run.settings
    weighing = {n: s for n, s in run.cascade.stages.items() if isinstance(s, COLD | FSCD)}
    weighing = {n: s for n, s in weighing.items() if settings.stages[n].options.get("gates", True)}
    if not weighing:
        models = ", ".join(f"{name} is {of.model}" for name, of in settings.stages.items())
        raise ConfigError(f"{folder}: no stage weighs fields ({models}); 'cold' and 'fscd' do")
    found = {}
    with run_data(settings) as data:
        for name, stage in weighing.items():
            if isinstance(stage, COLD):
                loader = RequestLoader(data.encoded, data.split.train, batch_size=256)
                weights = stage.importance(loader.epoch(0))
                kept = stage.select_fields(loader.epoch(0), keep=keep)
            else:
                weights, kept = stage.importance(), stage.select_fields(keep=keep)
            found[name] = SelectedFields(weights, kept)
    changes: dict[str, object] = {}
    for name, selected in found.items():
        changes |= {f"stages.{name}.features": selected.kept, f"stages.{name}.gates": False}
        if isinstance(weighing[name], FSCD):
            changes["train.start"] = str(folder)
    return found, settings.changed(changes)
