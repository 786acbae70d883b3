"""Measurement of time and peak memory, and description of the machine."""

import ctypes
import gc
import math
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Sequence
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
    """Measurements of this library and of the implementation that it is compared with."""

    what: str
    size: str
    beside: str = ""
    ours: float = math.nan
    """Median milliseconds."""
    other: float = math.nan
    """Median milliseconds of the peer; NaN without one, or if it is not installed."""
    memory: float = math.nan
    """Increase of the peak memory in MiB; NaN if not measured."""
    other_memory: float = math.nan
    threads: int = 1
    dtype: str = "float32"
    turns: int = 0

    @property
    def ratio(self) -> float:
        return self.other / self.ours


@dataclass(frozen=True)
class Bench:
    """Settings of the measurements.

    Args:
        turns: maximum number of turns of a row.
        seconds: time after which a row takes no further turn, if it has had three.
        scale: fraction of the lists of every batch, positive.
        quick: whether to omit long measurements.
        processor: whether to measure processor time of all threads instead of wall-clock time,
            which depends less on other processes.
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
        """Measure both functions alternately, after a check that their results agree."""
        log_progress(f"{what}, {size}, beside {beside}")
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
        """Measure a function without a peer."""
        log_progress(f"{what}, {size}")
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
        """Measure in comparison with a peer; without it, the row has no measurements."""
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
    """Return the mean time of a call over as many calls as take ``least`` milliseconds.

    An equal time of calls before them is not counted, as they start with the caches and memory
    pages of another function.
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
    """Return the increase of the peak memory of the process in MiB; NaN if not available."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        return math.nan
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # free memory held by the allocator would hide new allocations
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


def log_progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def machine(packages: Sequence[str] = PEERS) -> dict[str, object]:
    """Describe the machine; called before the measurements add to its load."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "threads": torch.get_num_threads(),
        "waiting": os.environ.get("OMP_WAIT_POLICY", "default").lower(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in ("cascaderank", *packages)},
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
