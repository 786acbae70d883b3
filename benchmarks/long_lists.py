"""One very long list: time, and how much more memory the process took at its peak."""

import re
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from cascaderank.sorting import top_k_probability


def alone(operator: str, n: int, k: int, temperature: float) -> tuple[float, float]:
    """Return the median seconds of the top k and its gradient, and MiB, in a process of its own."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_alone, (operator, n, k, temperature))


def _alone(operator: str, n: int, k: int, temperature: float) -> tuple[float, float]:
    def learn(scores: torch.Tensor) -> float:
        start = perf_counter()
        leaf, above = scores.requires_grad_(), torch.linspace(0, 1, len(scores))
        kept = top_k_probability(leaf, k, operator=operator, temperature=temperature)
        (kept * above).sum().backward()
        return perf_counter() - start

    learn(torch.randn(100 + k))  # what is loaded late is no part of it
    before = _peak()
    seconds = median(learn(torch.randn(n)) for _ in range(3))
    return seconds, _peak() - before


def _peak() -> float:
    """Return the largest memory of this process so far, in MiB; NaN where it is not told."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text()) if status.is_file() else None
    return int(found[1]) / 1024 if found else float("nan")
