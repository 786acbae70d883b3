"""NDCG against an oracle too slow to be wrong: the mean over all ways to break ties."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.errors import ConfigError
from cascaderank.metrics.ndcg import ndcg_metric

GAINS = {"exponential": lambda y: 2**y - 1, "linear": lambda y: y}


def dcg(labels, gain, k):
    """DCG of labels in the order of their ranks."""
    return sum(GAINS[gain](y) / math.log2(1 + r) for r, y in enumerate(labels[:k], start=1))


def by_permutation(scores, labels, gain, k):
    """Mean over all orders consistent with the scores; for a few candidates only."""
    allowed = [
        dcg([labels[i] for i in order], gain, k)
        for order in itertools.permutations(range(len(labels)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    ideal = dcg(sorted(labels, reverse=True), gain, k)
    return sum(allowed) / len(allowed) / ideal if ideal else math.nan


def by_groups(scores, labels, gain, k):
    """The same for long lists: every rank of a tied group has the mean gain of the group."""
    ranked = []
    for value in sorted(set(scores), reverse=True):
        group = [GAINS[gain](y) for s, y in zip(scores, labels, strict=True) if s == value]
        ranked += [sum(group) / len(group)] * len(group)
    actual = sum(g / math.log2(1 + r) for r, g in enumerate(ranked[:k], start=1))
    ideal = dcg(sorted(labels, reverse=True), gain, k)
    return actual / ideal if ideal else math.nan


@st.composite
def lists(draw, longest=40):
    n = draw(st.integers(1, longest))
    scores = draw(st.lists(st.integers(-3, 3), min_size=n, max_size=n))
    labels = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    cutoff = draw(st.none() | st.integers(1, longest + 5))
    return scores, labels, draw(st.sampled_from(list(GAINS))), cutoff


def check(oracle, case):
    scores, labels, gain, k = case
    got = ndcg_metric(torch.tensor(scores).double(), torch.tensor(labels), k=k, gain=gain)
    want = torch.tensor(oracle(scores, labels, gain, k), dtype=torch.float64)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12, equal_nan=True)


@settings(deadline=None)
@given(lists(longest=6))
def test_agrees_with_the_mean_over_all_orders(case):
    check(by_permutation, case)


@settings(deadline=None)
@given(lists())
def test_agrees_with_the_oracle_on_long_lists(case):
    check(by_groups, case)


@settings(deadline=None)
@given(lists(), st.randoms(use_true_random=False))
def test_ties_are_independent_of_the_order_of_the_list(case, random):
    scores, labels, gain, k = case
    order = list(range(len(scores)))
    random.shuffle(order)
    scores, labels = torch.tensor(scores).double(), torch.tensor(labels)
    a = ndcg_metric(scores, labels, k=k, gain=gain)
    b = ndcg_metric(scores[order], labels[order], k=k, gain=gain)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("gain", list(GAINS))
def test_the_ideal_order_is_exactly_one(gain):
    labels = torch.randint(0, 9, (200, 50), generator=torch.Generator().manual_seed(0))
    for scores in (labels.double(), labels + torch.linspace(0.5, 0, 50)):
        assert (ndcg_metric(scores, labels, gain=gain) <= 1).all()
        torch.testing.assert_close(
            ndcg_metric(scores, labels, gain=gain), torch.ones(200, dtype=scores.dtype)
        )
    assert (ndcg_metric(labels + torch.linspace(0.5, 0, 50), labels, gain=gain) == 1).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_labels_do_not_overflow(dtype):
    labels = torch.tensor([5000.0, 4999.0, 0.0], dtype=dtype)
    scores = torch.tensor([2.0, 3.0, 1.0], dtype=dtype)
    # 2^5000 overflows, but only ratios to it matter.
    want = (1 / 2 + 1 / math.log2(3)) / (1 + 1 / 2 / math.log2(3))
    torch.testing.assert_close(ndcg_metric(scores, labels), torch.tensor(want, dtype=dtype))


def test_small_labels_do_not_cancel():
    labels = torch.tensor([1e-12, 3e-12], dtype=torch.float64)
    scores = torch.tensor([2.0, 1.0], dtype=torch.float64)
    want = (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))  # 2^y - 1 is y ln 2 there
    torch.testing.assert_close(ndcg_metric(scores, labels), torch.tensor(want).double())


def test_no_gain_or_a_negative_one_is_undefined():
    labels = torch.tensor([[0.0, 0.0], [1.0, -1.0], [1.0, 0.0]])
    for gain in GAINS:
        got = ndcg_metric(torch.zeros(3, 2), labels, gain=gain)
        assert got.isnan().tolist() == [True, True, False]


def test_candidates_at_minus_infinity_do_not_share_ranks_with_padding():
    inf = math.inf
    scores = torch.tensor([[-inf, 1.0, -inf, -inf]])
    labels = torch.tensor([[9.0, 1.0, 2.0, 9.0]])
    mask = torch.tensor([[False, True, True, False]])
    got = ndcg_metric(scores, labels, gain="linear", mask=mask)
    want = (1 + 2 / math.log2(3)) / (2 + 1 / math.log2(3))
    torch.testing.assert_close(got, torch.tensor([want]))


def test_an_unknown_gain_is_reported():
    with pytest.raises(ConfigError, match=r"no gain called 'expo'.*exponential, linear"):
        ndcg_metric(torch.zeros(2), torch.zeros(2), gain="expo")


def test_any_batch_dimensions_are_accepted():
    g = torch.Generator().manual_seed(0)
    scores, labels = torch.randn(2, 3, 20, generator=g), torch.rand(2, 3, 20, generator=g)
    got = ndcg_metric(scores, labels, k=7)
    assert torch.equal(got[1, 2], ndcg_metric(scores[1, 2], labels[1, 2], k=7))
