"""Sums over the hidden units of pairs, against a tensor of all of them."""

import pytest
import torch

from cascaderank.layers.sums import relu_of_sums


def make_input(*, n=4, m=6, units=5, dtype=torch.float64, seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = (3, n, units), (3, m, units), (units,)
    return [torch.randn(*s, generator=g, dtype=dtype).requires_grad_() for s in shapes]


def by_holding(left, right, weights):
    return (left.unsqueeze(-2) + right.unsqueeze(-3)).relu() @ weights


def outcome(function, inputs):
    sums = function(*inputs)
    slope = torch.randn(sums.shape, generator=torch.Generator().manual_seed(9), dtype=sums.dtype)
    return sums, torch.autograd.grad((sums * slope).sum(), inputs)


@pytest.mark.parametrize("size", [{}, {"n": 1}, {"m": 1}, {"units": 1}, {"units": 83}, {"n": 40}])
def test_sums_and_gradients_are_those_of_holding_the_units(size):
    inputs = make_input(**size)
    (ours, of_ours), (held, of_held) = (outcome(f, inputs) for f in (relu_of_sums, by_holding))
    torch.testing.assert_close(ours, held, rtol=1e-12, atol=1e-12)
    for x, y in zip(of_ours, of_held, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-12, atol=1e-12)


def test_float32_is_as_close_to_the_truth_as_holding_the_units():
    inputs = make_input(n=40, m=50, units=80)
    truth = by_holding(*inputs)
    scale = truth.abs().max()
    for function in (relu_of_sums, by_holding):
        error = (function(*(x.float() for x in inputs)) - truth).abs().max()
        assert error < 5e-7 * scale


@pytest.mark.parametrize("weights", [(1.0, 2.0), (-1.0, -2.0), (0.0, 0.0), (1.0, 0.0)])
def test_units_of_one_sign_or_of_no_weight(weights):
    left, right, _ = make_input(units=2)
    inputs = left, right, torch.tensor(weights, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(relu_of_sums, inputs)


@pytest.mark.parametrize("size", [{"n": 0}, {"m": 0}, {"units": 0}])
def test_empty_inputs_have_empty_results(size):
    inputs = make_input(**size)
    sums, of = outcome(relu_of_sums, inputs)
    assert torch.equal(sums, by_holding(*inputs))
    assert all(not g.any() for g in of)


def test_transposed_gradients_and_inputs_are_read_as_they_are():
    left, right, weights = make_input(n=6)
    plain = torch.autograd.grad(relu_of_sums(left, right, weights).square().sum(), left)[0]
    strided = left.detach().mT.contiguous().mT.requires_grad_()
    swapped = relu_of_sums(right, strided, weights).mT.contiguous().mT
    of_swapped = torch.autograd.grad(swapped.square().sum(), strided)[0]
    torch.testing.assert_close(of_swapped, plain)


def test_narrow_numbers_are_summed_in_float32():
    inputs = [x.detach().to(torch.bfloat16) for x in make_input()]
    assert relu_of_sums(*inputs).dtype is torch.float32


def test_autocast_narrows_neither_sums_nor_gradients():
    inputs = [x.detach().float().requires_grad_() for x in make_input()]
    sums, of = outcome(relu_of_sums, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        cast, of_cast = outcome(relu_of_sums, inputs)
    assert torch.equal(cast, sums)
    for x, y in zip(of_cast, of, strict=True):
        assert torch.equal(x, y)
