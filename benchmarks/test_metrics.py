"""Metrics and evaluation of 8,000 requests of 40 candidates, beside plain NumPy.

python -m pytest benchmarks/test_metrics.py -m bench
"""

import numpy as np
import pytest
import torch

from cascaderank.evaluation import Evaluator, bootstrap_intervals
from cascaderank.metrics.cascade_recall import cascade_recall_metric
from cascaderank.metrics.ndcg import ndcg_metric
from cascaderank.metrics.recall import recall_metric

pytestmark = pytest.mark.bench

QUOTAS = (30, 20)


@pytest.fixture(scope="module")
def requests():
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(2, 8000, 40, generator=g)
    return scores, torch.randint(0, 5, (8000, 40), generator=g).float()


def numpy_ndcg(scores, labels):
    """No ties, no mask: the least that any NDCG does."""
    order = np.argsort(-scores, axis=1, kind="stable")
    discounts, gains = 1 / np.log2(np.arange(2, scores.shape[1] + 2)), 2**labels - 1
    actual = np.take_along_axis(gains, order, 1) * discounts
    return actual.sum(1) / (-np.sort(-gains, 1) * discounts).sum(1)


def test_ndcg_by_numpy(benchmark, requests):
    scores, labels = requests
    benchmark(numpy_ndcg, scores[0].double().numpy(), labels.double().numpy())


def test_ndcg(benchmark, requests):
    scores, labels = requests
    got = benchmark(ndcg_metric, scores[0], labels)
    want = numpy_ndcg(scores[0].double().numpy(), labels.double().numpy())
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)


def test_recall(benchmark, requests):
    scores, labels = requests
    benchmark(recall_metric, scores[0], labels, m=20, k=10)


def test_cascade_recall(benchmark, requests):
    scores, labels = requests
    benchmark(cascade_recall_metric, scores, labels, quotas=QUOTAS, k=10)


def test_evaluator(benchmark, requests):
    scores, labels = requests

    def run():
        evaluator = Evaluator(quotas=QUOTAS, ground_truth=10)
        for i in range(0, 8000, 1000):
            evaluator.update(scores[:, i : i + 1000], labels[i : i + 1000])
        return evaluator.per_request()

    benchmark(run)


def test_intervals_of_twenty_columns(benchmark):
    columns = dict(enumerate(np.random.default_rng(0).random((20, 8000))))
    benchmark(bootstrap_intervals, columns)
