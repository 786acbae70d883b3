"""Other libraries with the same functions, used as documented; each may be missing."""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from types import ModuleType
from unittest.mock import MagicMock

import numpy as np
import torch
from torch import Tensor

from cascaderank.losses import LOSSES
from cascaderank.metrics import auc_metric, kendall_tau_metric, ndcg_metric
from cascaderank.sorting import top_k_probability
from losses import normal_scores
from top_k import Pair, gradient

CANDIDATES = 40
ALLRANK = (
    "ranknet",
    "lambdarank",
    "lambdaloss",
    "approx_ndcg",
    "listnet",
    "listmle",
    "neural_ndcg",
)
"""Losses that allRank has, too."""


def find(name: str) -> ModuleType | None:
    """Return a module, or ``None`` if it is not installed or was built for another torch."""
    try:
        return import_module(name)
    except (ImportError, OSError):
        return None


def allrank_pair(name: str, lists: int, n: int) -> tuple[Pair, bool] | None:
    """Return both implementations of a loss, and whether their values agree."""
    optional = ("torchvision", "torchvision.transforms", "gcsfs", "pkg_resources", "attr")
    absent = [module for module in optional if find(module) is None]
    sys.modules.update(
        (module, MagicMock()) for module in absent
    )  # imported for reading data, which losses do not use
    losses = find("allrank.models.losses")
    for module in absent:
        del sys.modules[module]
    if losses is None:
        return None
    scores, labels = normal_scores(lists, n), torch.randint(0, 5, (lists, n)).float()
    theirs = {
        "ranknet": losses.rankNet,
        "lambdarank": partial(_lambda_loss, losses, "lambdaRank_scheme"),
        "lambdaloss": partial(_lambda_loss, losses, "ndcgLoss2PP_scheme"),
        "approx_ndcg": partial(losses.approxNDCGLoss, alpha=10.0),
        "listnet": losses.listNet,
        "listmle": losses.listMLE,
        "neural_ndcg": partial(losses.neuralNDCG, temperature=float(n)),
    }[name]
    options = {"temperature": float(n)} if name == "neural_ndcg" else {}
    # allRank averages over the pairs of a batch, orders ties at random, and scales up to 50 times.
    same = name not in ("ranknet", "listmle", "neural_ndcg")

    def ours(leaf: Tensor) -> Tensor:
        return LOSSES[name](leaf, labels, **options)

    pair = (
        lambda: gradient(lambda leaf: theirs(leaf, labels), scores),
        lambda: gradient(ours, scores),
    )
    return pair, same


def _lambda_loss(losses: ModuleType, scheme: str, scores: Tensor, labels: Tensor) -> Tensor:
    total = losses.lambdaLoss(scores, labels, weighing_scheme=scheme, reduction_log="natural")
    return total / len(scores)


def diffsort_pair(network: str, lists: int, n: int, k: int) -> Pair | None:
    """Top-k probability of a relaxed network; the peer computes the whole permutation."""
    diffsort = find("diffsort")
    if diffsort is None:
        return None
    scores, above, steepness = torch.randn(lists, n), torch.rand(lists, n), 10.0
    sorting = diffsort.DiffSortNet(network, n, steepness=steepness, distribution="cauchy")

    def theirs(leaf: Tensor) -> Tensor:
        _, places = sorting(-leaf)  # diffsort sorts in ascending order
        return (places[..., :k].sum(-1) * above).sum()

    def ours(leaf: Tensor) -> Tensor:
        kept = top_k_probability(leaf, k, operator=network, temperature=1 / steepness)
        return (kept * above).sum()

    return lambda: gradient(theirs, scores), lambda: gradient(ours, scores)


def torchsort_pair(operator: str, lists: int, n: int, k: int) -> Pair | None:
    """Soft ranks by isotonic regression: other values with the same purpose in training."""
    torchsort = find("torchsort")
    if torchsort is None:
        return None
    scores, above = torch.randn(lists, n), torch.rand(lists, n)

    def theirs(leaf: Tensor) -> Tensor:
        return (torchsort.soft_rank(leaf) * above).sum()

    def ours(leaf: Tensor) -> Tensor:
        temperature = float(n) if operator == "neural_sort" else 1.0
        kept = top_k_probability(leaf, k, operator=operator, temperature=temperature)
        return (kept * above).sum()

    return lambda: gradient(theirs, scores), lambda: gradient(ours, scores)


def metric_pair(metric: str, peer: str, lists: int) -> Pair | None:
    """The mean of a metric over lists, without gradient; inputs of the peer are prepared before."""
    module = find(peer)
    if module is None:
        return None
    graded = metric == "ndcg"
    scores = torch.randn(lists, CANDIDATES)
    labels = torch.randint(0, 5 if graded else 2, scores.shape).float()
    labels[:, 0], labels[:, 1] = 1, 0  # defined everywhere
    theirs = _THEIRS[metric, peer](module, scores, labels)
    ours: Callable[[], Tensor] = {
        "ndcg": lambda: ndcg_metric(scores, labels, gain="linear").mean(),
        "auc": lambda: auc_metric(scores, labels, threshold=1).mean(),
        "kendall": lambda: kendall_tau_metric(scores, labels).mean(),
    }[metric]
    return lambda: torch.tensor(float(theirs())), ours


def _sklearn_ndcg(_: ModuleType, scores: Tensor, labels: Tensor) -> Callable[[], float]:
    from sklearn.metrics import ndcg_score

    return lambda: ndcg_score(labels.numpy(), scores.numpy())


def _sklearn_auc(_: ModuleType, scores: Tensor, labels: Tensor) -> Callable[[], float]:
    from sklearn.metrics import roc_auc_score

    rows = list(zip(labels.numpy(), scores.numpy(), strict=True))
    return lambda: float(np.mean([roc_auc_score(*row) for row in rows]))


def _scipy_kendall(_: ModuleType, scores: Tensor, labels: Tensor) -> Callable[[], float]:
    from scipy.stats import kendalltau

    rows = list(zip(labels.numpy(), scores.numpy(), strict=True))
    return lambda: float(np.mean([kendalltau(*row).statistic for row in rows]))


def _torchmetrics(module: ModuleType, scores: Tensor, labels: Tensor) -> Callable[[], Tensor]:
    metric = module.retrieval.RetrievalNormalizedDCG()
    queries = torch.arange(len(scores))[:, None].expand_as(scores).flatten()

    def mean() -> Tensor:
        metric.reset()
        metric.update(scores.flatten(), labels.long().flatten(), indexes=queries)
        return metric.compute()

    return mean


def _ir_measures(module: ModuleType, scores: Tensor, labels: Tensor) -> Callable[[], float]:
    def by_query(values: list[list[float]]) -> dict[str, dict[str, float]]:
        return {str(q): {str(i): x for i, x in enumerate(row)} for q, row in enumerate(values)}

    qrels, ranked = by_query(labels.int().tolist()), by_query(scores.tolist())
    measure = module.nDCG @ CANDIDATES
    return lambda: module.calc_aggregate([measure], qrels, ranked)[measure]


_THEIRS = {
    ("ndcg", "sklearn"): _sklearn_ndcg,
    ("ndcg", "torchmetrics"): _torchmetrics,
    ("ndcg", "ir_measures"): _ir_measures,
    ("auc", "sklearn"): _sklearn_auc,
    ("kendall", "scipy"): _scipy_kendall,
}
