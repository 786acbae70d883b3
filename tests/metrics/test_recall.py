"""Recall@m@k against an oracle too slow to be wrong."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.metrics.recall import recall_metric


def oracle(scores, labels, m, k=None, threshold=None):
    """One list, plain Python."""
    kept = sorted(range(len(labels)), key=lambda i: (-scores[i], i))[:m]
    if k is None:
        worth = [float(y >= threshold) for y in labels]
    else:
        best = sorted(labels, reverse=True)[:k]
        worth = [best.count(y) / labels.count(y) for y in labels]
    return sum(worth[i] for i in kept) / sum(worth) if sum(worth) else math.nan


@st.composite
def lists(draw):
    n = draw(st.integers(1, 40))
    row = st.lists(st.integers(-3, 3), min_size=n, max_size=n)
    by = draw(st.sampled_from([{"k": draw(st.integers(1, 45))}, {"threshold": 2.0}]))
    return draw(row), draw(row), draw(st.integers(1, 45)), by


@settings(deadline=None)
@given(lists())
def test_agrees_with_the_oracle(case):
    scores, labels, m, by = case
    got = recall_metric(torch.tensor(scores).double(), torch.tensor(labels), m=m, **by)
    want = torch.tensor(oracle(scores, labels, m, **by), dtype=torch.float64)
    torch.testing.assert_close(got, want, equal_nan=True)


def test_any_batch_dimensions_are_accepted():
    g = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(2, 3, 5, 30, generator=g), torch.randn(2, 3, 5, 30, generator=g)
    got = recall_metric(scores, labels, m=10, k=5)
    assert got.shape == (2, 3, 5)
    assert torch.equal(got[1, 2], recall_metric(scores[1, 2], labels[1, 2], m=10, k=5))


def test_a_list_shorter_than_k_is_ground_truth_as_a_whole():
    labels = torch.tensor([3.0, 2.0, 1.0])
    assert recall_metric(labels, labels, m=2, k=10) == torch.tensor(2 / 3)


def test_m_and_the_ground_truth_are_required():
    with pytest.raises(TypeError, match="'m'"):
        recall_metric(torch.zeros(3), torch.zeros(3), k=1)
    with pytest.raises(ConfigError, match="got neither"):
        recall_metric(torch.zeros(3), torch.zeros(3), m=1)
