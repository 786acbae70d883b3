"""The cross-entropy of target ranks, computed without the matrix, equals that of the matrix."""

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from cascaderank.sorting import PermutationOperator, find_operator
from cascaderank.sorting._neural_sort import line_blocks
from cascaderank.sorting.functions import cross_entropy_of_ranks
from cascaderank.sorting.operator import Ranks
from tests.sorting.test_streamed import assert_same

STREAMED = ["neural_sort", "soft_sort"]


class Dense(PermutationOperator):
    """The formula, with every row of the permutation in memory."""

    def __init__(self, name):
        self.operator = find_operator(name)

    def log_permutation(self, scores, *, temperature, mask):
        return self.operator.log_permutation(scores, temperature=temperature, mask=mask)

    def log_top_k(self, scores, k, *, temperature, mask):
        raise NotImplementedError

    def temperature_scale(self, scores, *, mask):
        raise NotImplementedError


def lists(seed, number, length, *, tied_scores=False, tied_ranks=False, ragged=True):
    """Scores, target ranks and a mask; some lists may be empty."""
    g = torch.Generator().manual_seed(seed)
    scores = torch.randn(number, length, generator=g, dtype=torch.float64)
    scores = (scores * 2).round() / 2 if tied_scores else scores
    labels = torch.randn(number, length, generator=g)
    labels = labels.round() if tied_ranks else labels
    share = torch.rand(number, 1, generator=g) * 1.3
    mask = torch.rand(number, length, generator=g) < (share if ragged else 2.0)
    better = (labels[:, None, :] > labels[:, :, None]) & mask[:, None, :]
    as_good = (labels[:, None, :] >= labels[:, :, None]) & mask[:, None, :]
    return scores, Ranks(better.sum(-1), as_good.sum(-1)), mask


def cost_and_gradients(operator, scores, ranks, temperature, mask):
    """Cost and column sums, and the gradients with respect to scores and temperatures."""
    scores, temperature = scores.clone().requires_grad_(), temperature.clone().requires_grad_()
    cost, totals = cross_entropy_of_ranks(
        scores, ranks, operator=operator, temperature=temperature, mask=mask
    )
    assert not totals.requires_grad
    above = torch.linspace(0.5, 1.5, len(cost)).to(cost)
    gradients = torch.autograd.grad((cost * above).sum(), (scores, temperature))
    return cost.detach(), totals[mask], *gradients


@pytest.fixture(params=[256, 2**13, 2**20])
def blocks(request, monkeypatch):
    """From less than a row to all lists at once."""
    monkeypatch.setitem(line_blocks._BLOCK_BYTES, "cpu", request.param)


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("tied_scores", [False, True])
@pytest.mark.parametrize("tied_ranks", [False, True])
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 1.0, 10.0, 1e3, 1e30])
@pytest.mark.parametrize("operator", STREAMED)
def test_blocks_of_any_size_agree_with_the_dense_form(
    operator, temperature, tied_scores, tied_ranks
):
    scores, ranks, mask = lists(0, 5, 60, tied_scores=tied_scores, tied_ranks=tied_ranks)
    temperatures = torch.linspace(0.5, 2.0, 5, dtype=torch.float64) * temperature * 60
    want = cost_and_gradients(Dense(operator), scores, ranks, temperatures, mask)
    assert want[0].any()
    assert_same(cost_and_gradients(operator, scores, ranks, temperatures, mask), want, 1e-12)


@pytest.mark.parametrize("operator", STREAMED)
@given(
    seed=st.integers(0, 2**31),
    number=st.integers(1, 4),
    length=st.integers(1, 40),
    temperature=st.floats(-3, 3).map(lambda x: 10**x),
    tied_scores=st.booleans(),
    tied_ranks=st.booleans(),
)
@example(seed=0, number=2, length=200, temperature=1e3, tied_scores=True, tied_ranks=True)
@example(seed=0, number=2, length=1000, temperature=1e2, tied_scores=False, tied_ranks=True)
@example(seed=0, number=2, length=1000, temperature=1e4, tied_scores=False, tied_ranks=False)
@settings(max_examples=100, deadline=None)
def test_agrees_with_the_dense_form(
    operator, seed, number, length, temperature, tied_scores, tied_ranks
):
    scores, ranks, mask = lists(
        seed, number, length, tied_scores=tied_scores, tied_ranks=tied_ranks
    )
    temperatures = torch.linspace(0.5, 2.0, number, dtype=torch.float64) * temperature
    want = cost_and_gradients(Dense(operator), scores, ranks, temperatures, mask)
    assert_same(cost_and_gradients(operator, scores, ranks, temperatures, mask), want, 1e-11)


@pytest.mark.parametrize("temperature", [1.0, 30.0, 1000.0])
@pytest.mark.parametrize("length", [40, 400])
@pytest.mark.parametrize("operator", STREAMED)
def test_float32_is_as_good_as_that_of_the_dense_form(operator, length, temperature):
    scores, ranks, mask = lists(1, 6, length, ragged=False, tied_ranks=True)
    temperatures = torch.full((6,), temperature, dtype=torch.float64)
    want = cost_and_gradients(Dense(operator), scores, ranks, temperatures, mask)
    narrow = (scores.float(), ranks, temperatures.float(), mask)
    got, dense = cost_and_gradients(operator, *narrow), cost_and_gradients(Dense(operator), *narrow)
    for one, other, exact in zip(got, dense, want, strict=True):
        assert one.dtype is torch.float32
        error, usual = (one - exact).abs().max(), (other - exact).abs().max()
        assert error <= 3 * usual + 2e-6 * exact.abs().max()


@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 0.1, 10.0, 1e6])
@pytest.mark.parametrize("tied_scores", [False, True])
@pytest.mark.parametrize("length", [40, 1000])
def test_float32_is_exact_where_scores_are_scaled_already(length, tied_scores, temperature):
    scores, ranks, mask = lists(2, 3, length, ragged=False, tied_ranks=True)
    scores = (scores / 4).clamp(-0.9, 0.9).float()
    scores = (scores * 8).round() / 8 if tied_scores else scores
    scores[:, 3], scores[:, 7] = 1.0, -1.0
    temperatures = torch.full((3,), temperature)
    want = cost_and_gradients(
        Dense("soft_sort"), scores.double(), ranks, temperatures.double(), mask
    )
    got = cost_and_gradients("soft_sort", scores, ranks, temperatures, mask)
    for one, exact in zip(got, want, strict=True):
        assert one.dtype is torch.float32
        assert (one - exact).abs().max() <= 1e-6 * exact.abs().max()


@pytest.mark.parametrize("temperature", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("operator", STREAMED)
def test_equal_scores_one_candidate_and_none_are_as_in_the_dense_form(operator, temperature):
    scores, _, mask = lists(3, 4, 9)
    scores[0], mask[0] = 0.3, True
    mask[1], mask[1, 4] = False, True
    mask[2] = False
    labels = torch.linspace(0, 1, 9).expand(4, 9)
    better = (labels[:, None, :] > labels[:, :, None]) & mask[:, None, :]
    ranks = Ranks(better.sum(-1), better.sum(-1) + 1)
    temperatures = torch.full((4,), temperature, dtype=torch.float64)
    want = cost_and_gradients(Dense(operator), scores, ranks, temperatures, mask)
    got = cost_and_gradients(operator, scores, ranks, temperatures, mask)
    assert_same(got, want, 1e-10)
    assert got[0][1:3].tolist() == [0, 0]
    assert not got[2][1:3].any()


@pytest.mark.parametrize("operator", STREAMED)
def test_the_order_of_the_list_does_not_matter_to_ties(operator):
    scores, ranks, mask = lists(4, 3, 30, tied_scores=True, tied_ranks=True)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    turned = Ranks(*(x[:, order] for x in ranks))
    temperatures = torch.full((3,), 0.4, dtype=torch.float64)
    cost, _, of_scores, _ = cost_and_gradients(operator, scores, ranks, temperatures, mask)
    got = cost_and_gradients(operator, scores[:, order], turned, temperatures, mask[:, order])
    torch.testing.assert_close(got[0], cost)
    torch.testing.assert_close(got[2], of_scores[:, order])


@pytest.mark.parametrize("operator", STREAMED)
def test_it_is_differentiable_once(operator):
    scores = torch.randn(1, 5, requires_grad=True)
    places = torch.arange(5)[None]
    ranks = Ranks(places, places + 1)
    cost, _ = cross_entropy_of_ranks(scores, ranks, operator=operator, temperature=1.0, mask=None)
    (of_scores,) = torch.autograd.grad(cost.square().sum(), scores, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        of_scores.sum().backward()


@pytest.mark.parametrize("operator", STREAMED)
def test_at_low_temperatures_candidates_in_order_cost_nothing_and_ties_their_entropy(operator):
    scores = torch.tensor([[0.7, 0.1, 0.1, -0.3, -0.3, -0.3]])
    ranks = Ranks(torch.tensor([[0, 1, 1, 3, 4, 5]]), torch.tensor([[1, 3, 3, 4, 5, 6]]))
    cost, _ = cross_entropy_of_ranks(scores, ranks, operator=operator, temperature=1e-6, mask=None)
    want = 2 * torch.tensor(2.0).log() + 3 * torch.tensor(3.0).log()
    torch.testing.assert_close(cost, want[None])


class Largest(TorchDispatchMode):
    """Records the size of the largest tensor that any operation returns."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, tuple | list) else (out,):
            if isinstance(one, torch.Tensor):
                self.size = max(self.size, one.numel())
        return out


@pytest.mark.parametrize("temperature", [0.5, 3000.0])
@pytest.mark.parametrize("operator", STREAMED)
def test_no_tensor_is_larger_than_a_few_rows(operator, temperature, monkeypatch):
    monkeypatch.setitem(line_blocks._BLOCK_BYTES, "cpu", 2**16)
    n = 3000
    scores, ranks, mask = lists(0, 1, n, ragged=False)
    with Largest() as largest:
        found = cost_and_gradients(
            operator, scores.float(), ranks, torch.full((1,), temperature), mask
        )
    assert n <= largest.size <= 20 * n
    assert found[2].isfinite().all()
    assert found[2].any()


def test_a_very_long_list_takes_memory_of_its_length():
    n = 100_000
    scores = torch.randn(1, n, generator=torch.Generator().manual_seed(0))
    places = torch.arange(n)[None]
    ranks, mask = Ranks(places, places + 1), torch.ones(1, n, dtype=torch.bool)
    with Largest() as largest:
        found = cost_and_gradients("soft_sort", scores, ranks, torch.full((1,), 0.5), mask)
    assert largest.size < 10 * n
    for one in found:
        assert one.isfinite().all()
        assert one.any()


@pytest.mark.parametrize("operator", STREAMED)
def test_mixed_precision_around_it_changes_nothing(operator):
    scores, ranks, mask = lists(0, 4, 30)
    case = (scores.float(), ranks, torch.full((4,), 5.0), mask)
    want = cost_and_gradients(operator, *case)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = cost_and_gradients(operator, *case)
    assert_same(got, want, 0.0)
