"""Peak memory of a computation."""

import sys
from pathlib import Path
from typing import final

import torch

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@final
class PeakMemory:
    """Measure the peak memory since construction; only the most recent instance is valid.

    On CUDA, the memory of tensors on the GPU. Otherwise the resident memory of the process,
    including memory-mapped files: on Linux since construction, on other systems, or if the kernel
    does not permit a reset, since the process started.

    Args:
        device: device of the computation.

    Examples:
        >>> memory = PeakMemory(torch.device("cpu"))
        >>> before, block = memory.bytes(), torch.ones(2**24)
        >>> memory.bytes() - before > 2**24
        True
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._was_reset = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif sys.platform == "linux":
            try:
                _CLEAR.write_text("5")  # proc(5): reset the peak to the current value
                self._was_reset = True
            except OSError:  # some containers do not permit it
                pass

    def bytes(self) -> int | None:
        """Return the peak so far in bytes; ``None`` if the system does not report it."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if self._was_reset:
            line = next(s for s in _STATUS.read_text().splitlines() if s.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
        try:
            import resource
        except ImportError:  # Windows
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
