"""Sums of distances, found by sorting, are those of all pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.sorting._neural_sort.distances import distances_of, gradient_of_distances


def by_pairs(scores, count):
    """The sums less that of the middle score."""
    real = torch.arange(scores.shape[-1]) < count
    distances = (scores[..., :, None] - scores[..., None, :]).abs()
    sums = (distances * real[..., None, :]).sum(-1)
    return (sums - sums.gather(-1, count // 2)) * real


def case(seed, *, ties):
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(4, 9, generator=g, dtype=torch.float64)
    scores = (scores.round() if ties else scores).sort(-1, descending=True).values
    count = torch.tensor([[9], [5], [1], [0]])
    return scores.masked_fill(torch.arange(9) >= count, 0.0), count


@given(seed=st.integers(0, 2**31), ties=st.booleans())
@settings(max_examples=60, deadline=None)
def test_values_and_gradients_are_those_of_all_pairs(seed, ties):
    scores, count = case(seed, ties=ties)
    real = torch.arange(9) < count
    above = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1)).double() * real
    above = (above - above.sum(-1, keepdim=True) / count.clamp(min=1)) * real
    found, tied = distances_of(scores, count, count // 2)
    leaf = scores.clone().requires_grad_()
    want = by_pairs(leaf, count)
    torch.testing.assert_close(found * real, want.detach(), rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad((want * above).sum(), leaf)
    got = gradient_of_distances(above, count, tied) * real
    torch.testing.assert_close(got, gradient, rtol=1e-12, atol=1e-12)


def test_ties_behind_the_real_scores_are_none():
    scores, count = case(0, ties=False)
    assert distances_of(scores, count, count // 2)[1] is None
    scores[0, 1] = scores[0, 0]
    assert distances_of(scores, count, count // 2)[1] is not None


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3])
def test_equal_scores_get_equal_sums_to_the_bit(value):
    scores = torch.tensor([9.7, 3.1] + [value] * 30 + [-8.9] * 3)
    sums, _ = distances_of(scores, torch.tensor([35]), torch.tensor([17]))
    assert (sums[2:32] == sums[2]).all()
    assert (sums[32:] == sums[32]).all()


@pytest.mark.parametrize("middle", [20, 15])
def test_a_distant_score_does_not_affect_the_precision_of_others(middle):
    scores = (
        torch.randn(40, generator=torch.Generator().manual_seed(0)).sort(descending=True).values
    )
    scores[0], scores[-3:] = 1e9, -1e7
    count, middle = torch.tensor([40]), torch.tensor([middle])
    got, _ = distances_of(scores, count, middle)
    want, _ = distances_of(scores.double(), count, middle)
    torch.testing.assert_close(got[1:-3].double(), want[1:-3], rtol=0, atol=1e-5)
