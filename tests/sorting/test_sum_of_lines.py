"""Sums of softly sorted values, computed without the matrix, equal those of the matrix."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.sorting._neural_sort import line_blocks
from cascaderank.sorting.functions import sum_sorted
from tests.sorting.test_cross_entropy import Dense, Largest, lists
from tests.sorting.test_streamed import assert_same

STREAMED = ["neural_sort"]


def sums(operator, scores, values, weights, temperature, mask):
    """The sums, and the gradients by scores and the logarithm of the temperature."""
    scores, temperature = scores.clone().requires_grad_(), temperature.clone().requires_grad_()
    found = sum_sorted(
        values, weights, scores, operator=operator, temperature=temperature, mask=mask
    )
    above = torch.linspace(0.5, 1.5, len(found)).to(found)
    by_score, by_temperature = torch.autograd.grad((found * above).sum(), (scores, temperature))
    return found.detach(), by_score, by_temperature * temperature.detach()


def given_to_it(mask, ranks, seed=0):
    """Values that are 0 under the mask, and weights of the first ranks."""
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(mask.shape, generator=g, dtype=torch.float64).masked_fill(~mask, 0.0)
    return values, torch.rand(ranks, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("block", [256, 2**13, 2**20])  # from less than a row to all lists at once
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1.0, 10.0, 1e3, 1e30])
@pytest.mark.parametrize("operator", STREAMED)
def test_blocks_of_any_size_agree_with_the_dense_form(
    operator, temperature, tied, block, monkeypatch
):
    monkeypatch.setitem(line_blocks._BLOCK_BYTES, "cpu", block)
    scores, _, mask = lists(0, 5, 60, tied_scores=tied)
    temperatures = torch.linspace(0.5, 2.0, 5, dtype=torch.float64) * temperature * 60
    values, weights = given_to_it(mask, 60)
    want = sums(Dense(operator), scores, values, weights, temperatures, mask)
    assert want[0].any()
    assert_same(sums(operator, scores, values, weights, temperatures, mask), want, 1e-10)


@pytest.mark.parametrize("operator", STREAMED)
@given(
    seed=st.integers(0, 2**31),
    number=st.integers(1, 4),
    length=st.integers(1, 40),
    ranks=st.integers(1, 40),
    temperature=st.floats(-3, 3).map(lambda x: 10**x),
    tied=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_agrees_with_the_dense_form(operator, seed, number, length, ranks, temperature, tied):
    scores, _, mask = lists(seed, number, length, tied_scores=tied)
    temperatures = torch.linspace(0.5, 2.0, number, dtype=torch.float64) * temperature
    values, weights = given_to_it(mask, min(ranks, length), seed)
    want = sums(Dense(operator), scores, values, weights, temperatures, mask)
    # Logits go up to 1e6, and the gradient by the temperature cancels to next to nothing.
    assert_same(sums(operator, scores, values, weights, temperatures, mask), want, 1e-9)


@pytest.mark.parametrize("temperature", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("length", [40, 400])
@pytest.mark.parametrize("operator", STREAMED)
def test_float32_is_as_good_as_that_of_the_dense_form(operator, length, temperature):
    scores, _, mask = lists(1, 6, length, ragged=False)
    temperatures = torch.full((6,), temperature, dtype=torch.float64)
    values, weights = given_to_it(mask, length)
    want = sums(Dense(operator), scores, values, weights, temperatures, mask)
    narrow = [x.float() for x in (scores, values, weights, temperatures)]
    got, dense = (sums(how, *narrow, mask) for how in (operator, Dense(operator)))
    for one, other, exact in zip(got, dense, want, strict=True):
        assert one.dtype is torch.float32
        error, usual = (one - exact).abs().max(), (other - exact).abs().max()
        assert error <= 2 * usual + 1e-6 * exact.abs().max()


@pytest.mark.parametrize("temperature", [0.5, 3000.0])
@pytest.mark.parametrize("operator", STREAMED)
def test_no_tensor_is_larger_than_a_few_rows(operator, temperature, monkeypatch):
    monkeypatch.setitem(line_blocks._BLOCK_BYTES, "cpu", 2**16)
    n = 3000
    scores, _, mask = lists(0, 1, n, ragged=False)
    narrow = [x.float() for x in (scores, *given_to_it(mask, n))]
    with Largest() as largest:
        found = sums(operator, *narrow, torch.full((1,), temperature), mask)
    assert n <= largest.size <= 20 * n
    assert found[1].isfinite().all()
    assert found[1].any()


@pytest.mark.parametrize("operator", STREAMED)
def test_mixed_precision_around_it_changes_nothing(operator):
    scores, _, mask = lists(0, 4, 30)
    narrow = [x.float() for x in (scores, *given_to_it(mask, 30))]
    want = sums(operator, *narrow, torch.full((4,), 5.0), mask)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = sums(operator, *narrow, torch.full((4,), 5.0), mask)
    assert_same(got, want, 0.0)
