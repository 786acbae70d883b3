"""SoftSort's top k, computed by sums from both ends, agrees with the dense form."""

from time import process_time

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascaderank.sorting import Operator, log_top_k_probability
from cascaderank.sorting._soft_sort.decaying_sums import sums_from_ends, sums_of_others
from cascaderank.sorting.rows import log_top_k_of_rows
from cascaderank.sorting.soft_sort import SoftSort
from tests.sorting.test_streamed import assert_same, logs_and_gradients, ragged

SCANNED = SoftSort()


class Dense(Operator):
    """The formula, with every row of the permutation in memory."""

    def log_top_k(self, scores, k, *, temperature, mask):
        rows = SCANNED.log_permutation(scores, temperature=temperature, mask=mask)
        return log_top_k_of_rows(rows, k, mask)

    def temperature_scale(self, scores, *, mask):
        raise NotImplementedError


@pytest.mark.parametrize("length", [1, 2, 31, 64, 65, 96, 97, 2100])
def test_sums_are_those_of_a_loop(length):
    g = torch.Generator().manual_seed(0)
    decay = torch.rand(3, length, generator=g, dtype=torch.float64)
    terms = torch.randn(3, length, generator=g, dtype=torch.float64)
    left, right = terms.clone(), terms.clone()
    for i in range(1, length):
        left[:, i] += decay[:, i] * left[:, i - 1]
        right[:, -1 - i] += decay[:, -i] * right[:, -i]
    got = sums_from_ends(decay, terms)
    torch.testing.assert_close(got, (left, right))
    others = sums_of_others(decay, terms)
    torch.testing.assert_close(others, (left - terms, right - terms))


@given(
    seed=st.integers(0, 2**31),
    lists=st.integers(1, 6),
    length=st.sampled_from([1, 2, 3, 5, 12, 40, 70, 130]),
    temperature=st.floats(-3, 4).map(lambda x: 10**x),
    ties=st.booleans(),
)
@example(seed=0, lists=3, length=1, temperature=1.0, ties=False)
@settings(max_examples=200, deadline=None)
def test_agrees_with_the_dense_form(seed, lists, length, temperature, ties):
    scores, k, mask = ragged(seed, lists, length, ties)
    temperatures = torch.linspace(0.5, 2.0, lists, dtype=torch.float64) * temperature
    want = logs_and_gradients(Dense(), scores, k, temperatures, mask)
    assert_same(logs_and_gradients(SCANNED, scores, k, temperatures, mask), want, 1e-10)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 10.0])
@pytest.mark.parametrize("length", [40, 400])
def test_float32_is_as_good_as_that_of_the_dense_form(length, temperature):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(8, length, generator=g, dtype=torch.float64)
    k, mask = torch.full((8,), length // 4), torch.ones(8, length, dtype=torch.bool)
    temperatures = torch.full((8,), temperature, dtype=torch.float64)
    want = logs_and_gradients(Dense(), scores, k, temperatures, mask)
    got = logs_and_gradients(SCANNED, scores.float(), k, temperatures.float(), mask)
    dense = logs_and_gradients(Dense(), scores.float(), k, temperatures.float(), mask)
    for one, other, exact in zip(got, dense, want, strict=True):
        error, usual = (one - exact).abs().max(), (other - exact).abs().max()
        assert error <= 3 * usual + 1e-6 * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1.0, 1e30])
def test_a_tie_across_the_cut_shares_the_place_at_any_temperature(temperature, dtype):
    scores = torch.tensor([5.0, 1.1, 9.0, 1.1, -3.0, 1.1, 0.3], dtype=dtype)  # places 3, 4 and 5
    kept, dropped = log_top_k_probability(scores, 4, operator="soft_sort", temperature=temperature)
    tied = scores == 1.1
    torch.testing.assert_close(kept[tied], kept[1].expand(3))
    if temperature < 1e-2:
        want = torch.full((3,), 2 / 3, dtype=dtype)
        torch.testing.assert_close(kept[tied].exp(), want)
        torch.testing.assert_close(dropped[tied].exp(), 1 - want)


def test_probabilities_that_underflow_have_a_logarithm_and_a_gradient():
    scores = torch.tensor([[0.0, -300.0, -400.0, -500.0]], dtype=torch.float64)
    case = (torch.tensor([1]), torch.tensor([0.1], dtype=torch.float64), scores > -1e9)
    got, want = (
        logs_and_gradients(SCANNED, scores, *case),
        logs_and_gradients(Dense(), scores, *case),
    )
    assert (want[0] < -1000).any()
    assert_same(got, want, 1e-12)


def test_a_very_long_list_takes_memory_and_time_of_its_length():
    n, sizes = 300_000, []
    scores = torch.randn(n, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    start = process_time()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        log_kept, log_dropped = log_top_k_probability(scores, 1000, operator="soft_sort")
    (log_kept[:100].sum() + log_dropped[100:].sum()).backward()
    assert process_time() - start < 30
    assert sum(sizes) < 30 * n
    assert scores.grad.isfinite().all()
    assert scores.grad.any()
