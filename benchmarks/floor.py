"""Lower bounds of the time of a computation: memory traffic and arithmetic that it cannot avoid.

The rates of the machine are measured in the same run, each by a single torch operation. The floor
of a row is the larger of the time to move its bytes and the time of its operations.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from cascaderank.sorting.order import sort_best_first
from loader import BATCH, CANDIDATES, ENTRIES, HISTORY_FEATURES, ITEM_FEATURES, loader_pair
from measuring import Bench, log_progress, milliseconds
from peers import metric_pair
from step import attention_pair, table_pair
from top_k import lcron_pair, probability_pair

STRETCHES, ROWS = 4, 10
"""Stretches, and rows of each, of lists of 40 at these temperatures (decision 5); one is kept."""

FLOAT, LONG = 4, 8


@dataclass(frozen=True)
class Rates:
    """Throughput of the machine, per millisecond."""

    copied: float
    """Bytes read and written, in blocks larger than all caches."""
    exponentials: float
    sorted: float
    """Candidates sorted, in lists of 40."""
    multiply_adds: float
    """Multiply-adds of a product of 1,024 x 1,024 matrices."""


@dataclass(frozen=True)
class Floor:
    """Minimum work of a computation, and its measured time in milliseconds."""

    what: str
    size: str
    ours: float
    bytes: float = 0.0
    exponentials: float = 0.0
    sorted: float = 0.0
    multiply_adds: float = 0.0

    def moving(self, rates: Rates) -> float:
        return self.bytes / rates.copied

    def computing(self, rates: Rates) -> float:
        return (
            self.exponentials / rates.exponentials
            + self.sorted / rates.sorted
            + self.multiply_adds / rates.multiply_adds
        )

    def milliseconds(self, rates: Rates) -> float:
        return max(self.moving(rates), self.computing(rates))


def measured_rates(bench: Bench) -> Rates:
    log_progress("rates of this machine")
    turns = range(max(5, bench.turns))
    block = torch.ones(2**24 if bench.quick else 2**26)
    target, few, lists = torch.empty_like(block), torch.rand(2**16), torch.randn(1024, 40)
    matrix, product, into = torch.randn(1024, 1024), torch.empty(1024, 1024), torch.empty(2**16)

    def rate(units: float, function: Callable[[], Tensor]) -> float:
        function()
        return units / median(milliseconds(function, bench.clock) for _ in turns)

    return Rates(
        copied=rate(2 * FLOAT * block.numel(), lambda: target.copy_(block)),
        exponentials=rate(few.numel(), lambda: torch.exp2(few, out=into)),
        sorted=rate(lists.numel(), lambda: sort_best_first(lists)[0]),
        multiply_adds=rate(1024**3, lambda: torch.mm(matrix, matrix, out=product)),
    )


def floors(bench: Bench) -> Iterator[Floor]:
    b = bench.lists(1024)
    scores = b * 40
    what, size = "NeuralSort, top 10", f"{b:,} x 40"
    # Scores and the upstream gradient are read; probabilities and the gradient of scores written.
    yield Floor(
        what,
        size,
        bench.alone(what, size, probability_pair(b, 40, 10)[1]).ours,
        bytes=4 * FLOAT * scores,
        exponentials=(STRETCHES + ROWS) * scores,
        sorted=scores,
        multiply_adds=ROWS * (2 * STRETCHES + 4) * scores,  # backward through the kept rows only
    )
    what, size = "LCRON objective, 2 stages", f"2 x {b:,} x 40"
    # Scores and labels are read; the gradient is written. Labels are sorted once.
    yield Floor(
        what,
        size,
        bench.alone(what, size, lcron_pair(2, b, 40, 10)[1]).ours,
        bytes=(2 + 1 + 2) * FLOAT * scores,
        exponentials=2 * (STRETCHES + ROWS) * scores,
        sorted=3 * scores,
        multiply_adds=2 * ROWS * (2 + 4) * STRETCHES * scores,
    )
    lists = bench.lists(8000)
    pair = metric_pair("ndcg", "sklearn", lists)
    if pair is not None:
        what, size = "NDCG (no gradient)", f"{lists:,} x 40"
        ours = bench.alone(what, size, pair[1]).ours
        yield Floor(what, size, ours, bytes=2 * FLOAT * lists * 40, sorted=2 * lists * 40)
    yield _attention(bench)
    what, size = "step of embeddings, lazy", "1 M x 8"
    ours = bench.alone(what, size, table_pair(10**6, 10_000, ours="auto")[1]).ours
    # Rows are read by the lookup, read and written by the update; gradients are written and read.
    moved = 10_000 * (5 * 8 * FLOAT + 2 * FLOAT + LONG)
    yield Floor(what, size, ours, bytes=moved, sorted=10_000)
    yield _loader(bench)


def _attention(bench: Bench) -> Floor:
    b, n, length, entry, item, units = bench.lists(256), 40, 50, 40, 64, 80
    what, size = "DIN's attention", f"{b} x {n} x {length}"
    halves = b * units * (n * item + length * entry)
    pairs = (
        b * n * length * units
    )  # per unit of a pair: one addition and one product with its weight
    pooled = b * n * length * entry
    leaves = b * (n * item + length * entry + n * entry)
    return Floor(
        what,
        size,
        bench.alone(what, size, attention_pair(b, n, length)[1]).ours,
        bytes=2 * FLOAT * leaves,
        multiply_adds=3 * (halves + pooled + pairs),  # once forward, twice backward
    )


def _loader(bench: Bench) -> Floor:
    requests = bench.lists(5_120)
    what, size = "batches, equal lists", f"{requests:,} in {BATCH}s"
    _, ours = loader_pair(requests, ragged=False, peer="column by column")
    of_items, of_history = CANDIDATES * ITEM_FEATURES, ENTRIES * HISTORY_FEATURES
    floats = CANDIDATES * (1 + ITEM_FEATURES // 4) + ENTRIES * (HISTORY_FEATURES // 4)
    codes = of_items + of_history + CANDIDATES - floats
    moved = floats * 2 * FLOAT + codes * (FLOAT + LONG)  # codes are stored as int32
    return Floor(what, size, bench.alone(what, size, ours).ours, bytes=requests * moved)
