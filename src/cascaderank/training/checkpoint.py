"""Checkpoints: all state that an interrupted run needs to resume with the same bits."""

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
    """Progress of training, without weights and optimizer."""

    epoch: int = 0
    """Current epoch, from 0; at the end of training, the number of epochs."""
    batch: int = 0
    """Completed batches of the current epoch."""
    step: int = 0
    """Completed batches of all epochs."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the loss and of its terms over the batches of the current epoch, by name."""
    counts: dict[str, int] = field(default_factory=dict)
    """Number of batches of the current epoch in which the loss and each term were active."""
    best: float = -1.0
    """Best validation value of the current phase; -1 if there is none."""
    best_epoch: int = -1
    """Epoch of the best validation value."""
    stopped: bool = False
    """Whether training has ended."""
    metrics_bytes: int = 0
    """Size of ``metrics.jsonl`` in bytes; a resumed run rewrites everything after it."""


def save_checkpoint(
    path: str | os.PathLike[str],
    state: TrainState,
    *,
    modules: dict[str, Any],
    best_weights: dict[str, Tensor],
    random: dict[str, Tensor],
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: file to write.
        state: progress of training.
        modules: objects with a ``state_dict``, by name.
        best_weights: weights with the best validation value.
        random: states of the random generators.
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
    """Read a checkpoint and load the states of the modules.

    Args:
        path: file to read.
        modules: objects of the same names and shapes as those of :func:`save_checkpoint`.
        device: device of the weights.

    Returns:
        Progress of training, best weights, and states of the random generators.

    Raises:
        RunError: if the file is damaged or was written for other modules.
    """
    path = Path(path)
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        for name, module in modules.items():
            module.load_state_dict(saved["modules"][name])
        return TrainState(**saved["state"]), saved["best_weights"], saved["random"]
    except Exception as error:  # noqa: BLE001 - a damaged file can raise anything
        reason = str(error).strip().split("\n")[0]
        raise RunError(
            f"{path}: cannot resume from this checkpoint ({reason}); "
            "remove the file to train from the start"
        ) from None
