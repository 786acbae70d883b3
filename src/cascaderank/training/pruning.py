"""Pruning of a run: the parts behind closed gates are removed; the scores do not change."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save

from cascaderank.errors import ConfigError, RunError
from cascaderank.previous import schema_with_previous
from cascaderank.regular_files import read_file, system_errors
from cascaderank.runs.build import build_cascade
from cascaderank.runs.folder import (
    RunFolder,
    locked,
    read_json,
    write_atomically,
)
from cascaderank.runs.load import load_run
from cascaderank.settings.files import dotted
from cascaderank.stages import Prunable, Pruned, prune


def prune_run(folder: str | os.PathLike[str], to: str | os.PathLike[str]) -> dict[str, Pruned]:
    """Write a copy of a run without the parts of its stages that are behind closed gates.

    The scores of the copy differ only by the rounding of sums. The copy is a complete run: it can
    be evaluated, profiled and served. Its settings describe the pruned stages; its report is that
    of the original run, with the savings under ``pruned``.

    Args:
        folder: folder of a complete run.
        to: folder to write; must not exist or be empty.

    Returns:
        Pruned stages by name; stages without gates are copied unchanged and not listed.

    Raises:
        RunError: if ``folder`` does not hold a complete run, or ``to`` is not empty.
        ConfigError: if no stage has gates, or the run was pruned before.

    Source: this project.
    """
    folder, to = Path(folder), Path(to)
    run = load_run(folder)
    cascade, schema, settings, original = run.cascade, run.schema, run.settings, run.folder
    report = read_json(original.report)
    if "pruned" in report:
        raise ConfigError(
            f"{folder}: was already pruned from {report['pruned']['from']}; "
            "a run can be pruned only once"
        )
    history = settings.data.history_length
    pruned = {
        name: prune(
            stage, schema_with_previous(schema, cascade.previous.get(name, ())), history=history
        )
        for name, stage in cascade.stages.items()
        if isinstance(stage, Prunable)
    }
    if not pruned:
        raise ConfigError(
            f"{folder}: no stage has gates "
            f"({', '.join(f'{n} is {type(s).__name__}' for n, s in cascade.stages.items())}); "
            "train a stage with gates, such as 'ecmm'"
        )
    changes = {
        dotted("stages", name, option): value
        for name, stage in pruned.items()
        for option, value in stage.options.items()
    }
    smaller_settings = settings.changed(changes)
    smaller = build_cascade(smaller_settings, schema)
    for name, stage in cascade.stages.items():
        source = pruned[name].stage if name in pruned else stage
        smaller.stages[name].load_state_dict(source.state_dict())
    kept = [
        n
        for n in ("schema", "environment", "metrics", "per_request")
        if getattr(original, n).exists()
    ]
    with system_errors(RunError):
        contents = {name: read_file(getattr(original, name)) for name in kept}
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise RunError(f"{to}: already exists and is not an empty folder; choose another")
    copy = RunFolder(to)
    with locked(to):
        write_atomically(copy.config, smaller_settings.to_toml().encode())
        for name, content in contents.items():
            write_atomically(getattr(copy, name), content)
        weights = {name: tensor.contiguous() for name, tensor in smaller.state_dict().items()}
        write_atomically(copy.weights, save(weights))
        sizes = {n: sum(p.numel() for p in s.parameters()) for n, s in smaller.stages.items()}
        records = {name: pruning_record(stage) for name, stage in pruned.items()}
        changed = {"parameters": sizes, "pruned": {"from": str(folder), "stages": records}}
        copy.write_report({**report, **changed})
    return pruned


def pruning_record(pruned: Pruned) -> Mapping[str, Any]:
    """Return the savings of a pruned stage as JSON values; each list holds before and after."""
    return {
        "parameters": list(pruned.parameters),
        "multiply_adds_per_request": [m.per_request for m in pruned.multiply_adds],
        "multiply_adds_per_candidate": [m.per_candidate for m in pruned.multiply_adds],
    }
