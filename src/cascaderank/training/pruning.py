"""A run without what its closed gates made useless: smaller, of the same answers."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from cascaderank.errors import ConfigError, RunError
from cascaderank.runs.build import build_cascade
from cascaderank.runs.folder import (
    RunFolder,
    locked,
    read_json,
    write_atomically,
    write_json,
)
from cascaderank.runs.load import load_run
from cascaderank.stages import Prunable, Pruned, prune


def prune_run(folder: str | os.PathLike[str], to: str | os.PathLike[str]) -> dict[str, Pruned]:
    """Write a run whose stages lack what their closed gates made useless.

    What it scores is the same but for the rounding of sums. It is a run like any other: it can be
    judged, profiled and served. Its settings say what is left of each stage; its report is that of
    the whole run, with what was saved in ``pruned``.

    Args:
        folder: of a complete run.
        to: folder of the smaller run; must not be there, or be empty.

    Returns:
        What was saved, by name of the stage; those without gates are as they were.

    Raises:
        RunError: if the one folder is not that of a complete run, or the other is not empty.
        ConfigError: if no stage has gates, or they were pruned already.

    Source: this project.
    """
    folder, to = Path(folder), Path(to)
    run = load_run(folder)
    cascade, schema, settings, whole = run.cascade, run.schema, run.settings, run.folder
    report = read_json(whole.report)
    if "pruned" in report:
        raise ConfigError(f"{folder}: was pruned already, from {report['pruned']['from']}")
    history = settings.data.history_length
    found = {
        name: prune(stage, schema, history=history)
        for name, stage in cascade.stages.items()
        if isinstance(stage, Prunable)
    }
    if not found:
        raise ConfigError(
            f"{folder}: no stage has gates that could be closed "
            f"({', '.join(f'{n} is {type(s).__name__}' for n, s in cascade.stages.items())}); "
            "'ecmm' has"
        )
    changes = {f"stages.{n}.{o}": v for n, of in found.items() for o, v in of.options.items()}
    smaller = settings.changed(changes)
    pruned = build_cascade(smaller, schema)
    for name, stage in cascade.stages.items():
        last = found[name].stage if name in found else stage
        pruned.stages[name].load_state_dict(last.state_dict())
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise RunError(f"{to}: is there already, and not an empty folder; name another")
    smaller_run = RunFolder(to)
    with locked(to):
        write_atomically(smaller_run.config, smaller.to_toml().encode())
        for name in ("schema", "environment", "metrics", "per_request"):
            if getattr(whole, name).exists():
                shutil.copyfile(getattr(whole, name), getattr(smaller_run, name))
        weights = {name: tensor.contiguous() for name, tensor in pruned.state_dict().items()}
        write_atomically(smaller_run.weights, save(weights))
        sizes = {n: sum(p.numel() for p in s.parameters()) for n, s in pruned.stages.items()}
        saved = {name: pruning_record(of) for name, of in found.items()}
        about = {"parameters": sizes, "pruned": {"from": str(folder), "stages": saved}}
        write_json(smaller_run.report, {**report, **about})
    return found


def pruning_record(pruned: Pruned) -> Mapping[str, Any]:
    """Return what pruning saved, as JSON can hold it; lists are before and after."""
    return {
        "parameters": list(pruned.parameters),
        "multiply_adds_per_request": [m.per_request for m in pruned.multiply_adds],
        "multiply_adds_per_candidate": [m.per_candidate for m in pruned.multiply_adds],
    }
