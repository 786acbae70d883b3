"""All that it takes to go on where a killed run stopped."""

import io
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from cascaderank.errors import RunError
from cascaderank.runs.folder import write_atomically


@final
@dataclass(kw_only=True)
class TrainState:
    """Where training stands, apart from weights and optimizer."""

    epoch: int = 0
    """The epoch that is under way, from 0."""
    batch: int = 0
    """Batches of it that are done."""
    step: int = 0
    """Batches that are done in all."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of the loss and its terms, over the batches of this epoch."""
    counts: dict[str, int] = field(default_factory=dict)
    """Of the batches in which each of them counted."""
    best: float = -1.0
    """The best validation joint recall so far."""
    best_epoch: int = -1
    """The epoch that reached it."""
    stopped: bool = False
    """Whether training has come to its end."""
    metrics_bytes: int = 0
    """How long metrics.jsonl was; what a killed run wrote beyond it is written again."""


def save_checkpoint(
    path: str | os.PathLike[str],
    state: TrainState,
    *,
    modules: dict[str, Any],
    best_weights: dict[str, Tensor],
    random: dict[str, Tensor],
) -> None:
    """Write a checkpoint whole or not at all.

    Args:
        path: the file.
        state: where training stands.
        modules: whatever has a ``state_dict``, by name.
        best_weights: the weights that did best on the validation requests.
        random: states of the generators.
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "state": asdict(state),
            "modules": {name: module.state_dict() for name, module in modules.items()},
            "best_weights": best_weights,
            "random": random,
        },
        buffer,
    )
    write_atomically(path, buffer.getvalue())


def load_checkpoint(
    path: str | os.PathLike[str], *, modules: dict[str, Any], device: torch.device
) -> tuple[TrainState, dict[str, Tensor], dict[str, Tensor]]:
    """Read a checkpoint into the modules.

    Args:
        path: the file.
        modules: as they were given to :func:`save_checkpoint`.
        device: where the weights go.

    Returns:
        Where training stood, the best weights, and the states of the generators.

    Raises:
        RunError: if the file is damaged or belongs to other modules.
    """
    path = Path(path)
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        for name, module in modules.items():
            module.load_state_dict(saved["modules"][name])
        return TrainState(**saved["state"]), saved["best_weights"], saved["random"]
    except Exception as error:  # noqa: BLE001 - a damaged file can raise anything
        first = str(error).strip().split("\n")[0]
        raise RunError(
            f"{path}: cannot resume from this checkpoint ({first}); remove the file to start anew"
        ) from None
