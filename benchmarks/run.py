"""Measure, and print how many times faster this library is than its peers: `make bench`.

Each pair is run in turns, so that what else the machine does slows both; times are medians. That
both give the same numbers is checked first.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: as the command line does

import platform
from collections.abc import Callable
from statistics import median
from time import perf_counter

import sklearn
import torch
from sklearn.metrics import ndcg_score
from torch import Tensor

from cascaderank.metrics import ndcg_metric
from loader import loader_pair
from long_lists import alone
from losses import FORMULAS, SIZES, loss_pair
from step import attention_pair, step_pair, table_pair
from top_k import Pair, lcron_pair, log_pair, probability_pair

RUNS = 7

LONG_LISTS = [
    ("neural_sort", 20_000),
    *(
        (name, 1_000_000)
        for name in ("neural_sort", "soft_sort", "threshold", "sigmoid", "lap_sum")
    ),
]


def ndcg_pair(lists: int, n: int) -> Pair:
    scores, labels = torch.randn(lists, n), torch.randint(0, 5, (lists, n)).float()

    def scikit_learn() -> Tensor:
        return torch.tensor(float(ndcg_score(labels.numpy(), scores.numpy())))

    def ours() -> Tensor:
        return ndcg_metric(scores, labels, gain="linear").mean()

    return scikit_learn, ours


def seconds(function: Callable[[], Tensor]) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


def measure(what: str, peer: str, pair: Pair) -> None:
    theirs, ours = (function() for function in pair)  # also the warm-up
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * theirs.abs().max().item())
    times = [[seconds(function) for function in pair] for _ in range(RUNS)]
    their, our = (1000 * median(column) for column in zip(*times, strict=True))
    print(f"{what:<36}{peer:<20}{their:>10.1f}{our:>10.1f}{their / our:>9.1f}x")


def main() -> None:
    torch.manual_seed(0)
    print(
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"scikit-learn {sklearn.__version__}, {torch.get_num_threads()} threads;\n"
        f"float32, forward and backward, milliseconds, medians of {RUNS} runs in turns\n"
    )
    print(f"{'':<36}{'peer':<20}{'peer':>10}{'ours':>10}{'ratio':>10}")
    for lists, n, k in ((1024, 40, 10), (64, 200, 10), (8, 1000, 50), (2, 4000, 200)):
        what = f"NeuralSort top {k}, {lists:,} x {n:,}"
        measure(what, "formula", probability_pair(lists, n, k))
        measure("  both logarithms", "formula in logs", log_pair(lists, n, k))
    for peer, in_logs in (("formula", False), ("formula in logs", True)):
        pair = lcron_pair(2, 1024, 40, 10, in_logs=in_logs)
        measure("LCRON top 10, 2 stages, 1,024 x 40", peer, pair)
    for name in FORMULAS:
        for lists, n in SIZES:
            measure(f"{name}, {lists} x {n:,}", "formula", loss_pair(name, lists, n))
    measure("NDCG (forward), 8,000 x 40", "scikit-learn", ndcg_pair(8000, 40))
    measure("DIN's attention, 256 x 40 x 50", "plain torch", attention_pair(256, 40, 50))
    measure("training step, 256 x 40, history 50", "plain torch", step_pair(256, 40, 50))
    measure("step of a table of 10,000,000 x 8", "fused AdamW", table_pair(10_000_000, 10_000))
    for peer in ("torch's DataLoader", "column by column"):
        for ragged in (False, True):
            what = f"5,120 requests in batches, {'ragged' if ragged else 'equal'}"
            measure(what, peer, loader_pair(5_120, ragged=ragged, peer=peer))
    print(f"\n{'one list':<56}{'ours':>10}{'memory':>14}")
    for operator, n in LONG_LISTS:
        temperature = float(n) if operator == "neural_sort" else 1.0
        took, more = alone(operator, n, n // 100, temperature)
        what = f"{operator} top {n // 100:,} of {n:,}"
        print(f"{what:<56}{1000 * took:>10.1f}{more:>10.0f} MiB")


if __name__ == "__main__":
    main()
