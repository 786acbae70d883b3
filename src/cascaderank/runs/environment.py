"""What a run was made with, so that it can be made again."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

_PACKAGES = ("cascaderank", "torch", "numpy", "polars", "pyarrow", "pydantic", "safetensors")


def environment(*, seed: int, device: torch.device) -> dict[str, object]:
    """Describe the software, the machine and the checkout a run is made with.

    Args:
        seed: of the run.
        device: where it trains.

    Returns:
        Values that JSON can hold. ``git`` is ``None`` outside a checkout.
    """
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "device": str(device)
        if device.type == "cpu"
        else torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else device.type,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version(name) for name in _PACKAGES},
        "git": _git(),
    }


def _git() -> dict[str, object] | None:
    """Commit of the checkout that the command was given in, and whether it has changes."""

    def ask(*words: str) -> str:
        return subprocess.run(  # noqa: S603 - fixed words
            ["git", *words],  # noqa: S607 - whichever git is there
            cwd=Path.cwd(),
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {"commit": ask("rev-parse", "HEAD"), "changed": bool(ask("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
