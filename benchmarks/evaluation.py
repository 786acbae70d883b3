"""Evaluation of a cascade and its intervals, compared with straightforward loops in numpy.

The loops take one request, or one replicate, after another. They have no mask and no rule for ties,
so scores and labels are distinct. Replicates are the same draws on both sides.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from cascaderank.evaluation import Evaluator, bootstrap_intervals
from top_k import Pair

Floats = NDArray[np.float64]

QUOTAS, K, BATCH = (30, 20), 10, 256
VALUES, REPLICATES = 20, 1000


def evaluation_pair(lists: int, n: int) -> Pair:
    """Recall and NDCG of each stage and of the final list, and the joint recall, per request."""
    scores = torch.rand(2, lists, n).argsort(-1).float()
    labels = torch.rand(lists, n).argsort(-1).float()
    names = ["joint_recall", "ndcg_linear"]
    names += [f"{kind}/stage_{t}" for t in (1, 2) for kind in ("recall", "ndcg_linear")]

    def ours() -> torch.Tensor:
        evaluator = Evaluator(quotas=QUOTAS, k=K)
        for first in range(0, lists, BATCH):
            part = slice(first, first + BATCH)
            evaluator.update(scores[:, part], labels[part])
        values = evaluator.per_request()
        return torch.from_numpy(np.stack([values[name] for name in names], axis=1))

    def theirs() -> torch.Tensor:
        rows = zip(scores.double().numpy().transpose(1, 0, 2), labels.double().numpy(), strict=True)
        return torch.tensor([_values(*row) for row in rows], dtype=torch.float64)

    return theirs, ours


def bootstrap_pair(requests: int) -> Pair:
    """Percentile intervals of the means of several values per request."""
    values = np.random.default_rng(1).random((requests, VALUES))
    columns = {str(i): np.ascontiguousarray(column) for i, column in enumerate(values.T)}

    def ours() -> torch.Tensor:
        found = bootstrap_intervals(columns, resamples=REPLICATES).values()
        return torch.tensor([[x.low, x.high] for x in found], dtype=torch.float64)

    def theirs() -> torch.Tensor:
        rng = np.random.default_rng(0)
        drawn = (rng.integers(requests, size=requests) for _ in range(REPLICATES))
        means = np.stack([values[rows].mean(0) for rows in drawn])
        return torch.from_numpy(np.quantile(means, [0.025, 0.975], axis=0).T)

    return theirs, ours


def _values(scores: Floats, labels: Floats) -> list[float]:
    truth = np.argsort(-labels)[:K]
    alive, by_stage = np.arange(len(labels)), list[float]()
    for stage, quota in zip(scores, QUOTAS, strict=True):
        alive = alive[np.argsort(-stage[alive])[:quota]]
        order = np.argsort(-stage)
        by_stage += [np.isin(truth, order[:quota]).mean(), _ndcg(order, labels)]
    return [np.isin(truth, alive).mean(), _ndcg(alive, labels), *by_stage]


def _ndcg(order: NDArray[np.int64], labels: Floats) -> float:
    discounts = 1 / np.log2(np.arange(2, K + 2))
    ideal = np.sort(labels)[::-1][:K] @ discounts
    return float(labels[order[:K]] @ discounts / ideal)
