"""How much memory work takes at its highest."""

import sys
from pathlib import Path
from typing import final

import torch

_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@final
class PeakMemory:
    """Measures from when it is made; there is one at a time, since another one starts anew.

    On CUDA, what tensors take on the GPU. Otherwise what the process holds resident, files that
    are mapped included: on Linux from when this is made, elsewhere since the process began.

    Args:
        device: where the work is done.

    Examples:
        >>> memory = PeakMemory(torch.device("cpu"))
        >>> before, block = memory.bytes(), torch.ones(2**24)
        >>> memory.bytes() - before > 2**24
        True
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marked = False
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif sys.platform == "linux":
            try:
                _CLEAR.write_text("5")  # of proc(5): the peak is now what is held now
                self._marked = True
            except OSError:  # not everywhere allowed
                pass

    def bytes(self) -> int | None:
        """Return the most so far; ``None`` where the system does not tell."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        if self._marked:
            line = next(s for s in _STATUS.read_text().splitlines() if s.startswith("VmHWM:"))
            return int(line.split()[1]) * 1024
        try:
            import resource
        except ImportError:  # Windows
            return None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
