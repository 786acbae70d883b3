"""Sorting shares the gradient of equal values evenly."""

import pytest
import torch

from cascaderank.sorting.order import sort_best_first, sorted_values


def gradient_of(scores, weights):
    scores = torch.tensor(scores, requires_grad=True)
    (sorted_values(scores) * torch.tensor(weights)).sum().backward()
    return scores.grad.tolist()


def test_distinct_values_get_the_gradient_of_their_place():
    assert gradient_of([1.0, 3.0, 2.0], [10.0, 20.0, 30.0]) == [30.0, 10.0, 20.0]


def test_equal_values_share_the_gradient_of_their_places():
    assert gradient_of([2.0, 1.0, 2.0, 2.0], [1.0, 2.0, 6.0, 7.0]) == [3.0, 7.0, 3.0, 3.0]


def test_the_values_are_those_of_a_plain_sort_to_the_bit():
    g = torch.Generator().manual_seed(0)
    scores = torch.randint(-9, 9, (50, 40), generator=g).float() / 7
    want = scores.sort(dim=-1, descending=True).values
    assert torch.equal(sorted_values(scores), want)


def test_lists_do_not_share_with_each_other():
    scores = torch.ones(2, 2, requires_grad=True)
    (sorted_values(scores) * torch.tensor([[1.0, 3.0], [10.0, 30.0]])).sum().backward()
    assert scores.grad.tolist() == [[2.0, 2.0], [20.0, 20.0]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_zero_and_negative_zero_tie(dtype):
    scores = torch.tensor([-0.0, 0.0, 1.0, -0.0], dtype=dtype)
    assert sort_best_first(scores)[1].tolist() == [2, 0, 1, 3]


@pytest.mark.parametrize("exact", [True, False])
def test_float64_is_sorted_as_by_torch_whether_float32_represents_it_or_not(exact):
    scores = torch.randn(30, 50, generator=torch.Generator().manual_seed(0))
    scores = scores.mul(4).round().div(3).double()  # with ties
    scores[:, ::7], scores[:, 1::7] = -torch.inf, torch.inf
    if not exact:
        scores[0, 0] = scores[0, 2] + 1e-12
        scores[1, 0] = 1e300  # infinite as a float32
    want = scores.sort(dim=-1, descending=True, stable=True)
    best_first, order = sort_best_first(scores)
    assert torch.equal(best_first, want.values)
    assert torch.equal(order, want.indices)
