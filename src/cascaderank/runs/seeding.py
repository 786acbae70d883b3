"""Where chance comes from, so that equal seeds give equal bits."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cascaderank.errors import ConfigError


@contextmanager
def deterministic(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch and ask for deterministic kernels; restore both when done.

    Equal seeds give equal bits on one machine with one number of threads. On CUDA, cuBLAS wants
    ``CUBLAS_WORKSPACE_CONFIG=:4096:8`` in the environment for the same promise; without it the
    kernels stay as fast as they are and as seeded as they can be.

    Args:
        seed: of the global generators of torch.
        device: where the work is done.
    """
    before = torch.are_deterministic_algorithms_enabled()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(device.type == "cpu" or before)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of the global generators, for :func:`set_random_state`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Continue where :func:`random_state` left off."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def pick_device(name: str) -> torch.device:
    """Return the device of a setting; ``"auto"`` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: if the device is not there.

    Examples:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, available in there.items() if available))
    if name not in there or not there[name]:
        raise ConfigError(
            f"device '{name}' is not available here; "
            f"there are auto, {', '.join(k for k, available in there.items() if available)}"
        )
    return torch.device(name)
