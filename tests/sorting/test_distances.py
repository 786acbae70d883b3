"""Sums of distances, found by sorting, are those of all pairs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.sorting._distances import sums_of_distances


def by_pairs(scores, count):
    real = torch.arange(scores.shape[-1]) < count
    distances = (scores[..., :, None] - scores[..., None, :]).abs()
    return (distances * real[..., None, :]).sum(-1) * real


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
    above = torch.randn(scores.shape, generator=torch.Generator().manual_seed(1)).double()
    found = []
    for function in (sums_of_distances, by_pairs):
        leaf = scores.clone().requires_grad_()
        value = function(leaf, count)
        found.append((value.detach(), *torch.autograd.grad((value * above).sum(), leaf)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-12, atol=1e-12)


def test_the_gradient_is_the_derivative():
    scores, count = case(0, ties=False)
    real = torch.arange(9) < count
    torch.autograd.gradcheck(lambda s: sums_of_distances(s * real, count), scores.requires_grad_())


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3])
def test_equal_scores_get_equal_sums_to_the_bit(value):
    scores = torch.tensor([9.7, 3.1] + [value] * 30 + [-8.9] * 3)
    sums = sums_of_distances(scores, torch.tensor([35]))
    assert (sums[2:32] == sums[2]).all()
    assert (sums[32:] == sums[32]).all()
