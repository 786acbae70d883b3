"""The threshold operators against plain Python, and the gradient through the threshold."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.sorting import log_top_k_probability, top_k_probability
from cascaderank.sorting.gate import log_gate
from tests.oracles.thresholds import gate, laplace, logistic, threshold

SOLVED = {"sigmoid": logistic, "lap_sum": laplace}
"""Operators whose probabilities add up to k, and their distribution."""


@st.composite
def lists(draw):
    n = draw(st.integers(2, 10))
    spaced = st.integers(-8, 8).map(lambda x: x / 4)  # ties on purpose
    return draw(st.lists(spaced, min_size=n, max_size=n)), draw(st.integers(1, n - 1))


def random_lists(lists=20, length=30, *, dtype=torch.float64, tied=False):
    g = torch.Generator().manual_seed(0)
    scores = torch.randn(lists, length, generator=g, dtype=torch.float64).to(dtype)
    k = torch.randint(1, length, (lists,), generator=g)
    return (scores.round() if tied else scores), k


@pytest.mark.parametrize("operator", ["threshold", *SOLVED])
@given(case=lists(), temperature=st.sampled_from([0.02, 0.5, 50.0]))
@settings(max_examples=40, deadline=None)
def test_agrees_with_plain_python(operator, case, temperature):
    scores, k = case
    logs = log_top_k_probability(
        torch.tensor(scores, dtype=torch.float64), k, operator=operator, temperature=temperature
    )
    if operator == "threshold":
        want = threshold(scores, k, temperature)
    else:
        want = gate(SOLVED[operator], scores, [1] * len(scores), k, temperature)
    torch.testing.assert_close(
        torch.stack(logs, -1), torch.tensor(want, dtype=torch.float64), rtol=1e-9, atol=1e-12
    )


@pytest.mark.parametrize("operator", list(SOLVED))
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize("temperature", [1e-30, 1e-6, 1e-2, 1.0, 1e6])
@pytest.mark.parametrize("tied", [False, True])
def test_the_probabilities_add_up_to_k(operator, dtype, tolerance, temperature, tied):
    scores, k = random_lists(length=300, dtype=dtype, tied=tied)
    kept = top_k_probability(scores, k, operator=operator, temperature=temperature)
    torch.testing.assert_close(kept.double().sum(-1), k.double(), rtol=tolerance, atol=0)


@pytest.mark.parametrize("operator", list(SOLVED))
@pytest.mark.parametrize("temperature", [1e-30, 1e-3])
def test_a_tie_across_the_cut_shares_the_place(operator, temperature):
    scores = torch.tensor([5.0, 1.1, 9.0, 1.1, -3.0, 1.1, 0.3])  # places 3, 4 and 5
    kept = top_k_probability(scores, 4, operator=operator, temperature=temperature)
    torch.testing.assert_close(kept, torch.tensor([1, 2 / 3, 1, 2 / 3, 0, 2 / 3, 0]))


@pytest.mark.parametrize("operator", ["threshold", *SOLVED])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 50.0])
def test_the_gradient_is_the_derivative(operator, temperature):
    scores, k = random_lists(3, 7)
    mask = torch.arange(7) < torch.tensor([[7], [6], [5]])
    temperatures = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64) * temperature

    def logs(scores, temperatures):
        given = {"operator": operator, "temperature": temperatures, "mask": mask}
        both = log_top_k_probability(scores, k.clamp(max=4), **given)
        return torch.stack(both)[:, mask]

    torch.autograd.gradcheck(logs, (scores.requires_grad_(), temperatures.requires_grad_()))


def test_the_gradient_of_the_midpoint_reaches_the_two_scores_at_the_cut():
    scores = torch.tensor([4.0, 1.0, 3.0, 0.0], dtype=torch.float64, requires_grad=True)
    kept = top_k_probability(scores, 2, operator="threshold")
    (slope,) = torch.autograd.grad(kept[0], scores)  # the cut is between 3 and 1
    of_logit = kept[0].item() * (1 - kept[0].item())
    torch.testing.assert_close(slope, of_logit * torch.tensor([1, -0.5, -0.5, 0]).double())


@st.composite
def alive(draw):
    """Scores, masses that some gate has let through, and a quota clearly less."""
    scores, _ = draw(lists().filter(lambda case: len(case[0]) > 2))
    masses = draw(
        st.lists(st.integers(1, 8), min_size=len(scores), max_size=len(scores)).filter(
            lambda m: sum(m) > 12
        )
    )
    return scores, [m / 8 for m in masses], draw(st.integers(1, max(1, sum(masses) // 8 - 1)))


@given(case=alive(), temperature=st.sampled_from([0.02, 0.5, 50.0]))
@settings(max_examples=40, deadline=None)
def test_a_gate_of_masses_agrees_with_plain_python(case, temperature):
    scores, masses, quota = case
    got = through(torch.tensor(scores).double(), torch.tensor(masses), quota, temperature)
    want = gate(logistic, scores, masses, quota, temperature)
    torch.testing.assert_close(
        torch.stack(got, -1), torch.tensor(want, dtype=torch.float64), rtol=1e-9, atol=1e-11
    )


def through(scores, masses, quota, temperature):
    return log_gate(
        scores,
        masses.to(scores).log(),
        torch.tensor(quota),
        temperature=scores.new_tensor(temperature),
        mask=torch.ones_like(scores, dtype=torch.bool),
    )


@pytest.mark.parametrize("temperature", [0.05, 1.0, 50.0])
def test_the_gradient_of_a_gate_is_the_derivative_by_scores_and_masses(temperature):
    g = torch.Generator().manual_seed(2)
    scores = torch.randn(8, generator=g, dtype=torch.float64, requires_grad=True)
    masses = torch.rand(8, generator=g, dtype=torch.float64).requires_grad_()

    def logs(scores, masses):
        return torch.stack(through(scores, masses, 2, temperature))

    torch.autograd.gradcheck(logs, (scores, masses))


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1.0])
@pytest.mark.parametrize("length", [10, 1000])
def test_a_gate_lets_its_quota_through_at_any_temperature(temperature, length):
    g = torch.Generator().manual_seed(2)
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-13)):
        scores = torch.randn(length, generator=g, dtype=torch.float64).to(dtype)
        masses = (
            torch.rand(length, generator=g, dtype=torch.float64).pow(20).clamp(min=1e-30).to(dtype)
        )
        masses[:6] = 1.0
        log_pass, _ = through(scores, masses, 4, temperature)
        passed = (masses * log_pass.exp()).double().sum().item()
        assert passed == pytest.approx(4, rel=tolerance)
