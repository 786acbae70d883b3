"""NeuralSort and SoftSort against plain Python, and by their closed forms."""

from decimal import localcontext
from math import exp

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cascaderank.sorting import log_top_k_probability, permutation, top_k_probability
from tests.oracles.sorting import DIGITS, top_k
from tests.oracles.sorting import rows as plain_rows

SORTS = ["neural_sort", "soft_sort"]


@st.composite
def lists(draw):
    n = draw(st.integers(2, 12))
    spaced = st.integers(-8, 8).map(lambda x: x / 4)  # ties on purpose
    return draw(st.lists(spaced, min_size=n, max_size=n)), draw(st.integers(1, n - 1))


def as_tensor(table):
    return torch.tensor([[float(x) for x in row] for row in table], dtype=torch.float64)


@pytest.mark.parametrize("operator", SORTS)
@given(case=lists(), temperature=st.sampled_from([0.5, 5.0, 50.0]))
@settings(max_examples=30, deadline=None)
def test_agrees_with_plain_python(operator, case, temperature):
    scores, k = case
    tensor = torch.tensor(scores, dtype=torch.float64)
    rows = permutation(tensor, operator=operator, temperature=temperature)
    want = as_tensor(plain_rows(operator, scores, temperature))
    torch.testing.assert_close(rows, want, rtol=1e-9, atol=1e-12)
    kept = top_k_probability(tensor, k, operator=operator, temperature=temperature)
    with localcontext() as context:
        context.prec = DIGITS
        want = as_tensor([top_k(operator, scores, k, temperature)])[0]
    torch.testing.assert_close(kept, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("operator", SORTS)
@pytest.mark.parametrize("temperature", [0.3, 1.0, 50.0])
def test_the_gradient_of_the_permutation_is_its_derivative(operator, temperature):
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(2, 7, generator=g, dtype=torch.float64, requires_grad=True)
    mask = torch.arange(7) < torch.tensor([[7], [4]])

    def rows(scores):
        return permutation(scores, operator=operator, temperature=temperature, mask=mask)

    torch.autograd.gradcheck(rows, scores)


@pytest.mark.parametrize("operator", SORTS)
def test_the_temperature_may_be_learned(operator):
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(2, 7, generator=g, dtype=torch.float64)
    temperature = torch.tensor([0.5, 3.0], dtype=torch.float64, requires_grad=True)

    def rows(temperature):
        return permutation(scores, operator=operator, temperature=temperature)

    torch.autograd.gradcheck(rows, temperature)


@pytest.mark.parametrize("operator", SORTS)
def test_kept_and_dropped_are_learned_through_their_own_rows(operator):
    """The sums of columns are constants to the gradient, so the two derivatives differ."""
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(6, generator=g, dtype=torch.float64, requires_grad=True)
    k, j = 2, 4
    rows = permutation(scores, operator=operator)
    total = rows[:, j].sum().detach()
    logs = log_top_k_probability(scores, k, operator=operator)
    for log, own in zip(logs, (rows[:k], rows[k:]), strict=True):
        want = torch.autograd.grad((own[:, j].sum() / total).log(), scores, retain_graph=True)
        got = torch.autograd.grad(log[j], scores, retain_graph=True)
        torch.testing.assert_close(got, want)


def test_neural_sort_of_two_candidates_is_a_logistic_choice():
    likely = 1 / (1 + exp(-(4.0 - 1.0) / 0.5))
    rows = permutation(torch.tensor([4.0, 1.0]), operator="neural_sort", temperature=0.5)
    torch.testing.assert_close(rows, torch.tensor([[likely, 1 - likely], [1 - likely, likely]]))


def test_the_gradient_in_log_space_is_bounded_where_that_of_the_probability_vanishes():
    scores = torch.tensor([0.0, 40.0, 50.0, 60.0], requires_grad=True)
    log_kept, _ = log_top_k_probability(scores, 1, temperature=1.0)
    assert log_kept[0] < -100
    log_kept[0].backward()
    assert 1 <= scores.grad[0] <= 2 * (len(scores) - 1)  # the steepest a logit gets
    scores.grad = None
    top_k_probability(scores, 1, temperature=1.0)[0].backward()
    assert scores.grad[0] < 1e-38
