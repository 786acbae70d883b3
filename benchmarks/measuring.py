"""Time in turns, memory at its peak, and the machine it was measured on."""

import ctypes
import gc
import math
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from time import perf_counter, process_time

import torch
from torch import Tensor

from cascaderank.training.memory import PeakMemory
from top_k import Pair

PACKAGES = ("torch", "numpy", "scikit-learn", "diffsort", "torchsort", "torchmetrics")
PEERS = (*PACKAGES, "ir-measures", "allRank")


@dataclass(frozen=True)
class Row:
    """What was measured: this library, and who does the same beside it."""

    what: str
    size: str
    beside: str = ""
    ours: float = math.nan
    """Median milliseconds."""
    other: float = math.nan
    """NaN if the peer is not installed, or there is none."""
    memory: float = math.nan
    """MiB more than before at the peak; NaN if not measured."""
    other_memory: float = math.nan
    threads: int = 1
    dtype: str = "float32"
    turns: int = 0

    @property
    def ratio(self) -> float:
        return self.other / self.ours


@dataclass(frozen=True)
class Bench:
    """How much time measuring may take.

    Args:
        turns: most of a row.
        seconds: after which a row takes no further turn, if it had three.
        scale: share of the lists of every batch that is taken.
        quick: leave out what takes long.
        processor: tell processor time, of all threads, not the time that passes: what else runs
            then matters less.
    """

    turns: int
    seconds: float
    scale: float
    quick: bool
    processor: bool

    @property
    def clock(self) -> Callable[[], float]:
        return process_time if self.processor else perf_counter

    def lists(self, number: int) -> int:
        return max(2, round(number * self.scale))

    def pair(
        self,
        what: str,
        size: str,
        beside: str,
        pair: Pair,
        *,
        memory: bool = False,
        same: bool = True,
    ) -> Row:
        """Measure both in turns, after a check that both say the same."""
        tell(f"{what}, {size}, beside {beside}")
        theirs, ours = (function() for function in pair)  # also the warm-up
        if same:
            atol = 1e-4 * theirs.abs().max().item()
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=atol, check_dtype=False)
        del theirs, ours
        turns = self._turns(pair)
        other, own = (median(column) for column in zip(*turns, strict=True))
        other_memory, own_memory = map(peak, pair) if memory else (math.nan, math.nan)
        return Row(
            what,
            size,
            beside if same else f"{beside} ≠",
            ours=own,
            other=other,
            memory=own_memory,
            other_memory=other_memory,
            threads=torch.get_num_threads(),
            turns=len(turns),
        )

    def alone(
        self, what: str, size: str, ours: Callable[[], Tensor], *, memory: bool = False
    ) -> Row:
        """Measure what has no peer here."""
        tell(f"{what}, {size}")
        ours()
        turns = self._turns((ours,))
        return Row(
            what,
            size,
            ours=median(times[0] for times in turns),
            memory=peak(ours) if memory else math.nan,
            threads=torch.get_num_threads(),
            turns=len(turns),
        )

    def peer(self, what: str, size: str, beside: str, pair: Pair | None, **options: bool) -> Row:
        """Measure beside a peer that may be absent."""
        if pair is None:
            return Row(what, size, beside, threads=torch.get_num_threads())
        return self.pair(what, size, beside, pair, **options)

    def _turns(self, functions: tuple[Callable[[], Tensor], ...]) -> list[list[float]]:
        start, turns = perf_counter(), []
        while len(turns) < self.turns:
            if len(turns) >= min(3, self.turns) and perf_counter() - start > self.seconds:
                break
            turns.append([milliseconds(function, self.clock) for function in functions])
        return turns


def milliseconds(
    function: Callable[[], Tensor], clock: Callable[[], float], least: float = 40.0
) -> float:
    """Return the time of a call, of as many as take so many milliseconds.

    As many before them are not counted: they find caches and pages of memory as another function
    left them.
    """

    def call() -> float:
        calls, start = 0, clock()
        while not calls or 1000 * (clock() - start) < least:
            function()
            calls += 1
        return 1000 * (clock() - start) / calls

    call()
    return call()


def peak(function: Callable[[], Tensor]) -> float:
    """Return how many MiB more the process holds at its peak; NaN where that is not told."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return math.nan
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # what is kept for later use would hide what is used
    memory = PeakMemory(torch.device("cpu"))
    before = memory.bytes()
    function()
    after = memory.bytes()
    return math.nan if before is None or after is None else (after - before) / 2**20


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, object]:
    """Describe what is measured on, before measuring adds to its load."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        "waiting": os.environ.get("OMP_WAIT_POLICY", "as usual").lower(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("cascaderank", *PEERS)},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", cpuinfo.read_text()) if cpuinfo.is_file() else None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
