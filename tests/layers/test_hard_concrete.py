"""Hard concrete gates against their formulas."""

from math import exp, log

import pytest
import torch

from cascaderank.errors import ConfigError
from cascaderank.layers.hard_concrete import HardConcrete

DRAWS = 200_000


def sigmoid(x):
    return 1 / (1 + exp(-x))


def gates_of(*log_alphas, **options):
    gates = HardConcrete(len(log_alphas), **options)
    with torch.no_grad():
        gates.log_alpha.copy_(torch.tensor(log_alphas))
    return gates


@pytest.mark.parametrize(
    "options",
    [{}, {"beta": 0.5, "gamma": -0.5, "zeta": 1.5}, {"beta": 0.9, "gamma": -1, "zeta": 2}],
)
@pytest.mark.parametrize("log_alpha", [-2.0, 0.0, 0.7, 2.0])
def test_gates_are_nonzero_with_the_stated_probability(log_alpha, options):
    torch.manual_seed(0)
    beta, gamma, zeta = ({"beta": 2 / 3, "gamma": -0.1, "zeta": 1.1} | options).values()
    gates = gates_of(*[log_alpha] * DRAWS, **options)
    drawn = gates.train()()
    chance = sigmoid(log_alpha - beta * log(-gamma / zeta))
    assert gates.open_probability()[0].item() == pytest.approx(chance, rel=1e-5)
    assert (drawn != 0).double().mean().item() == pytest.approx(
        chance, abs=4 * (0.25 / DRAWS) ** 0.5
    )
    assert ((drawn >= 0) & (drawn <= 1)).all()
    # By symmetry of the noise: it is 1 when the stretched value is above 1.
    ones = sigmoid(log_alpha - beta * log((1 - gamma) / (zeta - 1)))
    assert (drawn == 1).double().mean().item() == pytest.approx(ones, abs=4 * (0.25 / DRAWS) ** 0.5)


def test_gates_in_evaluation_mode_are_the_formula_and_deterministic():
    alphas = [-5.0, -1.0, 0.0, 1.0, 5.0]
    gates = gates_of(*alphas).eval()
    want = [min(1.0, max(0.0, sigmoid(a) * 1.2 - 0.1)) for a in alphas]
    assert gates().tolist() == pytest.approx(want, abs=1e-6)
    assert torch.equal(gates(), gates())
    assert gates()[0] == 0
    assert gates()[-1] == 1


def test_training_samples_new_gates_and_equal_seeds_equal_ones():
    gates = gates_of(*[0.0] * 50)
    torch.manual_seed(3)
    first, second = gates(), gates()
    torch.manual_seed(3)
    assert not torch.equal(first, second)
    assert torch.equal(gates(), first)


def test_the_gradient_of_the_expected_l0_is_that_of_the_formula():
    gates = gates_of(-1.0, 0.5)
    gates.open_probability().sum().backward()
    for alpha, got in zip((-1.0, 0.5), gates.log_alpha.grad.tolist(), strict=True):
        p = sigmoid(alpha - 2 / 3 * log(0.1 / 1.1))
        assert got == pytest.approx(p * (1 - p), rel=1e-5)


def test_the_penalty_alone_closes_a_gate_for_good():
    gates = gates_of(1.0)
    optimizer = torch.optim.Adam(gates.parameters(), lr=0.2)
    for _ in range(60):
        optimizer.zero_grad()
        gates.open_probability().sum().backward()
        optimizer.step()
    assert gates.eval()().item() == 0


def test_extreme_noise_gives_no_nan(monkeypatch):
    gates = gates_of(0.0, 0.0)
    monkeypatch.setattr(torch, "rand_like", lambda t: torch.tensor([0.0, 1 - 2**-24]))
    drawn = gates()
    drawn.sum().backward()
    assert drawn.tolist() == [0.0, 1.0]
    assert gates.log_alpha.grad.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gamma": 0.0}, "gamma must be below 0, or no gate is ever exactly 0"),
        ({"gamma": 0.1}, "an L0 penalty has no effect; got 0.1"),
        ({"zeta": 1.0}, "zeta must be above 1, or no gate is ever exactly 1"),
        ({"beta": 0.0}, "beta must be a positive number"),
        ({"gamma": float("nan")}, "gamma must be below 0"),
    ],
)
def test_numbers_that_make_it_useless_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        HardConcrete(2, **options)
