"""Devices, seeds and deterministic kernels: equal seeds give bitwise equal results."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cascaderank.errors import ConfigError


@contextmanager
def deterministic(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch and, on the CPU, use deterministic kernels.

    The states of the generators and the choice of kernels are restored at exit. On the CPU, equal
    seeds give bitwise equal results on the same machine with the same number of threads. On other
    devices, all generators are seeded and kernels are not changed; results on CUDA can differ in
    the last bits, unless deterministic algorithms are enabled before
    (``torch.use_deterministic_algorithms(True)``) with ``CUBLAS_WORKSPACE_CONFIG=:4096:8`` in the
    environment.

    Args:
        seed: seed of the global generators.
        device: device of the computation.
    """
    before = torch.get_deterministic_debug_mode()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        # Unlike torch.use_deterministic_algorithms, this does not import the compiler (2 s).
        torch.set_deterministic_debug_mode("error" if device.type == "cpu" else before)
        try:
            yield
        finally:
            torch.set_deterministic_debug_mode(before)


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the states of the global generators by kind of device."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Restore the states that :func:`random_state` returned."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def pick_device(name: str) -> torch.device:
    """Return the device of a setting.

    Args:
        name: ``"cpu"``, ``"cuda"`` or ``"mps"``; ``"auto"`` for the first available of CUDA, MPS
            and CPU.

    Raises:
        ConfigError: if the device is not available.

    Examples:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, exists in available.items() if exists))
    if not available.get(name, False):
        raise ConfigError(
            f"train.device: device '{name}' is not available here; "
            f"use auto, {', '.join(kind for kind, exists in available.items() if exists)}"
        )
    return torch.device(name)
