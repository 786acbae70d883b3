"""Checkpoints: all state that an interrupted run needs to resume with the same bits.

A file is a line with the SHA-256 of everything after it, and what :func:`torch.save` writes.
"""

import hashlib
import io
import os
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, final

import torch
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor

from cascaderank.errors import RunError
from cascaderank.regular_files import read_file
from cascaderank.runs.folder import write_atomically

_HEADER = b"cascaderank checkpoint, sha256 "

_Count = Annotated[int, Field(ge=0)]


@final
@dataclass(kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class TrainState:
    """Progress of training, without weights and optimizer."""

    epoch: _Count = 0
    """Current epoch, from 0; at the end of training, the number of epochs."""
    batch: _Count = 0
    """Completed batches of the current epoch."""
    step: _Count = 0
    """Completed batches of all epochs."""
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the loss and of its terms over the batches of the current epoch, by name."""
    counts: dict[str, _Count] = field(default_factory=dict)
    """Number of batches of the current epoch in which the loss and each term were active."""
    best: float = -1.0
    """Best validation value of the current phase; -1 if there is none."""
    best_epoch: Annotated[int, Field(ge=-1)] = -1
    """Epoch of the best validation value."""
    stopped: bool = False
    """Whether training has ended."""
    metrics_bytes: _Count = 0
    """Size of ``metrics.jsonl`` in bytes; a resumed run rewrites everything after it."""
    metrics_sha256: str = ""
    """SHA-256 of these bytes; empty before the first epoch, and in version 0.3 and earlier."""


def save_checkpoint(
    path: str | os.PathLike[str],
    state: TrainState,
    *,
    modules: dict[str, Any],
    best_weights: dict[str, Tensor],
    random: dict[str, Tensor],
    keep: str | os.PathLike[str] | None = None,
) -> None:
    """Write a checkpoint atomically.

    Args:
        path: file to write.
        state: progress of training.
        modules: objects with a ``state_dict``, by name.
        best_weights: weights with the best validation value.
        random: states of the random generators.
        keep: new path of the checkpoint that is replaced; by default it is removed.

    Raises:
        RunError: if the file cannot be written.
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
    payload = buffer.getbuffer()
    header = _HEADER + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    write_atomically(path, header, payload, keep=keep)


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
        content = io.BytesIO(_payload(read_file(path)))
        saved = torch.load(content, map_location=device, weights_only=True)
        state, best, random = TrainState(**saved["state"]), saved["best_weights"], saved["random"]
        _check_tensors("random", random, {"cpu": torch.get_rng_state()})
        if "cascade" in modules:
            _check_tensors("best_weights", best, modules["cascade"].state_dict())
            if set(best) != set(modules["cascade"].state_dict()):
                raise ValueError("best_weights: expected the parameters of the cascade only")
        for name, module in modules.items():
            module.load_state_dict(saved["modules"][name])
        return state, best, random
    except Exception as error:  # noqa: BLE001 - a damaged file can raise anything
        reason = str(error).strip().split("\n")[0]
        if isinstance(error, ValidationError):
            mistake = error.errors()[0]
            reason = f"state.{'.'.join(map(str, mistake['loc']))}: {mistake['msg']}"
        raise RunError(
            f"{path}: cannot resume from this checkpoint ({reason}); "
            "remove the file to train from the start"
        ) from None


def _payload(content: bytes) -> bytes:
    """Return the content after the checksum; all of it in files of version 0.3 and earlier."""
    if not content.startswith(_HEADER):
        return content
    header, _, payload = content.partition(b"\n")
    expected = header.removeprefix(_HEADER).decode("ascii")
    found = hashlib.sha256(payload).hexdigest()
    if found != expected:
        raise ValueError(f"checksum does not match: expected sha256 {expected}, found {found}")
    return payload


def _check_tensors(what: str, found: object, expected: Mapping[str, Tensor]) -> None:
    """Check that ``found`` has tensors of the shapes and types of the expected ones."""
    if not isinstance(found, dict):
        raise TypeError(f"{what}: expected tensors by name, found {type(found).__name__}")
    for name, tensor in expected.items():
        own = found.get(name)
        if not isinstance(own, Tensor):
            raise TypeError(f"{what}: expected a tensor '{name}', found {type(own).__name__}")
        # The extra state of a module, such as the text of trees, has no fixed length.
        shape = own.shape if name.endswith("_extra_state") else tensor.shape
        if (own.shape, own.dtype) != (shape, tensor.dtype):
            raise ValueError(
                f"{what}: expected '{name}' of shape {list(tensor.shape)} and {tensor.dtype}, "
                f"found {list(own.shape)} and {own.dtype}"
            )
