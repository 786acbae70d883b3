"""Warnings about terms of an objective that trained nothing."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from cascaderank.errors import counted


def term_warnings(metrics: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return a warning if terms of the objective were 0 in all epochs of a run.

    Such terms have no gradient: the data have no list that they apply to.

    Args:
        metrics: file with a line for each epoch, as training writes it.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "metrics.jsonl"
        ...     _ = file.write_text('{"train": {"loss": 1.5, "bce/a": 1.5, "bce/b": 0.0}}')
        ...     term_warnings(file)[0][:52]
        "the term 'bce/b' of the objective was 0 in 1 epoch, "

    Source: this project.
    """
    return tuple(_without_effect(Path(metrics)))


def _without_effect(metrics: Path) -> Iterator[str]:
    epochs = [json.loads(line)["train"] for line in metrics.read_bytes().splitlines()]
    values: dict[str, list[float]] = {}
    for epoch in epochs:
        for name, value in epoch.items():
            values.setdefault(name, []).append(value)
    idle = [name for name, of_epochs in values.items() if not any(of_epochs) and name != "loss"]
    if idle:
        terms = ", ".join(f"'{name}'" for name in idle)
        one = len(idle) == 1
        yield (
            f"the {'term' if one else 'terms'} {terms} of the objective "
            f"{'was' if one else 'were'} 0 in {counted(len(epochs), 'epoch')}, so "
            f"{'it' if one else 'they'} trained nothing. Choose options of the objective that fit "
            "the labels, the levels and the lengths of the lists."
        )
