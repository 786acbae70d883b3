"""NeuralSort's top k, computed without the matrix, agrees with the dense form."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cascaderank.sorting import Operator, log_top_k_probability
from cascaderank.sorting._neural_sort import streamed, top_k_of_lines
from cascaderank.sorting.neural_sort import NeuralSort
from cascaderank.sorting.rows import log_top_k_of_rows

STREAMED = NeuralSort()


class Dense(Operator):
    """The formula, with every row of the permutation in memory."""

    def log_top_k(self, scores, k, *, temperature, mask):
        rows = STREAMED.log_permutation(scores, temperature=temperature, mask=mask)
        return log_top_k_of_rows(rows, k, mask)

    def temperature_scale(self, scores, *, mask):
        raise NotImplementedError


def logs_and_gradients(operator, scores, k, temperature, mask):
    """Both logarithms, and the gradients with respect to scores and temperatures."""
    scores, temperature = scores.clone().requires_grad_(), temperature.clone().requires_grad_()
    logs = log_top_k_probability(scores, k, operator=operator, temperature=temperature, mask=mask)
    logs = torch.stack([log.masked_fill(log.isneginf(), 0.0) for log in logs])
    g = torch.Generator().manual_seed(1)
    above = torch.randn(logs.shape, generator=g, dtype=torch.float64).to(logs)
    return logs.detach(), *torch.autograd.grad((logs * above).sum(), (scores, temperature))


def assert_same(got, want, tolerance):
    """Check equality up to a tolerance relative to the largest number of each tensor."""
    for one, other in zip(got, want, strict=True):
        scale = other.abs().max().item() if other.numel() else 1.0
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * max(scale, 1.0))


def ragged(seed, lists=5, length=23, ties=False):
    """Lists of any length from 0 on, with padding anywhere, and for each a k from 0 to beyond its length."""
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(lists, length, generator=g, dtype=torch.float64)
    mask = torch.rand(lists, length, generator=g) < torch.rand(lists, 1, generator=g) * 1.2
    mask[0] = False
    k = torch.randint(0, length + 3, (lists,), generator=g) * torch.randint(0, 2, (lists,))
    k[1:3] = mask[1:3].sum(-1).sub(1).clamp(min=1)
    return (scores * 2).round() / 2 if ties else scores, k, mask


@pytest.fixture(params=[256, 2**14, 2**20])
def blocks(request, monkeypatch):
    """From less than a row to all lists at once."""
    monkeypatch.setitem(streamed._BLOCK_BYTES, "cpu", request.param)


@pytest.fixture(params=[top_k_of_lines._SMALL, -1.0])
def small_logits(request, monkeypatch):
    """Use the method of small logits, or that of large ones, as on short lists of a GPU."""
    monkeypatch.setattr(top_k_of_lines, "_SMALL", request.param)


@pytest.mark.usefixtures("blocks", "small_logits")
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("temperature", [1e-2, 0.3, 5.0, 50.0, 1e30])
def test_blocks_of_any_size_agree_with_the_dense_form(temperature, ties):
    scores, k, mask = ragged(0, ties=ties)
    temperature = torch.full((5,), temperature, dtype=torch.float64)
    want = logs_and_gradients(Dense(), scores, k, temperature, mask)
    assert want[1].any()
    assert_same(logs_and_gradients(STREAMED, scores, k, temperature, mask), want, 1e-12)


@given(
    seed=st.integers(0, 2**31),
    lists=st.integers(1, 6),
    length=st.integers(1, 40),
    temperature=st.floats(-2, 3).map(lambda x: 10**x),
    ties=st.booleans(),
)
@example(seed=0, lists=3, length=1, temperature=1.0, ties=False)
@settings(max_examples=150, deadline=None)
def test_agrees_with_the_dense_form(seed, lists, length, temperature, ties):
    scores, k, mask = ragged(seed, lists, length, ties)
    temperatures = torch.linspace(0.5, 2.0, lists, dtype=torch.float64) * temperature
    want = logs_and_gradients(Dense(), scores, k, temperatures, mask)
    assert_same(logs_and_gradients(STREAMED, scores, k, temperatures, mask), want, 1e-11)


@pytest.mark.parametrize("temperature", [1.0, 20.0, 1000.0])
@pytest.mark.parametrize("length", [40, 400])
def test_float32_is_as_good_as_that_of_the_dense_form(length, temperature):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(8, length, generator=g, dtype=torch.float64)
    k, mask = torch.full((8,), length // 4), torch.ones(8, length, dtype=torch.bool)
    temperatures = torch.full((8,), temperature, dtype=torch.float64)
    want = logs_and_gradients(Dense(), scores, k, temperatures, mask)
    got = logs_and_gradients(STREAMED, scores.float(), k, temperatures.float(), mask)
    dense = logs_and_gradients(Dense(), scores.float(), k, temperatures.float(), mask)
    for one, other, exact in zip(got, dense, want, strict=True):
        assert one.dtype is torch.float32
        error, usual = (one - exact).abs().max(), (other - exact).abs().max()
        assert error <= 3 * usual + 1e-6 * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1.0, 1e30])
def test_a_tie_across_the_cut_shares_the_place_at_any_temperature(temperature, dtype):
    scores = torch.tensor([5.0, 1.1, 9.0, 1.1, -3.0, 1.1, 0.3], dtype=dtype)  # places 3, 4 and 5
    kept, dropped = log_top_k_probability(scores, 4, temperature=temperature)
    tied = scores == 1.1
    assert (kept[tied] == kept[1]).all()
    if temperature < 1:
        want = torch.full((3,), 2 / 3, dtype=dtype)
        torch.testing.assert_close(kept[tied].exp(), want)
        torch.testing.assert_close(dropped[tied].exp(), 1 - want)


def test_probabilities_that_underflow_have_a_logarithm_and_a_gradient():
    scores = torch.tensor([[0.0, -300.0, -400.0, -500.0]], dtype=torch.float64)
    case = (torch.tensor([1]), torch.tensor([0.1], dtype=torch.float64), scores > -1e9)
    got, want = (
        logs_and_gradients(STREAMED, scores, *case),
        logs_and_gradients(Dense(), scores, *case),
    )
    assert (want[0] < -1000).any()
    assert_same(got, want, 1e-12)


def test_memory_of_a_long_list_is_that_of_a_few_rows():
    n, sizes = 20_000, []
    scores = torch.randn(n, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        log_kept, log_dropped = log_top_k_probability(scores, 100, temperature=float(n))
    (log_kept[:100].sum() + log_dropped[100:].sum()).backward()
    assert sizes
    assert sum(sizes) < 60 * n
    assert scores.grad.isfinite().all()
    assert scores.grad.any()


def test_mixed_precision_around_it_changes_nothing():
    scores, k, mask = ragged(0)
    case = (k, torch.full((5,), 5.0), mask)
    want = logs_and_gradients(STREAMED, scores.float(), *case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = logs_and_gradients(STREAMED, scores.float(), *case)
    assert_same(got, want, 0.0)
