"""Growth of time with lists, batches, vocabularies and stages, compared with the claimed power."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from cascaderank.cascade import Cascade, build_stage
from cascaderank.objectives import build_objective
from cascaderank.schema import FittedSchema
from cascaderank.sorting import top_k_probability
from loader import epoch_of
from measuring import Bench, Row
from step import FEATURES, GROUND_TRUTH, random_batch, stepping, table_pair
from top_k import gradient, lcron_pair


@dataclass(frozen=True)
class Point:
    """Measured time at one size."""

    size: int
    each: float
    """Milliseconds per list, batch or step."""
    row: Row


@dataclass(frozen=True)
class Series:
    """One measurement at several sizes."""

    what: str
    grows_with: str
    claim: str
    one: str
    """Unit of the time, such as list or batch."""
    points: tuple[Point, ...]

    @property
    def exponent(self) -> float:
        """Least-squares slope of the logarithm of time over the logarithm of size."""
        x = [math.log(point.size) for point in self.points]
        y = [math.log(point.each) for point in self.points]
        mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
        across = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
        return across / sum((a - mean_x) ** 2 for a in x)


def growth_series(bench: Bench) -> Iterator[Series]:
    neural = (40, 400, 4_000) if bench.quick else (40, 400, 4_000, 40_000, 100_000)
    yield _top_k(bench, "neural_sort", neural)
    others = (100, 10_000) if bench.quick else (100, 10_000, 1_000_000)
    for operator in ("soft_sort", "threshold", "lap_sum", "sigmoid"):
        yield _top_k(bench, operator, others)
    yield _batch(bench)
    yield _vocabulary(bench)
    yield _stages(bench)
    yield _loader(bench)


def _top_k(bench: Bench, operator: str, lengths: tuple[int, ...]) -> Series:
    """Every size has the same total number of candidates, that of the longest list."""
    points = []
    for n in lengths:
        lists = max(1, round(bench.scale * lengths[-1] / n))
        kept = _kept(operator, torch.randn(lists, n), k=max(1, n // 100))
        row = bench.alone(f"{operator}, top 1 %", f"{lists:,} x {n:,}", kept, memory=True)
        points.append(Point(n, row.ours / lists, row))
    what = f"top_k_probability, {operator}"
    return Series(what, "candidates of a list", "1 (and log n)", "list", tuple(points))


def _kept(operator: str, scores: Tensor, *, k: int) -> Callable[[], Tensor]:
    above = torch.rand(scores.shape)
    temperature = float(scores.shape[-1]) if operator == "neural_sort" else 1.0

    def ours(leaf: Tensor) -> Tensor:
        kept = top_k_probability(leaf, k, operator=operator, temperature=temperature)
        return (kept * above).sum()

    return lambda: gradient(ours, scores)


def _batch(bench: Bench) -> Series:
    points = []
    for lists in (64, 1_024, 4_096) if bench.quick else (64, 1_024, 16_384):
        b = bench.lists(lists)
        _, ours = lcron_pair(2, b, 40, 10)
        row = bench.alone("LCRON objective", f"2 x {b:,} x 40", ours, memory=True)
        points.append(Point(b, row.ours, row))
    return Series(
        "LCRON, 2 stages, lists of 40", "lists of a batch", "at most 1", "batch", tuple(points)
    )


def _vocabulary(bench: Bench) -> Series:
    """A lazy optimizer; the comparison is fused AdamW, whose time grows with the vocabulary."""
    points = []
    for rows in (10**4, 10**5, 10**6) if bench.quick else (10**4, 10**5, 10**6, 10**7):
        pair = table_pair(rows, 10_000, ours="row_wise_adagrad")
        row = bench.pair("step of embeddings", f"{rows:,} x 8", "fused AdamW", pair)
        points.append(Point(rows, row.ours, row))
    what = "step of embeddings, 10,000 lookups, lazy"
    return Series(what, "rows of the table", "0", "step", tuple(points))


def _stages(bench: Bench) -> Series:
    requests = bench.lists(64)
    points = []
    for number in (1, 2) if bench.quick else (1, 2, 3, 4):
        schema = FittedSchema(features=FEATURES)
        stages = {f"din_{i}": build_stage("din", schema) for i in range(number)}
        cascade = Cascade(stages, quotas=(20,) * number)
        step = _training_step(cascade, requests)
        row = bench.alone("training step", f"{number} x DIN, {requests} x 40 x 50", step)
        points.append(Point(number, row.ours, row))
    what = f"training step, DIN at every stage, {requests} x 40 x 50"
    return Series(what, "stages", "1", "step", tuple(points))


def _training_step(cascade: Cascade, requests: int) -> Callable[[], Tensor]:
    objective = build_objective(
        "lcron", stages=cascade.stage_names, quotas=cascade.quotas, ground_truth=GROUND_TRUTH
    )
    return stepping(
        cascade,
        lambda batch: objective(cascade(batch), batch.labels, mask=batch.mask).total,
        [random_batch(requests, 40, 50, seed=0)],
    )


def _loader(bench: Bench) -> Series:
    """Histories have the same cost for any list, so short lists cost more per candidate."""
    points = []
    for candidates in (40, 160) if bench.quick else (40, 160, 640, 2_560):
        requests = bench.lists(1_024)
        row = bench.alone(
            "an epoch of batches", f"{requests:,} x {candidates:,}", epoch_of(requests, candidates)
        )
        points.append(Point(candidates, row.ours / requests, row))
    what = "loader, 8 features, history 50 x 5"
    return Series(what, "candidates of a request", "at most 1", "request", tuple(points))
