"""Software, machine and git commit of a run, recorded for reproduction."""

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

_PACKAGES = ("cascaderank", "torch", "numpy", "polars", "pyarrow", "pydantic", "safetensors")


def environment(*, seed: int, device: torch.device) -> dict[str, object]:
    """Return a description of the software, the machine and the git checkout of a run.

    Args:
        seed: seed of the run.
        device: device of the training.

    Returns:
        JSON values by name: start time (UTC), seed, device, number of threads, versions, platform,
        and ``git``, which is ``None`` if the working directory is in no git checkout.
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
    """Return the commit of the working directory, and whether it has uncommitted changes."""

    def git(*arguments: str) -> str:
        return subprocess.run(  # noqa: S603 - fixed arguments
            ["git", *arguments],  # noqa: S607 - the git on the PATH
            cwd=Path.cwd(),
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None
