"""Metrics agree with those of other libraries."""

import ir_measures
import numpy as np
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.metrics import ndcg_score, recall_score, roc_auc_score

from cascaderank.metrics import (
    auc_metric,
    average_precision_metric,
    hit_rate_metric,
    kendall_tau_metric,
    ndcg_metric,
    opa_metric,
    precision_metric,
    recall_metric,
    reciprocal_rank_metric,
)

LISTS, LENGTH = 50, 40


@pytest.fixture
def rankings():
    g = np.random.default_rng(5)
    scores = g.permuted(np.tile(np.arange(LENGTH, dtype=np.float64), (LISTS, 1)), axis=1)
    return scores, g.integers(0, 5, (LISTS, LENGTH))


@pytest.mark.parametrize("k", [None, 1, 10, 100])
@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_ndcg_agrees_with_scikit_learn_with_ties(rankings, k, levels):
    _, labels = rankings
    scores = np.random.default_rng(levels).integers(0, levels, labels.shape).astype(np.float64)
    for gain, gains in [("linear", labels), ("exponential", 2**labels - 1)]:
        got = ndcg_metric(torch.from_numpy(scores), torch.from_numpy(labels), k=k, gain=gain)
        expected = [ndcg_score(y[None], s[None], k=k) for y, s in zip(gains, scores, strict=True)]
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def ir(measure, scores, labels):
    """One value per list, by ir-measures."""
    qrels = [
        ir_measures.Qrel(f"{i:03}", f"d{j}", int(y))
        for i, row in enumerate(labels)
        for j, y in enumerate(row)
    ]
    run = [
        ir_measures.ScoredDoc(f"{i:03}", f"d{j}", float(s))
        for i, row in enumerate(scores)
        for j, s in enumerate(row)
    ]
    found = {m.query_id: m.value for m in ir_measures.iter_calc([measure], qrels, run)}
    return [found[f"{i:03}"] for i in range(len(labels))]


@pytest.mark.parametrize("k", [None, 5, 10])
def test_ndcg_agrees_with_ir_measures(rankings, k):
    scores, labels = rankings
    for gain, gains in [("linear", labels), ("exponential", 2**labels - 1)]:
        measure = ir_measures.nDCG if k is None else ir_measures.nDCG @ k
        got = ndcg_metric(torch.from_numpy(scores), torch.from_numpy(labels), k=k, gain=gain)
        np.testing.assert_allclose(got.numpy(), ir(measure, scores, gains), rtol=1e-6)


@pytest.mark.parametrize("m", [1, 7, 30, 100])
def test_recall_agrees_with_ir_measures(rankings, m):
    scores, labels = rankings
    got = recall_metric(torch.from_numpy(scores), torch.from_numpy(labels), m=m, threshold=3)
    expected = ir(ir_measures.R(rel=3) @ m, scores, labels)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


def test_recall_at_m_of_the_top_k_agrees_with_scikit_learn(rankings):
    scores, labels = rankings
    relevance = labels + np.linspace(
        0, 0.5, LENGTH
    )  # distinct, as scikit-learn does not share ranks between ties
    got = recall_metric(torch.from_numpy(scores), torch.from_numpy(relevance), m=20, k=10)
    expected = [
        recall_score(y >= np.sort(y)[-10], s >= np.sort(s)[-20])
        for y, s in zip(relevance, scores, strict=True)
    ]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("m", [1, 5, 20, 100])
def test_precision_and_hit_rate_agree_with_ir_measures(rankings, m):
    scores, labels = rankings
    ask = (torch.from_numpy(scores), torch.from_numpy(labels))
    for ours, theirs in [
        (precision_metric, ir_measures.P(rel=4)),
        (hit_rate_metric, ir_measures.Success(rel=4)),
    ]:
        got = ours(*ask, m=m, threshold=4)
        np.testing.assert_allclose(got.numpy(), ir(theirs @ m, scores, labels), rtol=1e-6)


@pytest.mark.parametrize("m", [None, 3, 20])
def test_average_precision_and_reciprocal_rank_agree_with_ir_measures(rankings, m):
    scores, labels = rankings
    ask = (torch.from_numpy(scores), torch.from_numpy(labels))
    for ours, theirs in [
        (average_precision_metric, ir_measures.AP(rel=4)),
        (reciprocal_rank_metric, ir_measures.RR(rel=4)),
    ]:
        got = ours(*ask, m=m, threshold=4)
        expected = ir(theirs if m is None else theirs @ m, scores, labels)
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_kendall_tau_agrees_with_scipy_with_ties(rankings, levels):
    _, labels = rankings
    scores = np.random.default_rng(levels).integers(0, levels, labels.shape).astype(np.float64)
    got = kendall_tau_metric(torch.from_numpy(scores), torch.from_numpy(labels))
    expected = [
        kendalltau(s, y, variant="b").statistic for s, y in zip(scores, labels, strict=True)
    ]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("levels", [2, 7, 10**6])
def test_auc_agrees_with_scikit_learn_with_ties(rankings, levels):
    _, labels = rankings
    scores = np.random.default_rng(levels).integers(0, levels, labels.shape).astype(np.float64)
    got = auc_metric(torch.from_numpy(scores), torch.from_numpy(labels), threshold=3)
    expected = [roc_auc_score(y >= 3, s) for y, s in zip(labels, scores, strict=True)]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)
    two_labels = torch.from_numpy(labels >= 3).long()
    torch.testing.assert_close(opa_metric(torch.from_numpy(scores), two_labels), got)
