"""Comparisons with other implementations, one function per topic, each yielding table rows."""

from collections.abc import Iterator
from shutil import which
from typing import get_args

import torch

from cuts import Thresholds, cut_pair
from evaluation import bootstrap_pair, evaluation_pair
from loader import loader_pair
from losses import FORMULAS, SIZES, loss_pair, soft_sort_pair
from measuring import Bench, Row, threads
from peers import ALLRANK, allrank_pair, diffsort_pair, metric_pair, torchsort_pair
from step import attention_pair, option_pair, step_pair, table_pair
from top_k import Beside, lcron_pair, log_pair, probability_pair

BESIDE_LCRON: tuple[Beside, ...] = ("formula", "formula in logs", "dense operator")
LENGTHS = ((1024, 40, 10), (64, 200, 10), (8, 1000, 50), (2, 4000, 200))
"""Number of lists, their length, and k."""


def top_k_rows(bench: Bench) -> Iterator[Row]:
    for lists, n, k in LENGTHS[: 3 if bench.quick else 4]:
        b = bench.lists(lists)
        what, size = f"NeuralSort, top {k}", f"{b:,} x {n:,}"
        yield bench.pair(what, size, "formula", probability_pair(b, n, k), memory=True)
        if n == 40 and torch.get_num_threads() > 1:
            with threads(1):
                yield bench.pair(what, size, "formula", probability_pair(b, n, k))
        what = f"  its logs, top {k}"
        yield bench.pair(what, size, "formula in logs", log_pair(b, n, k), memory=True)
    for network, n in (("odd_even", 40), ("bitonic", 64)):
        b = bench.lists(256)
        pair = diffsort_pair(network, b, n, 10)
        yield bench.peer(f"{network}, top 10", f"{b:,} x {n}", "diffsort", pair, memory=True)
    for operator, n, k in (("neural_sort", 40, 10), ("soft_sort", 1000, 50)):
        b = bench.lists(40_960 // n)
        pair = torchsort_pair(operator, b, n, k)
        size = f"{b:,} x {n:,}"
        yield bench.peer(f"{operator}, top {k}", size, "torchsort", pair, same=False)
    b = bench.lists(1024)
    what, size = "LCRON, top 10", f"2 x {b:,} x 40"
    for beside in BESIDE_LCRON:
        pair = lcron_pair(2, b, 40, 10, beside=beside)
        yield bench.pair(what, size, beside, pair, memory=True)
    if torch.get_num_threads() > 1:
        with threads(1):
            for beside in BESIDE_LCRON:
                yield bench.pair(what, size, beside, lcron_pair(2, b, 40, 10, beside=beside))


def loss_rows(bench: Bench) -> Iterator[Row]:
    for name in FORMULAS:
        for lists, n in SIZES[:1] if bench.quick else SIZES:
            b = bench.lists(lists)
            size = f"{b} x {n:,}"
            yield bench.pair(name, size, "formula", loss_pair(name, b, n))
            if name in ALLRANK:
                pair, same = allrank_pair(name, b, n) or (None, True)
                yield bench.peer(name, size, "allRank", pair, same=same)
            if name == "permutation":
                pair = soft_sort_pair(b, n)
                yield bench.pair(f"{name}, soft_sort", size, "formula", pair, memory=True)
    for name in get_args(Thresholds):
        b = bench.lists(1024)
        what, size = f"{name}, top 10", f"2 x {b:,} x 40"
        pair = cut_pair(name, b, 40, beside="bisection")
        yield bench.pair(what, size, "bisection", pair, memory=True)
        pair = cut_pair(name, b, 40, beside="lcron")
        yield bench.pair(what, size, "LCRON", pair, same=False)
        if name == "cut_likelihood":
            pair = cut_pair(name, b, 40, beside="lcron, coupled")
            yield bench.pair(f"{what}, coupled", size, "LCRON", pair, same=False)


def metric_rows(bench: Bench) -> Iterator[Row]:
    for metric, title, peer, lists in (
        ("ndcg", "NDCG", "sklearn", 8000),
        ("ndcg", "NDCG", "ir_measures", 2000),
        ("ndcg", "NDCG", "torchmetrics", 500),
        ("auc", "AUC of each list", "sklearn", 250),
        ("kendall", "Kendall's tau", "scipy", 1000),
    ):
        b = bench.lists(lists // 2 if bench.quick else lists)
        beside = {"sklearn": "scikit-learn", "ir_measures": "ir-measures"}.get(peer, peer)
        yield bench.peer(title, f"{b:,} x 40", beside, metric_pair(metric, peer, b))
    b = bench.lists(512 if bench.quick else 2048)
    yield bench.pair("evaluation of two stages", f"{b:,} x 40", "numpy", evaluation_pair(b, 40))
    b = bench.lists(2000 if bench.quick else 20_000)
    yield bench.pair("intervals of 20 values", f"{b:,}", "numpy", bootstrap_pair(b))


def step_rows(bench: Bench) -> Iterator[Row]:
    b = bench.lists(128 if bench.quick else 256)
    size = f"{b} x 40 x 50"
    pair = attention_pair(b, 40, 50)
    yield bench.pair("DIN's attention", size, "plain torch", pair, memory=True)
    pair = step_pair(b, 40, 50)
    yield bench.pair("step of two stages", size, "plain torch", pair, memory=True)
    pair = option_pair(b, 40, 50, precision="bfloat16")
    yield bench.pair("  in bfloat16", size, "in float32", pair, memory=True)
    if not bench.quick and which("g++"):
        pair = option_pair(b, 40, 50, compile=True)
        yield bench.pair("  compiled", size, "as it is", pair, memory=True)
    rows = 2_000_000 if bench.quick else 10_000_000
    for beside, choice in (("fused AdamW", "adamw"), ("SparseAdam", "sparse_adam")):
        pair = table_pair(rows, 10_000, beside=choice)
        size = f"{rows // 10**6:,} M x 8"
        yield bench.pair("step of embeddings", size, beside, pair)


def loader_rows(bench: Bench) -> Iterator[Row]:
    requests = 2_560 if bench.quick else 5_120
    for ragged in (False, True):
        for beside in ("column by column", "DataLoader", "DataLoader, 2 w."):
            if beside == "DataLoader, 2 w." and (ragged or bench.processor):
                continue  # the clock does not include the time of worker processes
            pair = loader_pair(bench.lists(requests), ragged=ragged, peer=beside)
            what = f"batches, {'ragged' if ragged else 'equal'} lists"
            yield bench.pair(what, f"{bench.lists(requests):,} requests", beside, pair)
